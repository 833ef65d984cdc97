"""A disk with its holes left out, so that a fuzzer's input is hundreds of bytes and not megabytes.

    0 what to do with the disk B | 1 length of the file Q
    9 pieces: offset Q, length H, bytes; a piece that is cut short ends with the input

Any bytes are a picture of something.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from srs.vhd import SECTOR

_HEAD = struct.Struct(">BQ")
_PIECE = struct.Struct(">QH")
_LONGEST_FILE = 1 << 40
_LONGEST_PIECE = 0xFFFF // SECTOR * SECTOR


@dataclass(slots=True)
class Picture:
    """``act`` picks the operation, ``pieces`` are (offset, bytes) in a file of ``length`` bytes."""

    act: int
    length: int
    pieces: list[tuple[int, bytearray]]

    @classmethod
    def of(cls, path: Path, act: int) -> "Picture":
        """The picture of a file: its sectors that hold more than zeros."""
        raw = path.read_bytes()
        pieces: list[tuple[int, bytearray]] = []
        for at in range(0, len(raw), SECTOR):
            sector = raw[at : at + SECTOR]
            if any(sector):
                if pieces and _joins(pieces[-1], at):
                    pieces[-1][1].extend(sector)
                else:
                    pieces.append((at, bytearray(sector)))
        return cls(act, len(raw), pieces)

    @classmethod
    def unpack(cls, data: bytes) -> "Picture":
        """Read a picture; see the module."""
        act, length = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size, b"\0"))
        pieces = []
        at = _HEAD.size
        while at + _PIECE.size <= len(data):
            offset, size = _PIECE.unpack_from(data, at)
            at += _PIECE.size
            pieces.append((offset, bytearray(data[at : at + size])))
            at += size
        return cls(act, length, pieces)

    def pack(self) -> bytes:
        """The fuzzer's input for this picture."""
        parts: list[bytes | bytearray] = [_HEAD.pack(self.act & 0xFF, self.length & (1 << 64) - 1)]
        for offset, data in self.pieces:
            parts += [_PIECE.pack(offset & (1 << 64) - 1, len(data)), data]
        return b"".join(parts)

    def fit(self, limit: int) -> None:
        """Leave out the largest pieces until the packed picture has at most ``limit`` bytes."""
        self.pieces.sort(key=lambda piece: len(piece[1]))
        while len(self.pack()) > limit:
            self.pieces.pop()
        self.pieces.sort(key=lambda piece: piece[0])

    def draw(self, path: Path) -> None:
        """Make the file. What would lie past its end, or past a TiB, is left out."""
        length = self.length % (_LONGEST_FILE + 1)
        with path.open("wb") as file:
            file.truncate(length)
            for offset, data in self.pieces:
                if offset < length:
                    file.seek(offset)
                    file.write(data[: length - offset])


def _joins(piece: tuple[int, bytearray], at: int) -> bool:
    offset, data = piece
    return offset + len(data) == at and len(data) < _LONGEST_PIECE
