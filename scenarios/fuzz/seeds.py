"""Whole disks, small and of every kind, for the fuzzer to start from."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from srs import vhd

MIB = 1 << 20
SIZE = 4 * MIB
PARENT_ID, DISK_ID = UUID(int=1), UUID(int=2)


def make_parent(path: Path) -> None:
    """The disk that every differencing seed stands on, always with the same bytes of content."""
    vhd.create(path, SIZE, max_size=8 * MIB, unique_id=PARENT_ID)
    _write(path, b"p", 0, 2 * MIB - 512, 3 * MIB)


def _write(path: Path, data: bytes, *offsets: int) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for offset in offsets:
            disk.write(offset, data * 1024)


def disks(directory: Path) -> Iterator[Path]:
    """Make one disk after the other in a directory that holds ``parent.vhd`` and ``raw``."""
    path = directory / "disk.vhd"
    parent = directory / "parent.vhd"
    vhd.create(path, SIZE, unique_id=DISK_ID)
    yield path
    _write(path, b"d", 0, 2 * MIB + 700)
    yield path
    yield _crashed(path)
    yield _foreign(path)
    vhd.create(path, SIZE, max_size=64 * MIB, unique_id=DISK_ID)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(0, bytes(2 * MIB))
    yield path
    vhd.snapshot(path, parent, unique_id=DISK_ID)
    yield path
    _write(path, b"c", 512, 2 * MIB)
    yield path
    yield _crashed(path)
    vhd.snapshot(path, directory / "raw", raw_parent=True, unique_id=DISK_ID)
    _write(path, b"r", 2 * MIB - 512)
    yield path
    yield _fixed(path)


def _crashed(path: Path) -> Path:
    """Without the primary footer, and a block ends with the file."""
    os.truncate(path, path.stat().st_size - 512)
    return path


def _foreign(path: Path) -> Path:
    """As of another writer than XenServer's tools, so without a batmap."""
    raw = bytearray(path.read_bytes())
    raw[28:32] = b"qemu"
    struct.pack_into(">I", raw, 64, 0)
    struct.pack_into(">I", raw, 64, ~sum(raw[:512]) & 0xFFFFFFFF)
    path.write_bytes(raw + raw[:512])
    return path


def _fixed(path: Path) -> Path:
    raw = bytearray(path.read_bytes()[:512])
    struct.pack_into(">Q", raw, 16, (1 << 64) - 1)
    struct.pack_into(">I", raw, 60, vhd.FIXED)
    struct.pack_into(">I", raw, 64, 0)
    struct.pack_into(">I", raw, 64, ~sum(raw) & 0xFFFFFFFF)
    path.write_bytes(bytes(SIZE) + raw)
    return path
