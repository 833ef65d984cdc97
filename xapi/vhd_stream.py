"""VHD as a stream: what export_raw_vdi sends and import_raw_vdi reads, front to back.

    0       footer            512     a copy of the one at the end
    512     dynamic header    1024
    1536    block table       4 * slots, padded to a sector: where each block's bitmap lies
            parent locator    512     of a differencing disk: the parent's file name
            block, block ...          a bitmap of 512 bytes, then 2 MiB of data
    end     footer            512

All integers are big-endian. The table comes before the blocks, so an exporter must know which
blocks there are before it sends the first. Source: the Microsoft VHD specification 1.0; the
creator is the one of XenServer's own tools, whose disks have exactly the size that they name.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

SECTOR: Final = 512
BLOCK: Final = 2 << 20
#: Disks larger than this need sector numbers of more than 32 bits.
MAX_SIZE: Final = 2040 << 30

_FOOTER = struct.Struct(">8sIIQI4sIIQQHBBII16sB427x")
_HEADER = struct.Struct(">8sQQIIII16sI4x512s24s168x256x")
_LOCATOR = struct.Struct(">4sIIIQ")
_HEADER_AT, _TABLE_AT = 512, 1536
_UNUSED = 0xFFFFFFFF
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_DYNAMIC, _DIFFERENCING = 3, 4
#: Of XenServer's tools, in the version before they put a second map behind the table.
_CREATOR = (b"tap\0", 0x00010001, 0)
_BITMAP = b"\xff" * SECTOR
_LARGEST_BLOCK = 16 << 20


class BadVHD(Exception):
    """The stream is no VHD that can be read front to back; the text says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """A disk to be sent: `blocks` are the numbers of those that the stream holds, ascending.

    With a `parent` (its id, which is that of its own VHD) the disk is a differencing one.
    """

    uuid: UUID
    size: int
    blocks: Sequence[int]
    parent: UUID | None = None

    @property
    def length(self) -> int:
        """Bytes of the whole stream."""
        return self._first_block + len(self.blocks) * (SECTOR + BLOCK) + SECTOR

    def head(self) -> bytes:
        """Everything before the first block."""
        table = [_UNUSED] * _slots(self.size)
        for index, block in enumerate(self.blocks):
            table[block] = (self._first_block + index * (SECTOR + BLOCK)) // SECTOR
        packed = struct.pack(f">{len(table)}I", *table).ljust(_table_length(self.size), b"\xff")
        link = self._parent_link.ljust(SECTOR, b"\0") if self.parent else b""
        return self.foot() + self._header() + packed + link

    def block(self, data: bytes) -> bytes:
        """One block, in the order of `blocks`; the last of a disk may be given short."""
        return _BITMAP + data.ljust(BLOCK, b"\0")

    def foot(self) -> bytes:
        """The footer."""
        kind = _DIFFERENCING if self.parent else _DYNAMIC
        raw = _FOOTER.pack(
            *(b"conectix", 2, 0x00010000, _HEADER_AT, 0, *_CREATOR, self.size, self.size),
            *(*_geometry(self.size), kind, 0, self.uuid.bytes, 0),
        )
        return _with_checksum(raw, 64)

    @property
    def _first_block(self) -> int:
        return _TABLE_AT + _table_length(self.size) + (SECTOR if self.parent else 0)

    @property
    def _parent_link(self) -> bytes:
        return f"file://./{self.parent}.vhd".encode()

    def _header(self) -> bytes:
        parent, name, locator = bytes(16), b"", b""
        if self.parent:
            parent, name = self.parent.bytes, f"{self.parent}.vhd".encode("utf-16-be")
            at = _TABLE_AT + _table_length(self.size)
            locator = _LOCATOR.pack(b"MacX", SECTOR, len(self._parent_link), 0, at)
        raw = _HEADER.pack(
            *(b"cxsparse", _NOWHERE, _TABLE_AT, 0x00010000, _slots(self.size), BLOCK, 0),
            *(parent, 0, name, locator),
        )
        return _with_checksum(raw, 36)


