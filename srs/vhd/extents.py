"""Where a disk holds something."""

import os
from collections.abc import Iterator

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath
from srs.vhd.chain import Chain, open_chain
from srs.vhd.format import BLOCK, SECTOR
from srs.vhd.parent import open_disk


def extents(path: AnyPath, *, ancestors: bool = False) -> Iterator[tuple[int, int]]:
    """The runs of sectors that the file ``path`` holds, as (offset, length) in bytes, ascending.

    Runs that touch are one, across blocks, too. With ``ancestors`` what any disk of the chain
    holds counts: everything else reads as zeros. Of flat storage all counts that is no hole.

    Raises:
        VHDError: a disk cannot be opened or read, or with ``ancestors`` one was not found.
    """
    path = os.fspath(path)
    with open_chain(path) if ancestors else Chain([open_disk(path)]) as chain:
        begin = end = 0
        for start, stop in _runs(chain):
            if start != end:
                if end:
                    yield begin, end - begin
                begin = start
            end = stop
        if end:
            yield begin, end - begin


def _runs(chain: Chain) -> Iterator[tuple[int, int]]:
    """The runs within each block, as (first byte, byte after)."""
    for block in chain.blocks():
        held = 0
        for _, here in chain.data(block):
            held |= here
        for first, stop in bitmap.runs(held):
            yield block * BLOCK + first * SECTOR, block * BLOCK + stop * SECTOR
