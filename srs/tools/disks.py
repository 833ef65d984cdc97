"""Opening a disk to look at it, also one that an interrupted resize has poisoned."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from srs.vhd.backing import Backing
from srs.vhd.errors import NotSparse
from srs.vhd.footers import FoundFooter, find_footer
from srs.vhd.format import FIXED, SECTOR, Footer
from srs.vhd.image import Image


@dataclass(frozen=True, slots=True)
class Disk:
    """An open disk without its parents; ``image`` is None for a fixed one."""

    name: str
    backing: Backing
    footer: Footer
    image: Image | None

    @property
    def sparse(self) -> Image:
        """The image; raises NotSparse for a fixed disk."""
        if self.image is None:
            raise NotSparse(self.name)
        return self.image


@contextmanager
def peek(name: str, *, backup: bool = False) -> Iterator[Disk]:
    """Open ``name`` for reading, with ``backup`` by its backup footer.

    Raises what opening a disk raises, but for Poisoned.
    """
    with Backing(name) as backing:
        if backup:
            raw = backing.read(0, SECTOR)
            found = FoundFooter(Footer.unpack(raw, name, poisoned=True), None)
        else:
            found = find_footer(backing, poisoned=True)
        fixed = found.footer.disk_type == FIXED
        yield Disk(name, backing, found.footer, None if fixed else Image(backing, found))
