"""All metadata of a disk for another size: where they will be, and who has to make room.

The block table stays where it is. What follows it, batmap and locators, moves up by what table
and batmap grow. Blocks that begin below the new end of the metadata move behind all others, in
their order.
"""

from array import array
from dataclasses import dataclass, replace

from srs.vhd.backing import Buffer, zeros
from srs.vhd.batmap import Batmap, covered_bytes, map_checksum
from srs.vhd.errors import BadHeader, NoSpace, SizeRefused
from srs.vhd.format import (
    BLOCK,
    MAX_PREALLOCATED,
    MAX_SIZE,
    SECTOR,
    STRIDE_SECTORS,
    UNUSED,
    Footer,
    align_block,
    blocks_of,
)
from srs.vhd.header import (
    HEADER_LENGTH,
    BatmapHeader,
    Header,
    bat_length,
    batmap_length,
    map_sectors,
)
from srs.vhd.image import Image
from srs.vhd.journal import (
    BACKUP,
    BAT,
    BATMAP,
    BATMAP_HEADER,
    DATA,
    HEADER,
    LOCATOR,
    Place,
)
from srs.vhd.table import encode

_LONGEST_LOCATOR = 64 << 10


@dataclass(frozen=True, slots=True)
class Plan:
    """A disk as it will be.

    ``writes`` are the bytes of the new metadata by their offsets, ``metadata_end`` the byte
    behind them. ``moves`` says from which sector to which each block moves. ``old_end`` and
    ``end`` are the sectors behind the last block before and after. ``saved`` is all that will be
    overwritten, except the primary footer.
    """

    footer: Footer
    writes: list[tuple[int, list[Buffer]]]
    metadata_end: int
    moves: list[tuple[int, int]]
    old_end: int
    end: int
    saved: list[Place]


def plan_for(image: Image, size: int) -> Plan:
    """How ``image`` becomes ``size`` bytes large, a multiple of 2 MiB; only reads.

    Raises:
        SizeRefused: above 2040 GiB or below 2 MiB.
        BadHeader: not a disk that XenServer's tools arranged.
        BadBlock, NoSpace: a block that has to move cannot.
    """
    if not BLOCK <= size <= MAX_SIZE:
        raise SizeRefused(image.path, size, BLOCK, MAX_SIZE)
    batmap, old = _arranged(image)
    old_end = image.end_sector  # Refuses blocks and locators that cannot be in the file.
    header = _enlarged(image.header, blocks_of(size))
    shift = _tables_length(header) - _tables_length(image.header)
    metadata_end = image.metadata_end + shift
    table = image.entries()[: blocks_of(size)]
    moves, end = _moves(image, table, metadata_end)
    texts: list[tuple[int, list[Buffer]]] = [
        (new.offset, [image.backing.read(entry.offset, entry.capacity)])
        for entry, new in zip(image.header.locators, header.locators, strict=True)
        if entry.end
    ]
    return Plan(
        footer=image.footer.resized(size),
        writes=[
            (image.footer.data_offset, [header.pack()]),
            (
                header.bat_offset,
                [_packed(table, header.slots), *_batmap(old, batmap, header, size)],
            ),
            *texts,
        ],
        metadata_end=metadata_end,
        moves=moves,
        old_end=old_end,
        end=end,
        saved=_saved(image, moves),
    )


def _arranged(image: Image) -> tuple[Batmap, BatmapHeader]:
    """The batmap of a disk whose metadata are in the order of XenServer's tools, and its header.

    Raises:
        BadHeader: they are not, or they are larger than any of theirs.
    """
    header, batmap = image.header, image.batmap
    if batmap is None or batmap.header is None:
        raise BadHeader(image.path, "a disk without a usable batmap cannot be rearranged")
    behind = header.bat_offset + _tables_length(header)
    if (
        header.slots > blocks_of(MAX_PREALLOCATED)
        or image.footer.data_offset + HEADER_LENGTH > header.bat_offset
        or any(entry.offset < behind for entry in header.locators if entry.end)
        or any(entry.capacity > _LONGEST_LOCATOR for entry in header.locators)
    ):
        raise BadHeader(image.path, "its metadata are in an order that cannot be rearranged")
    return batmap, batmap.header


def _tables_length(header: Header) -> int:
    """Bytes of block table and batmap together."""
    return bat_length(header.slots) + batmap_length(header.slots)


