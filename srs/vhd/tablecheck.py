"""The rules that block table, batmap and bitmaps of a disk must keep together.

A full disk of 2 TiB has a million blocks, so whatever looks at all of them runs inside the
interpreter's own loops (sorted, map, compress) and not in Python code per block.
"""

from array import array
from collections.abc import Iterator
from itertools import compress, count, islice, pairwise
from operator import and_, sub

from srs.vhd import bitmap
from srs.vhd.backing import ZEROS
from srs.vhd.format import SECTOR, STRIDE_SECTORS, UNUSED
from srs.vhd.image import Image

_SORTED_AT_ONCE = 1 << 29
"""Sectors of the file whose blocks are put in order together: 131,000 blocks, 5 MiB."""


def misplaced(entries: "array[int]", first: int, stop: int) -> Iterator[tuple[int, str]]:
    """Blocks outside the sectors from ``first`` up to ``stop``, and what they overwrite."""
    if min(entries, default=UNUSED) < first:
        for block in compress(count(), map(first.__gt__, entries)):
            yield block, "headers"
    last = stop - STRIDE_SECTORS
    if max(filter(UNUSED.__ne__, entries), default=0) > last:
        for block in compress(count(), map(last.__lt__, entries)):
            if entries[block] != UNUSED:
                yield block, "footer"


def overlapping(entries: "array[int]") -> Iterator[tuple[int, int]]:
    """Pairs of blocks that share sectors of the file, found by putting them in order."""
    before: list[int] = []
    for part in _ascending(entries):
        row = before + part
        if min(map(sub, islice(row, 1, None), row), default=STRIDE_SECTORS) < STRIDE_SECTORS:
            for low, high in pairwise(row):
                if high - low < STRIDE_SECTORS:
                    one = entries.index(low)
                    yield one, entries.index(high, one + 1 if low == high else 0)
        before = row[-1:]


def _ascending(entries: "array[int]") -> Iterator[list[int]]:
    """The sectors in use in ascending order, in parts that bound the memory."""
    highest = max(filter(UNUSED.__ne__, entries), default=-1)
    for start in range(0, highest + 1, _SORTED_AT_ONCE):
        stop = min(start + _SORTED_AT_ONCE, UNUSED)
        yield sorted([entry for entry in entries if start <= entry < stop])


def full_but_absent(entries: "array[int]", covered: bytes) -> Iterator[int]:
    """Blocks that the batmap, as far as it is ``covered`` by its checksum, calls full wrongly."""
    if not any(covered):
        return iter(())
    text = f"{int.from_bytes(covered, 'big'):0{len(covered) * 8}b}"
    full = text.encode().translate(bytes(byte & 1 for byte in range(256)))
    return compress(count(), map(and_, full, map(UNUSED.__eq__, entries)))


def unexpected_data(image: Image) -> Iterator[tuple[int, int]]:
    """Sectors (block, sector within it) that hold data although their bit is clear."""
    for block in image.blocks():
        clear = bitmap.FULL & ~image.present(block, bitmap.FULL)
        for first, stop in bitmap.runs(clear):
            yield from ((block, sector) for sector in _nonzero(image, block, first, stop))


def _nonzero(image: Image, block: int, first: int, stop: int) -> Iterator[int]:
    """Those of a run of sectors of an allocated block that are not zeros."""
    step = len(ZEROS) // SECTOR
    base = image.data_offset(block)
    for start in range(first, stop, step):
        data = image.backing.read(base + start * SECTOR, min(step, stop - start) * SECTOR)
        if data != ZEROS[: len(data)]:
            for at in range(0, len(data), SECTOR):
                if any(data[at : at + SECTOR]):
                    yield start + at // SECTOR
