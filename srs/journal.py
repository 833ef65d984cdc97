"""Journals: what an operation is about to do, so that a crash in the middle can be mended.

    Exception
    ├── LVMCreate (50, srs.errors)      an entry of that kind and id exists
    ├── LVMNoVolume (100)               no such entry, or a name that cannot be one
    ├── LVMRead (117)                   an entry's value cannot be read
    └── LVMError / OSError              the medium refused

There is at most one entry per kind and id. On a volume group an entry is a volume of one
extent (reference: the layout of XenServer's storage manager), tagged `journaler`, named

    <kind>_<id>_<value>       where the name fits into what device-mapper takes
    <kind>_<id>_1             otherwise; the value stands in sector 0, as "<length> <value>"

A volume exists before anything can be written into it. So that a crash in between leaves no
entry without a value, the value is also a tag of the volume: volume and tags appear in one
commit of LVM's metadata. Entries of other implementations, without the tag, are read from
sector 0.

In a directory an entry is a file `<kind>_<id>` that holds the value, and ends with its line.

An entry is durable before the operation's first change. So one whose value is not whole, which
is read as an empty value, is about an operation that has not changed anything.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from srs import filenames, fist
from srs.errors import LVMCreate, LVMNoVolume, LVMRead, LVMWrite, SRError
from srs.lvm import LVMError
from srs.volumes import VolumeGroup

#: Kinds, and their values.
SPLIT: Final = "clone"  # <base copy>_<clone, snapshot>
REVERT: Final = "revert"  # <snapshot>[_...]
RESIZE: Final = "resize"  # what it was, as the medium needs it
INFLATE: Final = "inflate"  # size of the volume before, bytes
ZERO: Final = "zero"  # the same, of a raw base copy that grows

_TAG: Final = "journaler"
_VALUE_TAG: Final = "journal."
_SECTOR: Final = 512
#: device-mapper names (dashes of group and volume doubled) have at most 127 characters.
_DM_NAME_MAX: Final = 127
#: Other implementations look for the value of these in sector 0 alone, however short it is.
_ALWAYS_IN_BODY: Final = frozenset({"clone", "leaf"})
#: Of these the name says all: `1` is their value, and nothing is in the body.
_MARKS: Final = frozenset({"coalesce", "relink"})
_WORD: Final = re.compile(r"[A-Za-z0-9.\-]+")
_VALUE: Final = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is going on: `clone` of a disk, value `<base>_<clone>`, for instance.

    Attributes:
        kind: of operation.
        id: the disk.
        value: see the operation; empty where it cannot be read.
        unreadable: why not, else empty.
    """

    kind: str
    id: str
    value: str
    unreadable: str = ""

    def require_value(self) -> None:
        """Refuse to go by an entry that cannot be read.

        Raises:
            LVMRead: it cannot.
        """
        if self.unreadable:
            raise LVMRead(f"journal {self.kind}_{self.id}: {self.unreadable}")


class Journal(Protocol):
    """Where an SR keeps its journal."""

    def entries(self) -> list[Entry]:
        """All entries."""

    def create(self, kind: str, id: str, value: str) -> None:
        """Add an entry; it is durable when this returns."""

    def remove(self, kind: str, id: str) -> None:
        """Drop an entry, for good when this returns."""


def _fail(error: type[SRError]) -> NoReturn:
    raise error("a test asked for it")


def _check(kind: str, id: str, value: str) -> None:
    words = _WORD.fullmatch(kind) and _WORD.fullmatch(id) and _VALUE.fullmatch(value)
    if not words:
        raise LVMNoVolume(f"no journal entry can be called {kind!r} {id!r} {value!r}")