def _enlarged(header: Header, blocks: int) -> Header:
    """``header`` with at least ``blocks`` slots, its locators moved out of the way."""
    larger = replace(header, slots=max(header.slots, blocks))
    shift = _tables_length(larger) - _tables_length(header)
    moved = (replace(e, offset=e.offset + shift) if e.end else e for e in header.locators)
    return replace(larger, locators=tuple(moved))


def _moves(
    image: Image, table: "array[int]", metadata_end: int
) -> tuple[list[tuple[int, int]], int]:
    """Move blocks out of the metadata, in ``table``, too; the moves, and the sector behind all.

    Raises:
        BadBlock: a block lies in the old metadata, or out of the file.
        NoSpace: no room behind the other blocks, or none behind the metadata.
    """
    first = -(-metadata_end // SECTOR)
    highest = max((entry for entry in table if entry != UNUSED), default=-STRIDE_SECTORS)
    end = max(first, highest + STRIDE_SECTORS)
    moves = []
    lowest = (block for block, sector in enumerate(table) if sector < first)
    for block in sorted(lowest, key=table.__getitem__):
        sector = image.data_offset(block) // SECTOR - 1
        to = align_block(end)
        end = to + STRIDE_SECTORS
        _refuse_past_the_end(image, end)
        table[block] = to
        moves.append((sector, to))
    _refuse_past_the_end(image, end)
    return moves, end


def _refuse_past_the_end(image: Image, end: int) -> None:
    """Raise NoSpace if a disk that ends before sector ``end`` has no room for its footer."""
    needed = (end + 1) * SECTOR
    limit = image.backing.size() if image.backing.is_block else (UNUSED + 1) * SECTOR
    if needed > limit:
        raise NoSpace(image.path, needed, limit)


def _packed(table: "array[int]", slots: int) -> bytes:
    """The bytes of a block table: the entries in use, unused ones, and zeros up to a sector."""
    raw = encode(table) + b"\xff" * (4 * (slots - len(table)))
    return raw.ljust(bat_length(slots), b"\0")


def _batmap(old: BatmapHeader, batmap: Batmap, header: Header, size: int) -> list[Buffer]:
    """The batmap for ``size`` bytes, with the bits that are true for the blocks that stay."""
    kept = batmap.first(blocks_of(size))[: covered_bytes(size)]
    new = replace(
        old,
        map_offset=header.bat_offset + bat_length(header.slots) + SECTOR,
        map_sectors=map_sectors(header.slots),
        checksum=map_checksum(kept),
    )
    return [new.pack(), kept.ljust(new.map_sectors * SECTOR, b"\0")]


def _saved(image: Image, moves: list[tuple[int, int]]) -> list[Place]:
    """What the new metadata will overwrite, in the order of the field's journals."""
    header, batmap_at = image.header, image.header.bat_offset + bat_length(image.header.slots)
    return [
        Place(BACKUP, 0, SECTOR),
        Place(HEADER, image.footer.data_offset, HEADER_LENGTH),
        *(Place(LOCATOR, entry.offset, entry.capacity) for entry in header.locators if entry.end),
        Place(BAT, header.bat_offset, bat_length(header.slots)),
        Place(BATMAP_HEADER, batmap_at, SECTOR),
        Place(BATMAP, batmap_at + SECTOR, batmap_length(header.slots) - SECTOR),
        *(
            place
            for sector, _ in moves
            for place in (
                Place(DATA, sector * SECTOR, SECTOR),
                Place(DATA, (sector + 1) * SECTOR, BLOCK),
            )
        ),
    ]


def carry_out(image: Image, plan: Plan) -> None:
    """Move the blocks and write all metadata but the footers; durable."""
    backing, end = image.backing, plan.old_end
    data = memoryview(bytearray(STRIDE_SECTORS * SECTOR))
    for old, new in plan.moves:
        backing.readv(old * SECTOR, [data])
        backing.write(end * SECTOR, *zeros((new - end) * SECTOR), data)
        end = new + STRIDE_SECTORS
    for old, _ in plan.moves:
        # What stays of the old place in front of the first block is a gap, which is zero.
        start = max(old * SECTOR, plan.metadata_end)
        backing.write(start, *zeros((old + STRIDE_SECTORS) * SECTOR - start))
    for offset, buffers in plan.writes:
        backing.write(offset, *buffers)
    # Now, because XenServer's tools believe a whole primary footer, the next to be written.
    backing.sync()
