"""A raw file or device, or the data of a fixed VHD: every sector of it is present."""

from collections.abc import Iterator

from srs.vhd.backing import Backing, zeros
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
        """Every block: flat storage holds them all."""
        return iter(range(blocks_of(self.size)))

    def present(self, block: int, wanted: int) -> int:
        """All of the ``wanted`` sectors: flat storage has no holes that lead elsewhere."""
        return wanted

    def data_offset(self, block: int) -> int:
        """The byte where the data of ``block`` begin."""
        return block * BLOCK

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole sectors; the caller keeps them inside the disk."""
        self.backing.write(offset, data)
        self._unsynced = True

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