class VolumeJournal:
    """The journal of a volume group."""

    def __init__(self, group: VolumeGroup) -> None:
        self._group = group

    def entries(self) -> list[Entry]:
        """All entries; a foreign one costs an activation."""
        names = [name for name, lv in self._group.volumes.items() if _TAG in lv.tags]
        return [self._entry(name) for name in names]

    def create(self, kind: str, id: str, value: str) -> None:
        """Add an entry.

        Raises:
            LVMCreate: there is one of that kind and id.
            LVMNoVolume: kind, id or value have characters that a name cannot have.
        """
        fist.point("LVM_journaler_badname", lambda: _fail(LVMNoVolume))
        _check(kind, id, value)
        fist.point("LVM_journaler_exists", lambda: _fail(LVMCreate))
        if self._find(kind, id):
            raise LVMCreate(f"journal {kind}_{id} exists")
        name = volume_name(self._group.name, kind, id, value)
        if name.endswith(f"_{value}"):
            self._group.create(name, _SECTOR, tags=(_TAG,))
            return
        path = self._group.create(name, _SECTOR, tags=(_TAG, _VALUE_TAG + value))
        with fist.undone_by(lambda: self._group.remove(name)):
            fist.point("LVM_journaler_writefail", lambda: _fail(LVMWrite))
            _write_sector(path, encode_body(value))

    def remove(self, kind: str, id: str) -> None:
        """Drop an entry.

        Raises:
            LVMNoVolume: there is none.
        """
        fist.point("LVM_journaler_none", lambda: _fail(LVMNoVolume))
        name = self._find(kind, id)
        if not name:
            raise LVMNoVolume(f"journal {kind}_{id}")
        self._group.remove(name)

    def _find(self, kind: str, id: str) -> str:
        prefix = f"{kind}_{id}_"
        volumes = self._group.volumes.items()
        return next((n for n, lv in volumes if _TAG in lv.tags and n.startswith(prefix)), "")

    def _entry(self, name: str) -> Entry:
        kind, id, value = (*name.split("_", 2), "", "")[:3]
        tags = self._group.volume(name).tags
        tagged = [tag for tag in tags if tag.startswith(_VALUE_TAG)]
        if tagged:
            return Entry(kind, id, tagged[0].removeprefix(_VALUE_TAG))
        try:
            if kind in _ALWAYS_IN_BODY:
                return Entry(kind, id, self._foreign_value(name))
            if value == "1" and kind not in _MARKS:
                return Entry(kind, id, self._foreign_value(name) or value)
        except (LVMError, LVMRead, OSError) as error:
            return Entry(kind, id, "", str(error))
        return Entry(kind, id, value)

    def _foreign_value(self, name: str) -> str:
        fist.point("LVM_journaler_readfail", lambda: _fail(LVMRead))
        self._group.activate(name)
        with open(self._group.path(name), "rb") as device:
            return decode_body(device.read(_SECTOR))


def volume_name(group: str, kind: str, id: str, value: str) -> str:
    """Name of an entry's volume: with the value if it may and fits, else with `1`."""
    name = f"{kind}_{id}_{value}"
    too_long = len(f"{group}{name}".replace("-", "--")) + 1 > _DM_NAME_MAX
    return f"{kind}_{id}_1" if kind in _ALWAYS_IN_BODY or too_long else name


def encode_body(value: str) -> bytes:
    """Sector 0 of an entry's volume.

    Raises:
        ValueError: the value does not fit into a sector.
    """
    body = f"{len(value)} {value}".encode("ascii")
    if len(body) > _SECTOR:
        raise ValueError(f"a journal value of {len(value)} characters")
    return body.ljust(_SECTOR, b" ")


def decode_body(sector: bytes) -> str:
    """The value in sector 0; empty if none was written yet, whatever stood there before."""
    length, blank, rest = sector.partition(b" ")
    if not blank or not length.isdigit() or int(length) > len(rest):
        return ""
    value = rest[: int(length)].decode("ascii", "replace")
    return value if _VALUE.fullmatch(value) else ""


def _write_sector(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)


class FileJournal:
    """The journal of a directory.

    Args:
        directory: the SR's directory.
        kinds: the kinds of entry that are looked for; other files are none of our business.
    """

    def __init__(self, directory: str, kinds: tuple[str, ...]) -> None:
        self._directory = directory
        self._kinds = kinds

    def entries(self, names: Iterable[str] | None = None) -> list[Entry]:
        """All entries; `names` are those in the directory, where the caller knows them."""
        found = []
        for name in sorted(os.listdir(self._directory) if names is None else names):
            kind, _, id = name.partition("_")
            if kind in self._kinds and _WORD.fullmatch(id):
                found.append(self._entry(kind, id))
        return found

    def _entry(self, kind: str, id: str) -> Entry:
        try:
            with open(self._path(kind, id), encoding="ascii", errors="replace") as file:
                value, end, _ = file.readline().partition("\n")
        except OSError as error:
            return Entry(kind, id, "", str(error))
        return Entry(kind, id, value if end else "")

    def create(self, kind: str, id: str, value: str) -> None:
        """Add an entry; it is durable when this returns, and gone when it fails.

        Raises:
            LVMCreate: there is one of that kind and id.
            LVMNoVolume: kind, id or value have characters that a name cannot have.
        """
        _check(kind, id, value)
        path = self._path(kind, id)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise LVMCreate(f"journal {path} exists") from None
        with fist.undone_by(lambda: os.unlink(path)):
            try:
                os.write(fd, f"{value}\n".encode("ascii"))
                os.fsync(fd)
            finally:
                os.close(fd)
            fsync_directory(self._directory)

    def remove(self, kind: str, id: str) -> None:
        """Drop an entry.

        Raises:
            LVMNoVolume: there is none.
        """
        if not filenames.remove(self._path(kind, id)):
            raise LVMNoVolume(f"journal {kind}_{id}")
        fsync_directory(self._directory)

    def _path(self, kind: str, id: str) -> str:
        return os.path.join(self._directory, f"{kind}_{id}")


def fsync_directory(path: str) -> None:
    """Make renames and removals in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
