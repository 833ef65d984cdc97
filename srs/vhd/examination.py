"""The examination of one disk: which rule is looked at when, from the footers to the data.

What a stage finds decides whether the next can be understood at all: without a footer there is
no header, without a header no table.
"""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from errno import EINVAL, ENOENT

from srs.vhd import locator, validity
from srs.vhd.backing import Backing
from srs.vhd.batmap import covered_bytes
from srs.vhd.errors import InvalidImage, ParentMissing, VHDError
from srs.vhd.footers import FoundFooter, find_footer, is_flat, read_primary
from srs.vhd.format import FIXED, SECTOR, Footer, pad
from srs.vhd.header import HEADER_LENGTH, LOCATORS_AT, Locator, bat_length
from srs.vhd.image import Image
from srs.vhd.parent import find_parent, stored_path
from srs.vhd.tablecheck import full_but_absent, misplaced, overlapping, unexpected_data
from srs.vhd.validity import Clock


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: its line, and the errno that the field's tool exits with."""

    text: str
    errno: int = EINVAL

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Options:
    """The options of :func:`srs.vhd.check`; ``clock`` says what is in the future."""

    ignore_footer: bool
    ignore_parent_id: bool
    overlaps: bool
    blocks: bool
    clock: Clock


class Examination:
    """One disk under examination; the attributes are known when the findings are exhausted.

    Attributes:
        fixed: it is a fixed disk.
        parent: the canonical path of its parent, None for none, a raw one or one not found.
    """

    def __init__(self, backing: Backing, options: Options) -> None:
        """``backing`` is read only, and stays open."""
        self.fixed = False
        self.parent: str | None = None
        self._backing = backing
        self._options = options
        self._end = 0
        """The byte after everything but the primary footer."""

    def findings(self) -> Iterator[Finding]:
        """Every broken rule, as it is found.

        Raises:
            StorageFailed: the disk cannot be read.
        """
        footer = yield from self._footers()
        if footer is None:
            return
        image = yield from self._header(footer)
        if image is None:
            return
        yield from self._table(image)
        yield from self._batmap(image)
        if image.differencing:
            yield from self._parent(image)

    def _footers(self) -> Generator[Finding, None, FoundFooter | None]:
        """The footer to go on with, None for none and for a fixed disk."""
        backing, clock = self._backing, self._options.clock
        size = backing.size()
        if size < SECTOR - 1:
            yield Finding(f"error calculating end of file: {-EINVAL}")
            return None
        primary, at = read_primary(backing, size)
        fault = validity.footer_fault(primary, clock)
        if not fault and (footer := Footer.unpack(primary, backing.path)).disk_type == FIXED:
            if is_flat(backing, footer, at):
                yield from self._fixed_disk(footer.size, at)
                return None
            fault = "invalid type"
        backup = backing.read(0, SECTOR)
        backup_fault = validity.footer_fault(backup, clock)
        differ = not validity.same_footer(primary, backup)
        if fault and not self._options.ignore_footer:
            yield Finding(f"primary footer invalid: {fault}")
        if backup_fault:
            yield Finding(f"backup footer invalid: {backup_fault}")
        elif not fault and differ and not self._options.ignore_footer:
            yield Finding("primary and backup footers do not match")
        if fault or (differ and self._options.ignore_footer):
            # Whatever stands in the last sector is no footer, so blocks may reach to the end.
            self._end = pad(size)
            return None if backup_fault else FoundFooter(Footer.unpack(backup, backing.path), None)
        self._end = at
        return FoundFooter(Footer.unpack(primary, backing.path), at)

    def _fixed_disk(self, size: int, at: int) -> Iterator[Finding]:
        """The rule for a fixed disk of ``size`` bytes whose footer lies at byte ``at``."""
        self.fixed = True
        if size > at:
            yield Finding(f"data of {size} bytes clobber the footer at byte {at}")

    def _header(self, found: FoundFooter) -> Generator[Finding, None, Image | None]:
        """The disk, if its header can be used."""
        at = found.footer.data_offset
        raw = self._backing.read(at, HEADER_LENGTH) if at < self._end else b""
        fault = validity.header_fault(raw, self._end)
        if not fault:
            try:
                image = Image(self._backing, found)
            except InvalidImage as error:
                fault = error.reason
        if fault:
            yield Finding(f"header is invalid: {fault}")
            return None
        fault = validity.parent_fault(raw, image.differencing, self._options.clock)
        if fault:
            yield Finding(f"differencing header is invalid: {fault}")
        return image

    def _table(self, image: Image) -> Iterator[Finding]:
        """Blocks where none can be, and with the options blocks on top of each other."""
        entries = image.entries()
        first = pad(image.metadata_end) // SECTOR
        sound = True
        for block, what in misplaced(entries, first, self._end // SECTOR):
            sound = False
            yield Finding(f"block {block} (offset {entries[block]:#x}) clobbers {what}")
        if self._options.overlaps:
            for block, other in overlapping(entries):
                text = f"block {block} (offset {entries[block]:#x}) clobbers block {other}"
                yield Finding(f"{text} (offset {entries[other]:#x})")
        if self._options.blocks and sound:
            for block, sector in unexpected_data(image):
                where = f"sector {sector:#x} of block {block:#x}"
                yield Finding(f"{where} has data where bitmap is clear")

    def _batmap(self, image: Image) -> Iterator[Finding]:
        """The batmap, and other metadata that lie across each other."""
        header = image.header
        at = header.bat_offset + bat_length(header.slots)
        raw = self._backing.read(at, SECTOR)
        covered = self._backing.read(at + SECTOR, covered_bytes(image.size))
        fault = validity.batmap_fault(image.footer, header, raw, covered, self._end)
        if fault:
            yield Finding(f"batmap is invalid: {fault}")
        elif image.batmap is not None and image.batmap.header is not None:
            for block in full_but_absent(image.entries(), covered):
                yield Finding(f"batmap shows unallocated block {block} full")
        for name, other in validity.crossing(image):
            yield Finding(f"{name} clobbers {other}")

    def _parent(self, image: Image) -> Iterator[Finding]:
        """Locators one by one, then the parent that they lead to."""
        seen: set[bytes] = set()
        table = self._backing.read(image.footer.data_offset + LOCATORS_AT, 8 * Locator.LAYOUT.size)
        for slot, entry in enumerate(image.header.locators):
            raw = table[slot * Locator.LAYOUT.size :][: Locator.LAYOUT.size]
            if any(raw):
                fault = self._locator_fault(image, entry, slot, raw)
                if fault:
                    yield fault
                elif entry.platform in seen:
                    code = int.from_bytes(entry.platform, "big")
                    yield Finding(f"duplicate platform code in locator {slot}: {code:#x}")
                seen.add(entry.platform)
        try:
            path = find_parent(image)
        except ParentMissing as error:
            yield Finding(f"could not find parent {error.parent}", error.errno)
            return
        if not image.raw_parent:
            self.parent = path
            if not self._options.ignore_parent_id:
                yield from _wrong_identity(image, path)

    def _locator_fault(self, image: Image, entry: Locator, slot: int, raw: bytes) -> Finding | None:
        """What is wrong with the parent locator in ``slot``, whose 24 bytes are ``raw``."""
        fault = validity.locator_fault(entry, raw, self._end)
        if fault:
            return Finding(f"invalid parent locator {slot}: {fault}")
        path = stored_path(self._backing, entry)
        if path is None:
            return Finding(f"error reading parent locator {slot}: {-EINVAL}")
        name, recorded = os.path.basename(path), image.header.parent_name
        if name != recorded:
            text = f"name ({name}) does not match header name ({recorded})"
            return Finding(f"parent locator {slot} {text}")
        if not locator.candidates(image.path, [path]):
            return Finding(f"error resolving {path}: {-ENOENT}", ENOENT)
        return None


def _wrong_identity(image: Image, path: str) -> Iterator[Finding]:
    """The finding that the disk at ``path`` is not the recorded parent."""
    try:
        with Backing(path) as backing:
            found = find_footer(backing).footer.unique_id
    except VHDError as error:
        yield Finding(f"invalid parent {path}: {error}", error.errno)
        return
    if found != image.header.parent_id:
        yield Finding(f"invalid parent {path}: invalid parent uuid")
