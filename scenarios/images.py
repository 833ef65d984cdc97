"""A second reader of VHD images, which shares no line with the engine in `srs.vhd`.

It is written from Microsoft's format description and knows only what a reader must: footer,
header, block table, sector bitmaps, and XenServer's hidden byte. Slow and simple on purpose,
because it judges the engine: it reads the bytes that a disk must have, and nothing else.
Offsets and sizes are bytes.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

SECTOR: Final = 512
#: The start of an image, as far as `Head.parse` looks: copy of the footer, header.
HEAD: Final = 2048

DYNAMIC, DIFFERENCING = 3, 4
#: Batmap and names of the parent lie within this of the table's end.
_BEHIND_TABLE: Final = 512 << 10
_UNUSED: Final = 0xFFFFFFFF
_FOOTER: Final = struct.Struct(">8sIIQIIIIQQIII16sBB")
_HEADER: Final = struct.Struct(">8sQQIIII16sII512s")

#: offset, length -> the bytes of an image there.
Reader = Callable[[int, int], bytes]


class BadImage(ValueError):
    """An image breaks the format; the text says where."""


def _checked(block: bytes, cookie: bytes, checksum_at: int, what: str) -> bytes:
    """A structure whose cookie and checksum are right."""
    if not block.startswith(cookie):
        raise BadImage(f"{what}: begins with {block[:8]!r}")
    (recorded,) = struct.unpack_from(">I", block, checksum_at)
    counted = ~(sum(block) - sum(block[checksum_at : checksum_at + 4])) & 0xFFFFFFFF
    if recorded != counted:
        raise BadImage(f"{what}: checksum {recorded:#x}, its bytes give {counted:#x}")
    return block


@dataclass(frozen=True, slots=True)
class Head:
    """What footer and header of an image say.

    Attributes:
        id: the image's own identity.
        size: of the virtual disk.
        differencing: it stands on a parent.
        hidden: XenServer's mark of a base copy.
        table: offset of the block table.
        blocks: entries in it.
        block: bytes that an entry stands for.
        parent_id: identity of the parent; zeros for none.
        parent_name: the name that the parent had.
    """

    id: bytes
    size: int
    differencing: bool
    hidden: bool
    table: int
    blocks: int
    block: int
    parent_id: bytes
    parent_name: str

    @classmethod
    def parse(cls, start: bytes, end: bytes) -> Self:
        """Read the first `HEAD` bytes and the last sector of an image that nobody writes to.

        Raises:
            BadImage: a structure is damaged, or the two footers differ.
        """
        footer = _checked(end, b"conectix", 64, "footer at the end")
        if start[:SECTOR] != footer:
            _checked(start[:SECTOR], b"conectix", 64, "copy of the footer")
            raise BadImage("the footer and its copy differ")
        values = _FOOTER.unpack_from(footer)
        kind = values[11]
        if kind not in (DYNAMIC, DIFFERENCING):
            raise BadImage(f"disk type {kind}")
        header = _checked(start[SECTOR : SECTOR + 1024], b"cxsparse", 36, "header")
        fields = _HEADER.unpack_from(header)
        return cls(
            id=values[13],
            size=values[9],
            differencing=kind == DIFFERENCING,
            hidden=bool(values[15]),
            table=fields[2],
            blocks=fields[4],
            block=fields[5],
            parent_id=fields[7],
            parent_name=fields[10].decode("utf-16-be", errors="replace").rstrip("\0"),
        )


class Image:
    """One image, without its ancestors."""

    def __init__(self, head: Head, read: Reader) -> None:
        self.head = head
        self._read = read
        self._bitmap = -(-head.block // SECTOR // 8 // SECTOR) * SECTOR
        table = read(head.table, 4 * -(-head.size // head.block))
        self._table = struct.unpack(f">{len(table) // 4}I", table)

    def used(self, size: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of all that counts in an image of `size` bytes: structures, blocks."""
        places = sorted(sector * SECTOR for sector in self._table if sector != _UNUSED)
        structures = self.head.table + 4 * self.head.blocks + _BEHIND_TABLE
        yield 0, min(structures, size, *places[:1])
        for place in places:
            yield place, self._bitmap + self.head.block
        yield size - SECTOR, SECTOR

    def block_at(self, number: int) -> int:
        """Offset in the image of a block's data.

        Raises:
            KeyError: the image does not hold the block.
        """
        if self._table[number] == _UNUSED:
            raise KeyError(number)
        return int(self._table[number]) * SECTOR + self._bitmap

    def overlay(self, content: bytearray) -> None:
        """Put the sectors that this image holds over what its ancestors show."""
        content.extend(bytes(max(0, self.head.size - len(content))))
        for number, sector in enumerate(self._table):
            if sector != _UNUSED:
                at = sector * SECTOR
                bits = self._read(at, self._bitmap)
                data = self._read(at + self._bitmap, self.head.block)
                _overlay_block(content, number * self.head.block, bits, data)

    def split_pages(self) -> set[int]:
        """Numbers of the 4 KiB pages of which the image holds some sectors and lacks others."""
        per_block = self.head.block // SECTOR // 8
        found = set()
        for number, sector in enumerate(self._table):
            if sector != _UNUSED:
                bits = self._read(sector * SECTOR, per_block)
                pages = (at for at, byte in enumerate(bits) if byte not in (0, 0xFF))
                found |= {number * per_block + page for page in pages}
        return found


def _overlay_block(content: bytearray, start: int, bits: bytes, data: bytes) -> None:
    if bits[: len(data) // SECTOR // 8].strip(b"\xff") == b"":
        end = min(start + len(data), len(content))
        content[start:end] = data[: end - start]
        return
    for sector in range(len(data) // SECTOR):
        at = start + sector * SECTOR
        if bits[sector // 8] & 0x80 >> sector % 8 and at < len(content):
            content[at : at + SECTOR] = data[sector * SECTOR : (sector + 1) * SECTOR]


def content(chain: Sequence[Image]) -> bytes:
    """What a disk shows: the first image over its ancestors, parent first."""
    merged = bytearray()
    for image in reversed(chain):
        image.overlay(merged)
    return bytes(merged[: chain[0].head.size])
