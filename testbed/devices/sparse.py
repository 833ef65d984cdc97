"""Files with holes, copied so that holes stay holes."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def extents(fd: int) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of each part of a file that is no hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end - begin


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
