"""Sets of sectors within a block, as 4096-bit integers.

Bit 4095 is sector 0, the way a block's bitmap of 512 bytes reads as one big-endian number. So
union, difference and "is anything left" are single operations on the whole block.
"""

from collections.abc import Iterator

from srs.vhd.format import BLOCK_SECTORS, SECTOR

BITMAP_BYTES = BLOCK_SECTORS // 8
FULL = (1 << BLOCK_SECTORS) - 1
"""Every sector of a block."""


def span(first: int, stop: int) -> int:
    """The set of sectors from ``first`` up to, not including, ``stop``."""
    return ((1 << (stop - first)) - 1) << (BLOCK_SECTORS - stop)


def runs(bits: int) -> Iterator[tuple[int, int]]:
    """Each maximal run of sectors as (first, stop), in ascending order."""
    if not bits:
        return
    first = BLOCK_SECTORS - bits.bit_length()
    stop = BLOCK_SECTORS + 1 - (bits & -bits).bit_length()
    if bits.bit_count() == stop - first:
        # One run is by far the most frequent set, and needs no text.
        yield first, stop
        return
    text = f"{bits:0{BLOCK_SECTORS}b}"
    while first >= 0:
        stop = text.find("0", first)
        if stop < 0:
            stop = BLOCK_SECTORS
        yield first, stop
        first = text.find("1", stop)


def from_bytes(raw: bytes | bytearray) -> int:
    """The set that a block's bitmap on disk describes."""
    return int.from_bytes(raw, "big")


def to_bytes(bits: int) -> bytes:
    """The 512 bytes of a block's bitmap."""
    return bits.to_bytes(BITMAP_BYTES, "big")


def by_block(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Cut whole sectors at block boundaries: (block, first sector within it, stop)."""
    sector, end = offset // SECTOR, (offset + length) // SECTOR
    while sector < end:
        block, first = divmod(sector, BLOCK_SECTORS)
        stop = min(BLOCK_SECTORS, first + end - sector)
        yield block, first, stop
        sector += stop - first


def pieces(offset: int, data: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """As :func:`by_block`, each with its part of ``data``, which lies at ``offset``."""
    at = 0
    for block, first, stop in by_block(offset, len(data)):
        length = (stop - first) * SECTOR
        yield block, first, stop, data[at : at + length]
        at += length
