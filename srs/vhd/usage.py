"""How much of its blocks each disk of a chain really uses."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from srs.vhd import bitmap
from srs.vhd.chain import open_chain
from srs.vhd.format import BLOCK_SECTORS, blocks_of
from srs.vhd.image import Image


@dataclass(frozen=True, slots=True)
class Usage:
    """Sectors of one disk: what its blocks have room for, and what of it is ``written``.

    ``not_in_parent`` counts the written sectors that the VHD below does not hold as well,
    ``not_in_ancestors`` those that none below holds; None for the root of the chain.
    """

    path: str
    allocated: int
    written: int
    not_in_parent: int | None = None
    not_in_ancestors: int | None = None


def chain_usage(path: str) -> tuple[Usage, ...]:
    """The usage of the disk ``path`` and of its VHD ancestors, root first.

    Raises:
        VHDError: a disk of the chain cannot be read.
    """
    with open_chain(path) as chain:
        images = [disk for disk in chain.disks if isinstance(disk, Image)]
        return tuple(_usage(*images[level:]) for level in reversed(range(len(images))))


def _usage(image: Image, *ancestors: Image) -> Usage:
    blocks = written = not_in_parent = not_in_ancestors = 0
    for block in image.blocks():
        bits = image.present(block, bitmap.FULL)
        blocks += 1
        written += bits.bit_count()
        held = [_held(above, block, bits) for above in ancestors]
        if held:
            not_in_parent += (bits & ~held[0]).bit_count()
            not_in_ancestors += (bits & ~reduce(or_, held)).bit_count()
    allocated = blocks * BLOCK_SECTORS
    if not ancestors:
        return Usage(image.path, allocated, written)
    return Usage(image.path, allocated, written, not_in_parent, not_in_ancestors)


def _held(image: Image, block: int, wanted: int) -> int:
    """Those of the sectors that ``image`` holds; it may be shorter than its child."""
    return image.present(block, wanted) if block < blocks_of(image.size) else 0
