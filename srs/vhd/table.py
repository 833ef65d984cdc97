"""The block table (BAT): for each 2 MiB block the sector of its bitmap in this file.

The table of a 2 TiB disk takes 4 MiB, and a chain has up to thirty of them, so it is read in
pages when asked for and only a bounded number of pages stays. Entries given out since the last
flush live in :attr:`BlockTable.pending` and reach the disk through :meth:`BlockTable.store`.
"""

import sys
from array import array
from collections.abc import Iterator

from srs.vhd.backing import Backing
from srs.vhd.errors import BadBlock
from srs.vhd.format import SECTOR, STRIDE_SECTORS, UNUSED

_PAGE = 1024
"""Entries per page: 4 KiB of the file."""

_PAGES_KEPT = 64
_SCAN = 64 << 10
_ALL_UNUSED = b"\xff" * _SCAN
_PER_SECTOR = SECTOR // 4


def _decode(raw: bytes | bytearray) -> "array[int]":
    entries = array("I", raw)
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


def encode(entries: "array[int]") -> bytes:
    """The bytes on disk of table entries."""
    if sys.byteorder == "little":
        entries = entries[:]
        entries.byteswap()
    return entries.tobytes()


class BlockTable:
    """The table of one disk: ``blocks`` entries in use, at byte ``offset`` of the file.

    ``first_sector`` is where blocks can begin at the earliest: an entry below it would have
    data read out of metadata, or written over it, and is refused. So is one past the end of a
    device. A file may be shorter than its table says after a crash, by all of its blocks at
    most; an entry farther out is damage, and a write that followed it would grow the file there.
    """

    def __init__(self, backing: Backing, offset: int, blocks: int, first_sector: int) -> None:
        self._backing = backing
        self._offset = offset
        self._blocks = blocks
        self._first_sector = first_sector
        self._lost = 0 if backing.is_block else blocks * (STRIDE_SECTORS + 7)
        self._limit = backing.size() // SECTOR + self._lost
        self._pages: dict[int, array[int]] = {}
        self.pending: dict[int, int] = {}

    def __getitem__(self, block: int) -> int:
        """The sector of the block's bitmap, :data:`UNUSED` if the block is not in this file.

        Raises:
            BadBlock: the entry leads into the metadata, or out of the file.
        """
        if self.pending and block in self.pending:
            return self.pending[block]
        page = self._pages.get(block // _PAGE)
        if page is None:
            page = self._load(block // _PAGE)
        sector = page[block % _PAGE]
        if self._first_sector <= sector < self._limit or sector == UNUSED:
            return sector
        if sector < self._first_sector:
            raise BadBlock(self._backing.path, "inside the metadata", block, sector)
        self._refuse_beyond(block, sector)
        return sector

    def _refuse_beyond(self, block: int, sector: int) -> None:
        """Raise BadBlock unless the file has grown since and the block can lie in it now."""
        self._limit = self._backing.size() // SECTOR + self._lost
        if sector >= self._limit:
            raise BadBlock(self._backing.path, "past the end of the file", block, sector)

    def entries(self) -> "array[int]":
        """All entries as of the last flush: 4 MiB for a disk of 2 TiB."""
        return _decode(self._backing.read(self._offset, self._blocks * 4))

    def allocated(self) -> int:
        """The number of blocks in this file as of the last flush."""
        return sum(len(part) - part.count(UNUSED) for _, part in self._scan())

    def used(self) -> Iterator[int]:
        """The blocks in this file as of the last flush, ascending."""
        for first, part in self._scan():
            yield from [block for block, entry in enumerate(part, first) if entry != UNUSED]

    def is_empty(self) -> bool:
        """True if no block is in this file as of the last flush."""
        return next(self._scan(), None) is None

    def start(self) -> int:
        """The sector of the first block in this file, UNUSED if there is none."""
        return min((min(part) for _, part in self._scan()), default=UNUSED)

    def end(self) -> int:
        """The sector after the last block in this file, 0 if there is none.

        Raises:
            BadBlock: that block cannot be in this file.
        """
        highest = -STRIDE_SECTORS
        for first, part in self._scan():
            sector = max(entry for entry in part if entry != UNUSED)
            if sector >= self._limit:
                self._refuse_beyond(first + part.index(sector), sector)
            highest = max(highest, sector)
        return highest + STRIDE_SECTORS

    def clear_behind(self, blocks: int) -> None:
        """Make all slots behind those in use unused, up to ``blocks`` of them; durable on return.

        An entry there led nowhere so far, and blocks written since may lie where it leads.
        """
        at, length = self._offset + self._blocks * 4, (blocks - self._blocks) * 4
        unused = b"\xff" * length
        if self._backing.read(at, length) != unused:
            self._backing.write(at, unused)
            self._backing.sync()

    def store(self) -> None:
        """Write the sectors of the table that hold pending entries; durable after a sync.

        What they point at must be durable before: from here on readers follow the entries.
        """
        touched: dict[int, dict[int, int]] = {}
        for block, sector in self.pending.items():
            touched.setdefault(block // _PER_SECTOR, {})[block % _PER_SECTOR] = sector
        for number, entries in sorted(touched.items()):
            at = self._offset + number * SECTOR
            # Read back rather than built from the page: bytes after the last slot stay as they are.
            values = _decode(self._backing.read(at, SECTOR))
            for slot, sector in entries.items():
                values[slot] = sector
            self._backing.write(at, encode(values))
        for block in self.pending:
            self._pages.pop(block // _PAGE, None)
        self.pending = {}

    def _load(self, number: int) -> "array[int]":
        """Read a page of entries in use, forgetting the oldest page when there are many."""
        first = number * _PAGE
        length = min(_PAGE, self._blocks - first) * 4
        raw = bytearray(length)
        self._backing.readv(self._offset + first * 4, [memoryview(raw)])
        page = _decode(raw)
        if len(self._pages) >= _PAGES_KEPT:
            del self._pages[next(iter(self._pages))]
        self._pages[number] = page
        return page

    def _scan(self) -> "Iterator[tuple[int, array[int]]]":
        """The entries on disk in parts, each with the number of its first block.

        Parts without any block are left out.
        """
        length = self._blocks * 4
        for at in range(0, length, _SCAN):
            raw = self._backing.read(self._offset + at, min(_SCAN, length - at))
            if raw != _ALL_UNUSED[: len(raw)]:
                yield at // 4, _decode(raw)
