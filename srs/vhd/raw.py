"""A raw file or device, or the data of a fixed VHD: every sector of it is present."""

import os
from collections.abc import Iterator

from srs.vhd import bitmap
from srs.vhd.backing import ZEROS, AnyPath, Backing, zeros
from srs.vhd.format import BLOCK, NULL_ID, SECTOR, Footer, blocks_of


class Raw:
    """Flat storage of ``size`` bytes: a disk of its own, or the root of a chain.

    A tail shorter than a sector is left out, as the field's data path does.
    """

    def __init__(self, backing: Backing, footer: Footer | None = None) -> None:
        """Take over ``backing``; a fixed VHD brings the ``footer`` that follows its data."""
        self.backing = backing
        self.path = backing.path
        self.size = (footer.size if footer else backing.size()) // SECTOR * SECTOR
        self.unique_id = footer.unique_id if footer else NULL_ID
        self._unsynced = False

    def blocks(self) -> Iterator[int]:
        """Every block that is not a hole; holes hold zeros."""
        last = -1
        for start, stop in self.backing.data(0, self.size):
            yield from range(max(last + 1, start // BLOCK), blocks_of(stop))
            last = blocks_of(stop) - 1

    def present(self, block: int, wanted: int) -> int:
        """All of the ``wanted`` sectors: flat storage has no holes that lead elsewhere."""
        return wanted

    def data(self, block: int, wanted: int) -> int:
        """Those of the ``wanted`` sectors that may not be zeros.

        A file tells by its holes; of a device, which has none, pieces of 64 KiB are looked at.
        """
        held = 0
        base = block * BLOCK
        end = min(base + BLOCK, self.size)
        find = self._nonzero if self.backing.is_block else self.backing.data
        for start, stop in find(base, end):
            held |= bitmap.span((start - base) // SECTOR, -(-(stop - base) // SECTOR))
        return wanted & held

    def _nonzero(self, base: int, end: int) -> Iterator[tuple[int, int]]:
        for at in range(base, end, len(ZEROS)):
            piece = self.backing.read(at, min(len(ZEROS), end - at))
            if piece != ZEROS[: len(piece)]:
                yield at, at + len(piece)

    def data_offset(self, block: int) -> int:
        """The byte where the data of ``block`` begin."""
        return block * BLOCK

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole sectors; the caller keeps them inside the disk."""
        self.backing.write(offset, data)
        self._unsynced = True

    def write_held(self, block: int, held: int, view: memoryview) -> None:
        """Write the sectors ``held`` of ``block``, each from its place in ``view``, 2 MiB."""
        for first, stop in bitmap.runs(held):
            self.write(block * BLOCK + first * SECTOR, view[first * SECTOR : stop * SECTOR])

    def write_zeros(self, block: int, first: int, stop: int) -> None:
        """Write zeros into the sectors of ``block`` from ``first`` up to ``stop``."""
        self.backing.write(block * BLOCK + first * SECTOR, *zeros((stop - first) * SECTOR))
        self._unsynced = True

    def flush(self) -> None:
        """Make everything written so far durable."""
        if self._unsynced:
            self.backing.sync()
            self._unsynced = False

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            self.backing.close()


def wipe(path: AnyPath, offset: int) -> None:
    """Make a block device zeros from ``offset`` to its end, durably.

    Raises:
        StorageFailed: it cannot be opened or written; some of it may be zeros.
    """
    with Backing(os.fspath(path), writable=True) as device:
        device.write_zeros(offset, device.size() - offset)
        device.sync()
