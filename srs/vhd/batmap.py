"""XenServer's batmap: one bit per block that says "this block's bitmap is all ones".

It spares readers a bitmap per block and carries no other meaning: a clear bit says nothing. A
torn map is therefore ignored, and replaced by a valid one when its disk is next closed by a
writer. Block b is the bit 0x80 >> (b % 8) of byte b // 8.

The checksum covers the map of whole 16 MiB pieces of the disk only (the size is divided with
the floor), in whole sectors. Bits after those sectors are covered by nothing, so they are never
set and never believed.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from srs.vhd.backing import Backing, zeros
from srs.vhd.format import SECTOR, pad
from srs.vhd.header import BatmapHeader, Header, bat_length, batmap_length


def covered_bytes(size: int) -> int:
    """Bytes of the map that the checksum covers on a disk of ``size`` bytes."""
    return max(SECTOR, pad(size >> 24))


def map_checksum(covered: bytes | bytearray) -> int:
    """One's complement of the byte sum of the covered part."""
    return ~sum(covered) & 0xFFFFFFFF


class Batmap:
    """The batmap of one open disk of ``size`` bytes, read when first asked."""

    def __init__(self, backing: Backing, header: Header, size: int) -> None:
        self._backing = backing
        self._offset = header.bat_offset + bat_length(header.slots)
        self._covered = covered_bytes(size)
        self._slots = header.slots
        self._changed = False

    @cached_property
    def header(self) -> BatmapHeader | None:
        """The header on disk, None if it is unusable.

        It could put the map anywhere. No writer puts it elsewhere than behind the header, and
        one that claims so is not trusted with a place to write to.
        """
        header = BatmapHeader.unpack(self._backing.read(self._offset, SECTOR))
        return header if header and header.map_offset == self._offset + SECTOR else None

    @property
    def end(self) -> int:
        """The byte after the map."""
        return self._offset + batmap_length(self._slots)

    @property
    def needs_store(self) -> bool:
        """True if the map on disk is torn or lacks bits that are set here."""
        _ = self._bits
        return self._changed

    @cached_property
    def _bits(self) -> bytearray:
        """The covered part of the map; all clear if it is torn or there is no header."""
        if self.header is not None:
            bits = bytearray(self._backing.read(self.header.map_offset, self._covered))
            if len(bits) == self._covered and map_checksum(bits) == self.header.checksum:
                return bits
            self._changed = True
        return bytearray(self._covered)

    def __contains__(self, block: int) -> bool:
        """True if the block's bitmap is known to be all ones."""
        at = block >> 3
        return at < self._covered and bool(self._bits[at] & (0x80 >> (block & 7)))

    def first(self, blocks: int) -> bytearray:
        """A copy of the covered part of the map, with the bits of the first ``blocks`` blocks."""
        bits = self._bits[: -(-blocks // 8)]
        if blocks % 8 and len(bits) * 8 > blocks:
            bits[-1] &= 0xFF00 >> blocks % 8
        return bits

    def add(self, blocks: Iterable[int]) -> None:
        """Set the bits of blocks whose bitmaps are full and durable."""
        for block in blocks:
            if block not in self and block >> 3 < self._covered:
                self._bits[block >> 3] |= 0x80 >> (block & 7)
                self._changed = True

    def discard(self, block: int) -> None:
        """Clear the bit of a block."""
        if block in self:
            self._bits[block >> 3] &= ~(0x80 >> (block & 7))
            self._changed = True

    def cut(self, blocks: int) -> None:
        """Clear the bits of all but the first ``blocks`` blocks."""
        kept = self.first(blocks).ljust(self._covered, b"\0")
        self._changed |= kept != self._bits
        self._bits = kept

    def store(self) -> None:
        """Write header and map; a cut in between leaves a map that is ignored.

        Without a valid header nothing is written: blocks may lie where a map should be.
        """
        if self.header is not None:
            header = replace(self.header, checksum=map_checksum(self._bits))
            self._backing.write(self._offset, header.pack(), self._bits)
            self.header = header
        self._changed = False

    def extend(self, size: int) -> None:
        """Make ready for a disk of ``size`` bytes: bits that were not covered become zero."""
        covered = covered_bytes(size)
        if self.header is not None and covered > self._covered:
            at = self.header.map_offset + self._covered
            self._backing.write(at, *zeros(covered - self._covered))
