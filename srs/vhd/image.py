"""One dynamic or differencing disk without its parents: what it is and which sectors it holds."""

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property

from srs.vhd import bitmap
from srs.vhd.backing import Backing
from srs.vhd.batmap import Batmap
from srs.vhd.errors import BadHeader, NotSparse, Truncated
from srs.vhd.footers import FoundFooter
from srs.vhd.format import DIFFERENCING, FIXED, NOWHERE, NULL_ID, SECTOR, UNUSED, blocks_of
from srs.vhd.header import (
    HEADER_LENGTH,
    LONGEST_TEXT,
    MAX_SLOTS,
    Header,
    Locator,
    bat_length,
    batmap_length,
)
from srs.vhd.table import BlockTable

_BITMAPS_KEPT = 512
_OLDEST_TAP = 0x00010001


class Image:
    """An open sparse VHD; ``size`` is its virtual size in bytes.

    The file is read as it was at open; a later change by somebody else may or may not show.
    Memory stays bounded (about a MiB) for disks of any size. Not safe for use by several threads
    at once.
    """

    def __init__(self, backing: Backing, found: FoundFooter) -> None:
        """Take over ``backing``, whose footer was ``found``.

        Raises:
            NotSparse: a fixed disk.
            BadHeader: the header is unusable, or its table too small for the disk.
            Truncated: the file ends inside the block table.
        """
        footer = found.footer
        if footer.disk_type == FIXED:
            raise NotSparse(backing.path)
        if footer.by_tap and footer.creator_version < _OLDEST_TAP:
            raise BadHeader(backing.path, "too old, its bitmaps are little-endian")
        self.backing = backing
        self.path = backing.path
        self.footer = footer
        self.primary_at = found.primary_at
        self.size = footer.size
        self.unique_id = footer.unique_id
        raw = backing.read(footer.data_offset, HEADER_LENGTH)
        self.header = Header.unpack(raw, self.path)
        self._table = self._open_table()
        self._bitmaps: OrderedDict[int, int] = OrderedDict()

    def flush(self) -> None:
        """A reader has nothing to flush; the class that writes overrides this."""

    def close(self) -> None:
        """Close the file."""
        self.backing.close()

    def _open_table(self) -> BlockTable:
        header, blocks = self.header, blocks_of(self.size)
        if header.slots < blocks:
            raise BadHeader(self.path, f"{header.slots} table slots for {blocks} blocks")
        if header.slots > MAX_SLOTS:
            raise BadHeader(self.path, f"{header.slots} table slots, no disk has that many")
        end = header.bat_offset + bat_length(header.slots)
        if self.backing.size() < end:
            raise Truncated(self.path, end)
        return BlockTable(self.backing, header.bat_offset, blocks, end // SECTOR)

    @property
    def differencing(self) -> bool:
        """True if sectors not held here come from a parent."""
        return self.footer.disk_type == DIFFERENCING

    @property
    def raw_parent(self) -> bool:
        """True if the parent is a raw image: it has no identity to record."""
        return self.differencing and self.header.parent_id == NULL_ID

    @cached_property
    def batmap(self) -> Batmap | None:
        """The batmap, None on disks of other writers, which have none, and of tap 1.1 perhaps."""
        if not self.footer.by_tap:
            return None
        batmap = Batmap(self.backing, self.header, self.size)
        optional = self.footer.creator_version == _OLDEST_TAP
        return None if optional and batmap.header is None else batmap

    @cached_property
    def metadata_end(self) -> int:
        """The byte after all metadata in front of the blocks, as they describe themselves."""
        header = self.header
        ends = [
            self.footer.data_offset + HEADER_LENGTH,
            header.bat_offset + bat_length(header.slots),
            *(locator.end for locator in header.locators),
        ]
        if self.batmap is not None:
            ends.append(self.batmap.end)
        return max(ends)

    @property
    def first_sector(self) -> int:
        """The sector after all metadata, if they lie in the file.

        Raises:
            Truncated: a locator claims space past the end of the file. (A batmap may: the
                field's tool leaves those of some sizes short.)
        """
        claimed = max(locator.end for locator in self.header.locators)
        if claimed > self.backing.size():
            raise Truncated(self.path, claimed)
        return -(-self.metadata_end // SECTOR)

    @cached_property
    def end_sector(self) -> int:
        """The sector after everything the disk holds, where a regular file has its footer.

        Raises:
            Truncated: as for :attr:`first_sector`.
            BadBlock: the last block does not lie in the file.
        """
        return max(self.first_sector, self._table.end())

    def entries(self) -> "array[int]":
        """For each block the sector of its bitmap or UNUSED, as of the last flush."""
        return self._table.entries()

    def refuse_stray(self, locator: Locator) -> None:
        """Raise BadHeader if writing a text to ``locator`` would overwrite something else."""
        start, stop = locator.offset, locator.end
        header = self.header
        taken = [
            (0, SECTOR),
            (self.footer.data_offset, self.footer.data_offset + HEADER_LENGTH),
            (header.bat_offset, header.bat_offset + bat_length(header.slots)),
            (min(self._table.start() * SECTOR, self.backing.size() - SECTOR), NOWHERE),
        ]
        if self.batmap is not None and self.batmap.header is not None:
            taken.append((self.batmap.end - batmap_length(header.slots), self.batmap.end))
        stray = any(start < after and begin < stop for begin, after in taken)
        if stray or stop - start > LONGEST_TEXT:
            raise BadHeader(self.path, f"a locator at byte {start}, over something else")

    def allocated(self) -> int:
        """The number of blocks in this file."""
        return self._table.allocated()

    def is_empty(self) -> bool:
        """True if no block is in this file."""
        return self._table.is_empty()

    def blocks(self) -> Iterator[int]:
        """The blocks in this file as of the last flush, ascending."""
        return self._table.used()

    def present(self, block: int, wanted: int) -> int:
        """Those of the ``wanted`` sectors of ``block`` that this file holds."""
        if self._table[block] == UNUSED:
            return 0
        return wanted & self._bitmap(block)

    def clear_slots(self, size: int) -> None:
        """Make ready for ``size`` bytes: no slot behind those in use brings back an old block."""
        if self.batmap is not None:
            self.batmap.cut(blocks_of(self.size))
            if self.batmap.needs_store:
                self.batmap.store()
        self._table.clear_behind(blocks_of(size))

    def sector_of(self, block: int) -> int | None:
        """The sector of the block's bitmap in the file, None if the block is not here."""
        sector = self._table[block]
        return None if sector == UNUSED else sector

    def data_offset(self, block: int) -> int:
        """The byte in the file where the data of an allocated block begin."""
        return (self._table[block] + 1) * SECTOR

    def _bitmap(self, block: int) -> int:
        """The sectors held of an allocated block."""
        bits = self._bitmaps.get(block)
        if bits is None:
            bits = self._load_bitmap(block)
            self._remember(block, bits)
        else:
            self._bitmaps.move_to_end(block)
        return bits

    def _load_bitmap(self, block: int) -> int:
        if self.batmap is not None and block in self.batmap:
            return bitmap.FULL
        raw = bytearray(bitmap.BITMAP_BYTES)
        self.backing.readv(self._table[block] * SECTOR, [memoryview(raw)])
        return bitmap.from_bytes(raw)

    def _remember(self, block: int, bits: int) -> None:
        self._bitmaps[block] = bits
        if len(self._bitmaps) > _BITMAPS_KEPT:
            self._bitmaps.popitem(last=False)
