"""Writing into a sparse disk, in an order that a power cut cannot turn into garbage.

What reaches the file when:

1. A write puts data where no reader looks yet (a new block after the end, sectors whose bit is
   clear) or in place (sectors already held). Table and bitmaps change in memory only. A regular
   file gets its primary footer behind the new block first, so that what a guest writes is never
   last in the file, where it could pass for a footer.
2. A flush writes the bitmaps of new blocks with the gap before them zeroed, where on a regular
   file the footer was, and syncs. Still nothing points at any of it.
3. It writes the table sectors of the new blocks and the grown bitmaps of old blocks, and syncs:
   the commit point. An entry or a bitmap lies within one sector, so each is old or new, and all
   they lead to became durable in step 2.
4. Closing stores the batmap, which only spares readers work; a torn one is ignored.

So after a cut each sector has its old or its new content, and after a flush the new. A flush of
writes in place needs one sync only. A cut after an append to a regular file may leave it without
a primary footer; the backup speaks then, and is renewed before the first append if a cut left it
old. Blocks are only ever appended, and the stale bytes of a device are harmless: a new block gets
a whole bitmap, and its clear bits lead to the parent.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from srs.vhd import bitmap
from srs.vhd.backing import Backing, Buffer, zeros
from srs.vhd.errors import NoSpace, VHDError
from srs.vhd.footers import FoundFooter, renew_backup, write_primary
from srs.vhd.format import SECTOR, STRIDE_SECTORS, UNUSED, align_block
from srs.vhd.image import Image

_UNFLUSHED_LIMIT = 4096
"""Blocks whose bitmaps may wait for a flush: at some 600 bytes each they stay below 3 MiB."""


class ImageWriter(Image):
    """An image opened for writing.

    Writes are visible to this object at once, durable after :meth:`flush`. After a failed commit
    nobody knows what the medium holds, so every later write or flush raises the same error.
    """

    def __init__(self, backing: Backing, found: FoundFooter) -> None:
        """As for :class:`Image`; ``backing`` is writable."""
        super().__init__(backing, found)
        self._stale = found if found.stale_backup else None
        self._grown: dict[int, int] = {}
        self._appended: dict[int, tuple[int, int]] = {}
        self._unsynced = False
        self._failed: VHDError | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole sectors; the caller keeps them inside the disk.

        Raises:
            NoSpace: device, file system or sector numbers are used up. Blocks written before
                are kept, the one that did not fit stays as it was.
            StorageFailed: the data could not be written, or an earlier flush was given up.
        """
        for block, first, stop, piece in bitmap.pieces(offset, data):
            self._write(block, bitmap.span(first, stop), [(first, [piece])])

    def write_held(self, block: int, held: int, view: memoryview) -> None:
        """Write the sectors ``held`` of ``block``, each from its place in ``view``, 2 MiB."""
        runs = bitmap.runs(held)
        pieces = [(first, [view[first * SECTOR : stop * SECTOR]]) for first, stop in runs]
        self._write(block, held, pieces)

    def write_zeros(self, block: int, first: int, stop: int) -> None:
        """Write zeros into the sectors of ``block`` from ``first`` up to ``stop``."""
        self._write(block, bitmap.span(first, stop), [(first, zeros((stop - first) * SECTOR))])

    def reserve(self, block: int) -> None:
        """Allocate an absent block as one that holds all sectors, with the bytes found there."""
        self._write(block, bitmap.FULL, [])

    def _write(
        self, block: int, sectors: int, pieces: Sequence[tuple[int, Sequence[Buffer]]]
    ) -> None:
        """Write ``pieces``, by their first sectors, which make up ``sectors`` of ``block``."""
        if self._failed:
            raise self._failed
        sector = self._table[block]
        if sector == UNUSED:
            held = 0
            self._append(block, pieces)
        else:
            held = self._bitmap(block)
            self._put(sector, pieces)
        self._unsynced = True
        merged = held | sectors
        if merged != held:
            self._grown[block] = merged
            if len(self._grown) >= _UNFLUSHED_LIMIT:
                self.flush()

    def _put(self, sector: int, pieces: Sequence[tuple[int, Sequence[Buffer]]]) -> None:
        """Write the data of a block whose bitmap lies at ``sector``."""
        for first, data in pieces:
            self.backing.write((sector + 1 + first) * SECTOR, *data)

    def _bitmap(self, block: int) -> int:
        bits = self._grown.get(block)
        return super()._bitmap(block) if bits is None else bits

    def _next_sector(self) -> int:
        """Where the next block's bitmap goes, if there is room for the block."""
        sector = align_block(self.end_sector)
        end = (sector + STRIDE_SECTORS) * SECTOR
        if sector >= UNUSED:
            raise NoSpace(self.path, end, UNUSED * SECTOR)
        if self.backing.is_block:
            available = self.backing.size() - SECTOR
            if end > available:
                raise NoSpace(self.path, end, available)
        return sector

    def _append(self, block: int, pieces: Sequence[tuple[int, Sequence[Buffer]]]) -> None:
        """Write a new block behind all others, and record in memory that it lives there."""
        sector = self._next_sector()
        if self._stale:
            renew_backup(self.backing, self._stale)
            self._stale = None
        if self.batmap is not None and block in self.batmap:
            # A damaged disk: the map calls a block full that was not there. Left alone, it
            # would make readers believe the sectors of the new block that nobody wrote.
            self.batmap.discard(block)
            self.batmap.store()
        try:
            if not self.backing.is_block:
                self._write_primary((sector + STRIDE_SECTORS) * SECTOR)
            self._put(sector, pieces)
        except VHDError:
            self._give_back()
            raise
        self._appended[block] = (self.end_sector, sector)
        self._table.pending[block] = sector
        self.end_sector = sector + STRIDE_SECTORS

    def _give_back(self) -> None:
        """After an append that failed let a regular file end where it did, with its footer."""
        if not self.backing.is_block:
            self.primary_at = None
            at = self.end_sector * SECTOR
            with suppress(VHDError):  # Then closing tries again, as for a footer that was lost.
                self.backing.truncate(at + SECTOR)
                self._write_primary(at)

    def flush(self) -> None:
        """Make everything written so far durable, in the order described above.

        Raises:
            NoSpace, StorageFailed: nothing is lost if the bitmaps of new blocks could not be
                written, and a later flush tries again; otherwise the image is given up.
        """
        if self._failed:
            raise self._failed
        if not self._unsynced:
            return
        self._write_new_bitmaps()
        try:
            self._commit()
        except VHDError as error:
            self._failed = error
            raise
        self._unsynced = False

    def _commit(self) -> None:
        """Steps 2 and 3 from the first sync on; if they fail, the medium is in between."""
        self.backing.sync()
        if self._grown:
            self._table.store()
            self._write_grown_bitmaps()
            self.backing.sync()  # The commit point: from here on a cut shows the new content.
            self._settle()

    def _write_new_bitmaps(self) -> None:
        for block, (gap, sector) in self._appended.items():
            empty = zeros((sector - gap) * SECTOR)
            self.backing.write(gap * SECTOR, *empty, bitmap.to_bytes(self._grown[block]))

    def _write_primary(self, at: int) -> None:
        if self.primary_at is None or at < self.primary_at:
            write_primary(self.backing, self._packed, at)
        else:  # The file grows: nothing is to be cut off.
            self.backing.write(at, self._packed)
        self.primary_at = at

    @cached_property
    def _packed(self) -> bytes:
        return self.footer.pack()

    def _write_grown_bitmaps(self) -> None:
        for block, bits in self._grown.items():
            if block not in self._appended:
                self.backing.write(self._table[block] * SECTOR, bitmap.to_bytes(bits))

    def _settle(self) -> None:
        """What was pending is durable: nothing is new or grown any more."""
        if self.batmap is not None:
            self.batmap.add(block for block, bits in self._grown.items() if bits == bitmap.FULL)
        for block, bits in self._grown.items():
            self._remember(block, bits)
        self._grown.clear()
        self._appended.clear()

    def close(self) -> None:
        """Flush, store the batmap and a primary footer that was lost, and close the file."""
        try:
            if not self._failed:
                self.flush()
                self._store_hints()
        finally:
            super().close()

    def _store_hints(self) -> None:
        stale_map = self.batmap is not None and self.batmap.needs_store
        if self.batmap is not None and stale_map:
            self.batmap.store()
        if self.primary_at is None:
            device = self.backing.is_block
            at = self.backing.size() - SECTOR if device else self.end_sector * SECTOR
            self._write_primary(at)
        elif not stale_map:
            return
        self.backing.sync()
