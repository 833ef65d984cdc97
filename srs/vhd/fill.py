"""Giving a disk everything that it has from others, so that it stands alone."""

import os
from contextlib import closing

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath
from srs.vhd.chain import open_chain
from srs.vhd.errors import InvalidImage, NotSparse, OutOfRange
from srs.vhd.format import BLOCK, BLOCK_SECTORS, SECTOR, blocks_of
from srs.vhd.image import Image
from srs.vhd.parent import open_disk
from srs.vhd.writer import ImageWriter


def fill(path: AnyPath) -> None:
    """Write into the disk ``path`` every sector that it does not hold, as it reads today.

    Afterwards all its blocks are allocated and full, and none of its ancestors is needed for
    reading. A cut leaves a disk with the same content, some of it filled.

    Raises:
        NotSparse: a fixed disk holds everything already.
        ParentMissing, ParentMismatch: the chain is not the one it was made as.
        NoSpace: the disk keeps its content, and what was filled.
        VHDError: a disk cannot be read or written.
    """
    with open_chain(path, writable=True) as chain:
        leaf = chain.disks[0]
        if not isinstance(leaf, Image):
            raise NotSparse(os.fspath(path))
        buffer = memoryview(bytearray(BLOCK))
        for block in range(blocks_of(chain.size)):
            room = bitmap.span(0, min(BLOCK, chain.size - block * BLOCK) // SECTOR)
            for first, stop in bitmap.runs(room & ~leaf.present(block, room)):
                at, view = block * BLOCK + first * SECTOR, buffer[: (stop - first) * SECTOR]
                chain.readinto(at, view)
                chain.write(at, view)


def allocate(path: AnyPath, first: int = 0, stop: int | None = None) -> None:
    """Allocate the absent blocks of the sectors from ``first`` up to ``stop``, the disk's end.

    They then hold whatever the medium has in their place: zeros on a file that grows, anything
    on a device. That is for a disk which is going to be written as a whole.

    Raises:
        NotSparse: a fixed disk.
        InvalidImage: a differencing disk, whose parent's data would be hidden.
        OutOfRange: the disk does not have these sectors.
        NoSpace: blocks before the one that does not fit are allocated.
        VHDError: the disk cannot be opened or written.
    """
    path = os.fspath(path)
    with closing(open_disk(path, writable=True)) as image:
        if not isinstance(image, ImageWriter):
            raise NotSparse(path)
        if image.differencing:
            raise InvalidImage(path, "allocating blocks would hide the data of its parent")
        last = image.size // SECTOR
        stop = last if stop is None else stop
        if not first <= stop <= last:
            raise OutOfRange(path, first * SECTOR, (stop - first) * SECTOR, image.size)
        for block in range(first // BLOCK_SECTORS, blocks_of(stop * SECTOR)):
            if image.sector_of(block) is None:
                image.reserve(block)
