"""Disks to measure on: full ones made sparse, others written from a fixed seed."""

import random
import struct
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from srs import vhd
from srs.vhd.batmap import covered_bytes, map_checksum

MIB, GIB = 1 << 20, 1 << 30
PAGE = 4096
DEPTH = 30
PARENT_ID = UUID(int=1)
_SEED = 20
_STRIDE = 8 + vhd.BLOCK // vhd.SECTOR
"""Sectors from one block to the next: bitmap, data, and the gap that aligns them."""


def noise(length: int) -> bytes:
    """``length`` bytes that no program takes for zeros."""
    return random.Random(_SEED).randbytes(length)


def write(path: Path, places: Iterable[int], unit: int) -> None:
    """Write ``unit`` random bytes at each of the ``places``, which count in units."""
    data = noise(unit)
    with vhd.open_chain(path, writable=True) as disk:
        for place in places:
            disk.write(place * unit, data)


def remove(*paths: Path) -> None:
    """Remove files that may be there; their dirty pages go with them."""
    for path in paths:
        path.unlink(missing_ok=True)


def scattered(size: int, count: int) -> list[int]:
    """The numbers of ``count`` pages spread by lot over a disk of ``size`` bytes, ascending."""
    return sorted(random.Random(_SEED).sample(range(size // PAGE), count))


def chain(directory: Path, size: int, unit: int) -> Path:
    """The leaf of a chain of thirty disks that together hold half of the disk.

    Each unit (bytes) that is there lies in one disk only, drawn by lot.
    """
    chance = random.Random(_SEED)
    units = chance.sample(range(size // unit), size // unit // 2)
    leaf = directory / "0.vhd"
    vhd.create(leaf, size)
    for level in range(DEPTH):
        if level:
            below, leaf = leaf, directory / f"{level}.vhd"
            vhd.snapshot(leaf, below)
        write(leaf, sorted(units[level::DEPTH]), unit)
    return leaf


def full(path: Path, size: int, *, bitmaps: bool = True) -> None:
    """A disk of which every block is allocated and full by its bitmap, the data being holes.

    Without ``bitmaps`` only the batmap calls the blocks full; even 2 TiB take a few MiB then.
    """
    vhd.create(path, size)
    slots = size // vhd.BLOCK
    covered = covered_bytes(size)
    with path.open("r+b") as file:
        footer = file.read(vhd.SECTOR)
        table_at = 3 * vhd.SECTOR
        map_at = table_at + -(-slots * 4 // vhd.SECTOR) * vhd.SECTOR
        end = path.stat().st_size // vhd.SECTOR - 1
        first = end + (7 - end) % 8
        entries = array("I", range(first, first + slots * _STRIDE, _STRIDE))
        full_bits = (b"\xff" * (slots // 8)).ljust(covered, b"\0")[:covered]
        for sector in entries if bitmaps else ():
            file.seek(sector * vhd.SECTOR)
            file.write(b"\xff" * vhd.SECTOR)
        file.seek((first + slots * _STRIDE - 7) * vhd.SECTOR)
        file.write(footer)
        if sys.byteorder == "little":
            entries.byteswap()
        file.seek(table_at)
        file.write(entries.tobytes())
        file.seek(map_at + 24)
        file.write(struct.pack(">I", map_checksum(full_bits)))
        file.seek(map_at + vhd.SECTOR)
        file.write(full_bits)
