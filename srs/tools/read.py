"""`vhd-util read`: metadata and content of a disk, as text or as bytes.

Blocks, sectors and byte offsets are those of the virtual disk. Questions that are combined are
answered in the order of the table at the end, whatever the order of their letters.
"""

import sys
from array import array
from collections.abc import Callable, Iterator
from errno import EINVAL

from srs.tools import dump
from srs.tools.disks import Disk, peek
from srs.tools.frame import complain, put, say
from srs.tools.options import Options, UsageError
from srs.vhd import bitmap
from srs.vhd.chain import open_chain
from srs.vhd.errors import InvalidImage, OutOfRange
from srs.vhd.format import BLOCK, BLOCK_SECTORS, SECTOR, UNUSED, blocks_of
from srs.vhd.image import Image

Number = Callable[[int], str]
Question = Callable[[Disk, int, int, Number], None]

_PIECE = 1 << 20
_TABLE_PIECE = 64 << 10


def _sectors(disk: Disk, first: int, count: int) -> Iterator[tuple[int, int]]:
    """(block, sector within it) of ``count`` sectors; OutOfRange before the first is given."""
    if (first + count) * SECTOR > disk.sparse.size:
        at, length = first * SECTOR, count * SECTOR
        raise OutOfRange(disk.name, at, length, disk.footer.size)
    return (divmod(sector, BLOCK_SECTORS) for sector in range(first, first + count))


def _blocks(disk: Disk, first: int, count: int) -> Iterator[tuple[int, int | None]]:
    """(block, byte of its bitmap or None) of ``count`` blocks; OutOfRange as above."""
    image = disk.sparse
    if first + count > blocks_of(image.size):
        at, length = first * BLOCK, count * BLOCK
        raise OutOfRange(disk.name, at, length, image.size)
    return ((block, _bitmap_at(image, block)) for block in range(first, first + count))


def _bitmap_at(image: Image, block: int) -> int | None:
    """The byte of the file where the bitmap of ``block`` lies, None if the block is not here."""
    sector = image.sector_of(block)
    return None if sector is None else sector * SECTOR


def headers(disk: Disk, _: int, __: int, number: Number) -> None:
    """``-p``: footer, header, locators, batmap."""
    for line in dump.headers(disk.backing, number):
        say(line)


