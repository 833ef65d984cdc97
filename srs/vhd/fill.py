"""Giving a disk everything that it has from others, so that it stands alone."""

import os

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath
from srs.vhd.chain import open_chain
from srs.vhd.errors import NotSparse
from srs.vhd.format import BLOCK, SECTOR, blocks_of
from srs.vhd.image import Image


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
