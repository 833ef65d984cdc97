"""What can go wrong with a VHD, as exceptions that carry fields.

    VHDError                    everything below; .path, .errno, .hint
    ├── StorageFailed           the operating system refused an open, read, write or sync
    ├── NoSpace                 device, file system or block table is full
    ├── InvalidImage            the bytes are not a disk this engine may touch
    │   ├── BadFooter           neither footer is whole
    │   ├── BadHeader           the dynamic header is damaged or of an unknown kind
    │   ├── BadBlock            the block table points where no block can be
    │   ├── BadLog              a changed block log is damaged
    │   ├── Truncated           the file ends before something it must hold
    │   └── Poisoned            an interrupted journaled resize owns the disk
    ├── JournalError            the undo journal of a resize cannot be used
    │   ├── JournalExists       there is one already
    │   ├── JournalMismatch     it belongs to another disk
    │   └── JournalDamaged      it is not what was written, or no journal at all
    ├── SizeRefused             a size outside what the disk or the format allows
    ├── OutOfRange              a read or write past the end of the virtual disk
    ├── ReadOnly                a write to a disk opened for reading
    ├── NotSparse               the operation needs a dynamic or differencing disk
    ├── NotEmpty                the operation needs a disk without data
    └── ParentError             the link between a disk and its parent
        ├── ParentMissing       no locator leads to a readable file
        ├── ParentMismatch      the file found is not the recorded parent
        ├── ChainLoop           a disk would be its own ancestor
        ├── NotDifferencing     a disk without a parent has none to change or fill
        ├── NotAnAncestor       a disk named as one of the ancestors is none
        └── ParentPathRefused   the parent's path cannot be stored in a locator

``errno`` is the number the field's tools exit with for the same mistake.
"""

import errno as codes
from dataclasses import dataclass
from uuid import UUID


@dataclass(eq=False)
class VHDError(Exception):
    """Base of all errors of this package: ``str()`` is derived from the fields."""

    path: str

    # Unannotated on purpose: these belong to the class, the dataclass fields to the instance.
    errno = codes.EINVAL
    text = "failed"
    hint = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.text.format_map(vars(self))}"


@dataclass(eq=False)
class StorageFailed(VHDError):
    """The operating system refused ``operation``; ``errno`` is its answer, ``reason`` its words."""

    operation: str
    reason: str
    errno: int
    text = "{operation} failed: {reason}"


@dataclass(eq=False)
class NoSpace(VHDError):
    """``needed`` bytes do not fit into ``available`` bytes."""

    needed: int
    available: int
    errno = codes.ENOSPC
    text = "no space: {needed} bytes needed, {available} available"
    hint = "Grow the device or free space in the storage repository."


@dataclass(eq=False)
class InvalidImage(VHDError):
    """The bytes found are no usable VHD; ``reason`` says which rule they break."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class BadFooter(InvalidImage):
    """A footer that breaks ``reason``; raised by open only if the other copy is bad too."""

    text = "invalid footer: {reason}"
    hint = "Check that the file is a VHD; a raw image has no footer."


@dataclass(eq=False)
class BadHeader(InvalidImage):
    """The dynamic header is damaged or describes something unknown."""

    text = "invalid dynamic header: {reason}"


@dataclass(eq=False)
class BadBlock(InvalidImage):
    """The table entry of ``block`` leads to ``sector``, where no block can be."""

    block: int
    sector: int
    text = "block {block} at sector {sector}: {reason}"


@dataclass(eq=False)
class BadLog(InvalidImage):
    """The changed block log cannot be what it says."""

    errno = codes.EIO
    text = "bad changed block log: {reason}"
    hint = "Disable changed block tracking on the disk and enable it again."


@dataclass(eq=False)
class Truncated(VHDError):
    """The file ends before byte ``end``, up to which something must exist."""

    end: int
    text = "the file ends before byte {end}"
    errno = codes.EIO


@dataclass(eq=False)
class Poisoned(VHDError):
    """A journaled resize of the disk ``unique_id`` has not finished: its footer says so."""

    unique_id: UUID
    text = "a journaled resize was interrupted"
    hint = "Undo it with its journal: revert_journal, or vhd-util revert."


@dataclass(eq=False)
class JournalError(VHDError):
    """The undo journal ``path`` cannot be used."""


@dataclass(eq=False)
class JournalExists(JournalError):
    """A journal of that name is there; it may be the only way back for its disk."""

    errno = codes.EEXIST
    text = "the journal exists already"
    hint = "Undo the resize that left it: revert_journal, or vhd-util revert."


@dataclass(eq=False)
class JournalMismatch(JournalError):
    """The journal saved parts of the disk ``found``, not of ``expected``."""

    expected: str
    found: str
    text = "a journal of the disk {found}, not of {expected}"


@dataclass(eq=False)
class JournalDamaged(JournalError):
    """The journal breaks ``reason``, so nothing was undone with it."""

    reason: str
    text = "damaged journal: {reason}"


@dataclass(eq=False)
class SizeRefused(VHDError):
    """``size`` is not between ``minimum`` and ``maximum`` (bytes, inclusive)."""

    size: int
    minimum: int
    maximum: int
    text = "size {size} is not between {minimum} and {maximum} bytes"


@dataclass(eq=False)
class OutOfRange(VHDError):
    """``length`` bytes at ``offset`` do not lie inside a disk of ``size`` bytes."""

    offset: int
    length: int
    size: int
    errno = codes.ERANGE
    text = "{length} bytes at {offset} lie outside the disk of {size} bytes"


@dataclass(eq=False)
class ReadOnly(VHDError):
    """A write to something opened for reading only."""

    errno = codes.EROFS
    text = "opened for reading only"


@dataclass(eq=False)
class NotSparse(VHDError):
    """The operation needs a block table, which a fixed disk has not."""

    text = "a fixed disk has no block table"


@dataclass(eq=False)
class NotEmpty(VHDError):
    """The disk holds ``blocks`` blocks, and the operation needs one without."""

    blocks: int
    text = "holds {blocks} blocks, but must be empty"


@dataclass(eq=False)
class ParentError(VHDError):
    """Something is wrong with the link from ``path`` to ``parent``."""

    parent: str
    text = "bad parent {parent}"


@dataclass(eq=False)
class ParentMissing(ParentError):
    """No locator leads to a readable file; ``parent`` is the path as stored."""

    errno = codes.ENOENT
    text = "the parent {parent} was not found"
    hint = "Bring the parent back or point the disk at it with set_parent."


@dataclass(eq=False)
class ParentMismatch(ParentError):
    """``parent`` has the identity ``found``, the disk was made on top of ``expected``."""

    expected: str
    found: str
    text = "the parent {parent} is {found}, not {expected}"
    hint = "Another disk took the parent's name; find the one with the right identity."


@dataclass(eq=False)
class ChainLoop(ParentError):
    """With ``parent`` as its parent the disk would be its own ancestor."""

    errno = codes.ELOOP
    text = "{parent} is the disk itself or stands on top of it"


@dataclass(eq=False)
class NotDifferencing(ParentError):
    """Only a differencing disk has a parent; ``parent`` is what was to be one, if anything."""

    text = "not a differencing disk: it has no parent"


@dataclass(eq=False)
class NotAnAncestor(ParentError):
    """``parent`` is no ancestor of the disk."""

    text = "{parent} is none of its ancestors"


@dataclass(eq=False)
class ParentPathRefused(ParentError):
    """The relative path to ``parent`` cannot be written into the locators."""

    reason: str
    errno: int
    text = "the path to {parent} cannot be stored: {reason}"