def sector_places(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-t``: where sectors lie in the file, whether or not they have been written."""
    for block, sector in _sectors(disk, first, count):
        at = _bitmap_at(disk.sparse, block)
        where = "not allocated" if at is None else number(at + (1 + sector) * SECTOR)
        say(
            f"logical sector {number(block * BLOCK_SECTORS + sector)}: "
            f"block number: {number(block)}, sector offset: {number(sector)}, "
            f"file offset: {where}"
        )


def block_places(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-b``: where the bitmaps of blocks lie in the file."""
    for block, at in _blocks(disk, first, count):
        where = "not allocated" if at is None else number(at)
        say(f"block: {number(block)}: offset: {where}")


def allocated(disk: Disk, _: int, __: int, ___: Number) -> None:
    """``-B``: a bit per whole block of the disk, the first in the highest bit of the first byte."""
    image = disk.sparse
    blocks = image.size // BLOCK
    for first in range(0, blocks, _TABLE_PIECE):
        count = min(_TABLE_PIECE, blocks - first)
        raw = disk.backing.read(image.header.bat_offset + first * 4, count * 4)
        digits = "".join("0" if entry == UNUSED else "1" for entry in array("I", raw))
        put(int(digits.ljust(-(-count // 8) * 8, "0"), 2).to_bytes(-(-count // 8), "big"))


def bitmaps(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-m``: the bitmaps of blocks as they are in the file."""
    for block, at in _blocks(disk, first, count):
        if at is None:
            say(f"block {number(block)} not allocated")
        else:
            put(disk.backing.read(at, SECTOR))


def sector_bits(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-i``: whether this file holds the sectors."""
    for block, sector in _sectors(disk, first, count):
        held = disk.sparse.present(block, bitmap.span(sector, sector + 1))
        say(f"block {number(block)}: sec: {number(sector)}: {int(bool(held))}")


def extents(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-e``: each run of sectors that this file holds, as its first sector and its length."""
    _sectors(disk, first, count)
    begin = end = 0
    for start, stop in _runs(disk.sparse, first, count):
        if start != end:
            if end > begin:
                say(f"{number(begin)} {number(end - begin)}")
            begin = start
        end = stop
    if end > begin:
        say(f"{number(begin)} {number(end - begin)}")


def _runs(image: Image, first: int, count: int) -> Iterator[tuple[int, int]]:
    """Runs of sectors held, (first, stop), cut where a block ends."""
    for block, start, stop in bitmap.by_block(first * SECTOR, count * SECTOR):
        base = block * BLOCK_SECTORS
        for run in bitmap.runs(image.present(block, bitmap.span(start, stop))):
            yield base + run[0], base + run[1]


def whole_batmap(disk: Disk, _: int, __: int, ___: Number) -> None:
    """``-a``: the batmap as it is in the file."""
    batmap = disk.sparse.batmap
    if batmap is None or batmap.header is None:
        raise InvalidImage(disk.name, "no batmap")
    header = batmap.header
    length = min(header.map_sectors * SECTOR, batmap.end - header.map_offset)
    put(disk.backing.read(header.map_offset, length))


def batmap_bits(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-j``: whether the batmap calls blocks full; on stderr, as in the field."""
    batmap = disk.sparse.batmap
    for block, _ in _blocks(disk, first, count):
        full = batmap is not None and block in batmap
        complain(f"batmap for block {number(block)}: {int(full)}")


def block_data(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-d``: the data of blocks as they are in this file."""
    for block, at in _blocks(disk, first, count):
        if at is None:
            say(f"block {number(block)} not allocated")
        else:
            put(disk.backing.read(at + SECTOR, BLOCK))


def sectors(disk: Disk, first: int, count: int, number: Number) -> None:
    """``-r``: what a user of the disk reads there, the parents' data included."""
    content(disk, first * SECTOR, count * SECTOR, number)


def content(disk: Disk, at: int, length: int, _: Number) -> None:
    """``-R``: the same in bytes; whole sectors only."""
    if at % SECTOR or length % SECTOR:
        raise InvalidImage(disk.name, f"{length} bytes at {at} are no whole sectors")
    with open_chain(disk.name) as chain:
        if at + length > chain.size:
            raise OutOfRange(disk.name, at, length, chain.size)
        buffer = memoryview(bytearray(min(length, _PIECE)))
        for offset in range(at, at + length, _PIECE):
            piece = buffer[: at + length - offset]
            chain.readinto(offset, piece)
            put(piece)


_QUESTIONS: tuple[tuple[str, Question], ...] = (
    ("p", headers),
    ("t", sector_places),
    ("b", block_places),
    ("B", allocated),
    ("m", bitmaps),
    ("i", sector_bits),
    ("e", extents),
    ("a", whole_batmap),
    ("j", batmap_bits),
    ("d", block_data),
    ("r", sectors),
    ("R", content),
)


def read(options: Options) -> int:
    """Answer each letter that was given for ``-c`` sectors, blocks or bytes (one by default)."""
    name, count = options["n"], options.number("c", 1)
    number = hex if "x" in options else str
    starts = {letter: _start(options, letter) for letter, _ in _QUESTIONS if letter in options}
    with peek(name) as disk:
        if disk.image is None:
            say(f"Failed to get bat for {name}: {-EINVAL}")
            return EINVAL
        for letter, question in _QUESTIONS:
            if letter in starts:
                question(disk, starts[letter], count, number)
    sys.stdout.flush()
    return 0


def _start(options: Options, letter: str) -> int:
    if not options[letter]:
        return 0
    start = options.number(letter)
    if start >> 55:
        raise UsageError(f"option -{letter}: {start} is beyond every disk")
    return start
