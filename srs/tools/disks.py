"""Opening a disk to look at it, also one that an interrupted resize has poisoned."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from srs.vhd.backing import Backing
from srs.vhd.errors import BadFooter, NotSparse, Poisoned
from srs.vhd.footers import FoundFooter, find_footer
from srs.vhd.format import FIXED, SECTOR, Footer, checksum, with_checksum
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
        try:
            found = _backup(backing) if backup else find_footer(backing)
        except Poisoned:
            found = _poisoned(backing)
        fixed = found.footer.disk_type == FIXED
        yield Disk(name, backing, found.footer, None if fixed else Image(backing, found))


def _backup(backing: Backing) -> FoundFooter:
    return FoundFooter(Footer.unpack(backing.read(0, SECTOR), backing.path), None)


def _poisoned(backing: Backing) -> FoundFooter:
    """The footer of a disk in the middle of a journaled resize: both copies say so."""
    for at in (backing.size() - SECTOR, 0):
        raw = backing.read(at, SECTOR)
        stored = int.from_bytes(raw[Footer.CHECKSUM_AT : Footer.CHECKSUM_AT + 4], "big")
        if raw[:8] == Footer.POISON and stored == checksum(raw, Footer.CHECKSUM_AT):
            cured = with_checksum(Footer.COOKIE + raw[8:], Footer.CHECKSUM_AT)
            return FoundFooter(Footer.unpack(cured, backing.path), at)
    raise BadFooter(backing.path, "no copy is whole")
