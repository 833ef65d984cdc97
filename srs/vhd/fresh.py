"""A disk that is being filled from beginning to end, and becomes one only when it is complete."""

import sys
from array import array
from collections.abc import Sequence
from itertools import compress, count

from srs.vhd import bitmap
from srs.vhd.backing import Backing
from srs.vhd.batmap import Batmap
from srs.vhd.build import metadata_of
from srs.vhd.errors import NoSpace
from srs.vhd.footers import write_footers
from srs.vhd.format import BLOCK, BLOCK_SECTORS, SECTOR, STRIDE_SECTORS, UNUSED, Footer, align_block
from srs.vhd.header import BatmapHeader, Header


class FreshVHD:
    """A new sparse VHD; its blocks come in the order in which they will lie in the file.

    Until :meth:`finish` there is no footer, so a cut leaves nothing that opens.
    """

    def __init__(
        self,
        backing: Backing,
        footer: Footer,
        header: Header,
        texts: Sequence[tuple[bytes, bytes]] = (),
        key: BatmapHeader | None = None,
    ) -> None:
        """Take an empty file, or a device of whatever content, without taking it over.

        ``texts`` are those of the header's locators, ``key`` brings the hash of an encrypted
        disk's key.

        Raises:
            NoSpace: the device is too small for the metadata.
        """
        self.backing = backing
        self._footer = footer
        self._header = header
        self._metadata = metadata_of(footer, header, texts, key)
        self._end = sum(map(len, self._metadata)) // SECTOR
        self._table = array("I", [UNUSED]) * header.slots
        self._full = bytearray(header.slots)
        if backing.is_block:
            self._reserve(self._end)
            backing.write(0, bytes(SECTOR))
            backing.write(backing.size() - SECTOR, bytes(SECTOR))
            backing.sync()  # What the device held before is no disk from here on.

    def begin(self, block: int, held: int) -> int:
        """Make room for a block with the sectors ``held``; the byte where its data go.

        Raises:
            NoSpace: the device or the sector numbers are used up.
        """
        sector = align_block(self._end)
        self._reserve(sector + STRIDE_SECTORS)
        gap = bytes((sector - self._end) * SECTOR)
        self.backing.write(self._end * SECTOR, gap, bitmap.to_bytes(held))
        self._table[block] = sector
        self._end = sector + STRIDE_SECTORS
        if held == bitmap.FULL:
            self._full[block] = 1
        return (sector + 1) * SECTOR

    def room(self, block: int) -> int:
        """The sectors that a block has."""
        return BLOCK_SECTORS

    def finish(self) -> None:
        """Write metadata, then footers: the commit point. Durable on return."""
        empty, *metadata = self._metadata
        self.backing.write(len(empty), *metadata)
        if sys.byteorder == "little":
            self._table.byteswap()
        self.backing.write(self._header.bat_offset, self._table.tobytes())
        batmap = Batmap(self.backing, self._header, self._footer.size)
        batmap.add(compress(count(), self._full))
        batmap.store()
        self.backing.sync()
        device = self.backing.is_block
        at = self.backing.size() - SECTOR if device else self._end * SECTOR
        write_footers(self.backing, self._footer, at)

    def _reserve(self, end: int) -> None:
        """Raise NoSpace unless everything up to sector ``end`` and a footer fit."""
        limit = self.backing.size() // SECTOR if self.backing.is_block else UNUSED
        if end >= limit:
            raise NoSpace(self.backing.path, (end + 1) * SECTOR, limit * SECTOR)


class FreshRaw:
    """A new raw image of ``size`` bytes; blocks come in ascending order."""

    def __init__(self, backing: Backing, size: int) -> None:
        """Take an empty file, or a device of whatever content, without taking it over.

        Raises:
            NoSpace: the device is too small.
        """
        self.backing = backing
        self._size = size
        self._end = 0
        if backing.is_block and backing.size() < size:
            raise NoSpace(backing.path, size, backing.size())

    def begin(self, block: int, held: int) -> int:
        """The byte where the data of ``block`` go; what lies before, and was skipped, is zero."""
        at = block * BLOCK
        self._skip(at)
        self._end = at + BLOCK
        return at

    def room(self, block: int) -> int:
        """The sectors that a block has, the last one perhaps fewer than the others."""
        return min(BLOCK, self._size - block * BLOCK) // SECTOR

    def finish(self) -> None:
        """Give the image its length. Durable on return."""
        self._skip(self._size)
        if not self.backing.is_block:
            self.backing.truncate(self._size)
        self.backing.sync()

    def _skip(self, to: int) -> None:
        if self.backing.is_block and self._end < to:
            self.backing.write_zeros(self._end, to - self._end)
