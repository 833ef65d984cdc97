"""Reading and writing block devices for the outside: what a VM would do with its disk."""

import os
from typing import Any

from testbed.guest import linux

_PIECE = 256 << 10
#: What zeros are looked for in.
_GRAIN = 64 << 10


def _fresh(path: str, flags: int) -> int:
    """Open a device so that reads come from it and not from a page cache of the past."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    if os.path.realpath(path).startswith("/dev/"):
        linux.drop_cached_blocks(fd)
    return fd


def read(_blob: bytes, path: str, offset: int, length: int) -> tuple[Any, bytes]:
    """`length` bytes at `offset`; fewer only at the end of the device."""
    fd = _fresh(path, os.O_RDONLY)
    try:
        data = bytearray()
        while len(data) < length:
            piece = os.pread(fd, min(_PIECE, length - len(data)), offset + len(data))
            if not piece:
                break
            data += piece
        return None, bytes(data)
    finally:
        os.close(fd)


def pieces(_blob: bytes, places: list[tuple[str, int, int]]) -> tuple[Any, bytes]:
    """Many small reads in one call: the bytes at (path, offset, length) after each other.

    A negative offset counts from the end. Returns, for each place, the size of what is at the
    path, or -1 where there is nothing (any more), and how many bytes came from there.
    """
    found, data = [], []
    for path, offset, length in places:
        try:
            fd = _fresh(path, os.O_RDONLY)
        except FileNotFoundError:
            found.append((-1, 0))
            continue
        try:
            total = os.lseek(fd, 0, os.SEEK_END)
            piece = os.pread(fd, length, max(0, offset if offset >= 0 else total + offset))
        finally:
            os.close(fd)
        found.append((total, len(piece)))
        data.append(piece)
    return found, b"".join(data)


def write(blob: bytes, path: str, spans: list[tuple[int, int]], sync: bool) -> tuple[Any, bytes]:
    """Write the bytes of the call, in order, at (offset, length) after (offset, length).

    With `sync` everything that was written to the device so far is durable then.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        rest = memoryview(blob)
        for offset, length in spans:
            _put(fd, rest[:length], offset)
            rest = rest[length:]
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    return None, b""


def digest(_blob: bytes, path: str) -> tuple[Any, bytes]:
    """Size in bytes and SHA-256 of everything that a device holds."""
    import hashlib

    fd = _fresh(path, os.O_RDONLY)
    try:
        total, sha = 0, hashlib.sha256()
        buffer = bytearray(_PIECE)
        while count := os.readv(fd, [buffer]):
            sha.update(memoryview(buffer)[:count])
            total += count
    finally:
        os.close(fd)
    return {"size": total, "sha256": sha.hexdigest()}, b""


def layout(_blob: bytes, directory: str) -> tuple[Any, bytes]:
    """Where the files of a directory lie on the device of their file system.

    Returns, by name, a file's size, its number of links, and its extents: offset in the file,
    on the device, length. What they hold is on the device by then.
    """
    found = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                about = os.fstat(fd)
                found[name] = [about.st_size, about.st_nlink, linux.extents(fd)]
            finally:
                os.close(fd)
    return found, b""


def size(_blob: bytes, path: str) -> tuple[Any, bytes]:
    """Bytes of a device."""
    return linux.device_size(path), b""


def copy(_blob: bytes, source: str, destination: str, length: int) -> tuple[Any, bytes]:
    """Copy `length` bytes from one device to another, durably.

    Only what differs is written: a sparse disk stays sparse. (A new disk need not read as
    zeros: a raw volume shows what its extents held before.)
    """
    reader = _fresh(source, os.O_RDONLY)
    writer = _fresh(destination, os.O_RDWR)
    try:
        offset = 0
        while offset < length:
            piece = os.pread(reader, min(_PIECE, length - offset), offset)
            if not piece:
                raise OSError(5, f"ends after {offset} of {length} bytes", source)
            if piece != os.pread(writer, len(piece), offset):
                _put(writer, piece, offset)
            offset += len(piece)
        os.fsync(writer)
    finally:
        os.close(reader)
        os.close(writer)
    return None, b""


def used(_blob: bytes, path: str, unit: int, base: str) -> tuple[Any, bytes]:
    """Numbers of the pieces of `unit` bytes that are not zeros, or not what is on the base."""
    fd = _fresh(path, os.O_RDONLY)
    below = _fresh(base, os.O_RDONLY) if base else -1
    try:
        found, number, zeros = [], 0, bytes(unit)
        while piece := os.pread(fd, unit, number * unit):
            expected = os.pread(below, len(piece), number * unit) if base else b""
            if piece != expected + zeros[: len(piece) - len(expected)]:
                found.append(number)
            number += 1
    finally:
        os.close(fd)
        if base:
            os.close(below)
    return found, b""


def store(blob: bytes, path: str, offset: int) -> tuple[Any, bytes]:
    """Write the bytes of the call, zeros only where there is something else.

    Unplugging the device is what makes them durable.
    """
    fd = _fresh(path, os.O_RDWR)
    try:
        _put_changes(fd, memoryview(blob), offset)
    finally:
        os.close(fd)
    return None, b""


def clear(_blob: bytes, path: str, offset: int, length: int) -> tuple[Any, bytes]:
    """`store` of nothing but zeros."""
    fd, zeros = _fresh(path, os.O_RDWR), memoryview(bytes(_PIECE))
    try:
        for begin in range(0, length, _PIECE):
            _put_changes(fd, zeros[: length - begin], offset + begin)
    finally:
        os.close(fd)
    return None, b""


def _put_changes(fd: int, data: memoryview, offset: int) -> None:
    zeros = bytes(_GRAIN)
    for begin in range(0, len(data), _GRAIN):
        piece = data[begin : begin + _GRAIN]
        if piece != zeros[: len(piece)] or os.pread(fd, len(piece), offset + begin) != piece:
            _put(fd, piece, offset + begin)


def _put(fd: int, data: bytes | memoryview, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest[:_PIECE], offset)
        rest, offset = rest[written:], offset + written


def sync(_blob: bytes) -> tuple[Any, bytes]:
    """Everything that the kernel holds back goes to the disks."""
    os.sync()
    return None, b""
