"""Files with holes, copied so that holes stay holes."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GRAIN: Final = 4096
#: Bytes that are read at once.
_PIECE: Final = 64 << 10


def extents(fd: int, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of each piece of a part of a file that is no hole."""
    end = os.fstat(fd).st_size if end is None else end
    while begin < end:
        try:
            begin = os.lseek(fd, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        hole = min(end, os.lseek(fd, begin, os.SEEK_HOLE))
        if begin < hole:
            yield begin, hole - begin
        begin = hole


def grains(fd: int, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the pages of a part of a file that hold something else than zeros."""
    zeros = bytes(_GRAIN)
    for offset, length in extents(fd, begin, end):
        for first in range(offset, offset + length, _PIECE):
            data = os.pread(fd, min(_PIECE, offset + length - first), first)
            for at in range(0, len(data), _GRAIN):
                piece = data[at : at + _GRAIN]
                if piece != zeros[: len(piece)]:
                    yield first + at, piece


def copy_sparse(source: Path, destination: Path) -> None:
    """Copy a file; what is there already is replaced. No data go through this process."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(writer, os.fstat(reader).st_size)
        for offset, length in extents(reader):
            at = offset
            while at < offset + length:
                at += os.copy_file_range(reader, writer, offset + length - at, at, at)
    finally:
        os.close(reader)
        os.close(writer)


def copy_compact(source: Path, destination: Path) -> None:
    """Copy a file to a new one, and leave a hole where it holds nothing but zeros."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(reader).st_size
        os.ftruncate(writer, size)
        for offset, data in grains(reader, 0, size):
            os.pwrite(writer, data, offset)
    finally:
        os.close(reader)
        os.close(writer)