def _slots(size: int) -> int:
    return -(-size // BLOCK)


def _table_length(size: int) -> int:
    return _sectors(_slots(size) * 4)


def _sectors(length: int) -> int:
    """A length in bytes, rounded up to whole sectors."""
    return -(-length // SECTOR) * SECTOR


def _with_checksum(raw: bytes, at: int) -> bytes:
    total = ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF
    return raw[:at] + total.to_bytes(4, "big") + raw[at + 4 :]


def _geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the rule of the specification."""
    total = min(-(-size // SECTOR), 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    sectors, tracks = 17, total // 17
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads, tracks = 31, 16, total // 31
    if tracks >= heads * 1024:
        sectors, heads, tracks = 63, 16, total // 63
    return tracks // heads, heads, sectors


# -- reading


@dataclass(frozen=True, slots=True)
class Span:
    """`data` belongs at `offset` of the disk, both in bytes."""

    offset: int
    data: bytes


class Reader:
    """A VHD that comes as a stream. `read(n)` gives n bytes, or fewer at the end of the stream.

    `room` is the size of the largest disk that is taken, in bytes. The block table, which grows
    with the disk that the stream speaks of, is not read before that is known.

    Raises (every method):
        BadVHD: the stream is something else, a larger disk, ends early, or jumps back.
    """

    def __init__(self, read: Callable[[int], bytes], room: int = MAX_SIZE) -> None:
        self._read, self._position = read, 0
        footer = self._structure(_FOOTER, b"conectix", "VHD footer at its start")
        self.size: int = footer[9]
        if self.size > room:
            raise BadVHD(f"a VHD of {self.size} bytes is too large for {room}")
        if footer[13] not in (_DYNAMIC, _DIFFERENCING):
            raise BadVHD("only dynamic and differencing VHDs can be streamed; send others as raw")
        #: A differencing disk says nothing of what is not in it.
        self.differencing = footer[13] == _DIFFERENCING
        self._skip_to(footer[3])
        header = self._structure(_HEADER, b"cxsparse", "dynamic header")
        self.block_size: int = header[5]
        self._table = self._read_table(at=header[2], entries=header[4])

    @property
    def missing(self) -> Iterator[int]:
        """The numbers of the blocks that are not in the stream."""
        return (block for block, sector in enumerate(self._table) if sector == _UNUSED)

    def spans(self) -> Iterator[Span]:
        """What is in the stream, in the stream's order; only once."""
        held = [block for block, sector in enumerate(self._table) if sector != _UNUSED]
        held.sort(key=self._table.__getitem__)
        bitmap_length = _sectors(self.block_size // SECTOR // 8)
        for block in held:
            self._skip_to(self._table[block] * SECTOR)
            bitmap = self._exactly(bitmap_length)
            data = self._exactly(self.block_size)
            yield from self._of_block(block * self.block_size, bitmap, data)
        # The footer, so that whoever sends it can send it all. Nothing depends on it.
        self._read(SECTOR)

    def _of_block(self, start: int, bitmap: bytes, data: bytes) -> Iterator[Span]:
        data = data[: self.size - start]
        bits = format(int.from_bytes(bitmap, "big"), f"0{len(bitmap) * 8}b")
        runs = [(run.start() * SECTOR, run.end() * SECTOR) for run in re.finditer("1+", bits)]
        if self.differencing:
            for begin, end in runs:
                if piece := data[begin:end]:
                    yield Span(start + begin, piece)
            return
        whole = bytearray(len(data))
        for begin, end in runs:
            whole[begin : min(end, len(data))] = data[begin:end]
        yield Span(start, bytes(whole))

    def _structure(self, layout: struct.Struct, cookie: bytes, name: str) -> tuple[Any, ...]:
        raw = self._exactly(layout.size)
        at = 64 if layout is _FOOTER else 36
        if raw[:8] != cookie:
            raise BadVHD(f"the stream has no {name}")
        if _with_checksum(raw, at) != raw:
            raise BadVHD(f"the checksum of the {name} is wrong")
        return layout.unpack(raw)

    def _read_table(self, at: int, entries: int) -> array[int]:
        size = self.block_size
        if size & (size - 1) or not 4096 <= size <= _LARGEST_BLOCK:
            raise BadVHD(f"blocks of {size} bytes")
        slots = -(-self.size // size)
        if slots > entries:
            raise BadVHD(f"a table of {entries} blocks for a disk of {self.size} bytes")
        self._skip_to(at)
        table = array("I")
        while missing := slots - len(table):
            table.frombytes(self._exactly(min(BLOCK, missing * table.itemsize)))
        if sys.byteorder == "little":
            table.byteswap()
        return table

    def _skip_to(self, position: int) -> None:
        if position < self._position:
            raise BadVHD(f"at {self._position} the stream leads back to {position}")
        while self._position < position:
            self._exactly(min(BLOCK, position - self._position))

    def _exactly(self, length: int) -> bytes:
        parts: list[bytes] = []
        missing = length
        while missing:
            part = self._read(missing)
            if not part:
                raise BadVHD(f"the stream ends {missing} bytes early, at {self._position}")
            parts.append(part)
            missing -= len(part)
            self._position += len(part)
        return b"".join(parts)
