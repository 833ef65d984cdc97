"""Whole disks, small and of every kind, for the fuzzer to start from."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from srs import vhd
from srs.vhd import cbt
from srs.vhd.backing import Backing
from srs.vhd.footers import find_footer
from srs.vhd.image import Image
from srs.vhd.journal import PRIMARY, Place, save
from srs.vhd.rearrange import plan_for

MIB = 1 << 20
SIZE = 4 * MIB
PARENT_ID, DISK_ID = UUID(int=1), UUID(int=2)


def make_others(directory: Path) -> None:
    """What a disk in ``directory`` can meet, always with the same content.

    ``parent.vhd`` and ``raw`` are to stand on, ``log`` is another log of changed blocks, ``pipe``
    is no file, and ``resizing.vhd`` is in the middle of a resize.
    """
    parent = directory / "parent.vhd"
    vhd.create(parent, SIZE, max_size=8 * MIB, unique_id=PARENT_ID)
    _write(parent, b"p", 0, 2 * MIB - 512, 3 * MIB)
    (directory / "raw").write_bytes(b"raw." * (SIZE // 4))
    os.mkfifo(directory / "pipe")
    cbt.create(directory / "log", SIZE)
    _interrupt(directory / "resizing.vhd", directory / "journal")
    (directory / "journal").unlink()


def _interrupt(path: Path, journal: Path) -> None:
    """Begin a resize with a journal, and go no further than the poison."""
    vhd.create(path, SIZE, unique_id=DISK_ID)
    _write(path, b"d", 0)
    with Backing(str(path), writable=True) as backing:
        image = Image(backing, find_footer(backing))
        at = path.stat().st_size - 512
        places = [Place(PRIMARY, at, 512), *plan_for(image, 400 * MIB).saved]
        save(str(journal), backing, DISK_ID, at, places)
        for copy in (0, at):
            backing.write(copy, image.footer.poisoned())


def _write(path: Path, data: bytes, *offsets: int) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for offset in offsets:
            disk.write(offset, data * 1024)


def disks(directory: Path) -> Iterator[Path]:
    """One input after the other, in a directory of :func:`make_others`: disks, log, journal."""
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
    path.unlink()
    cbt.create(path, SIZE)
    yield path
    path.unlink()
    _interrupt(directory / "new.vhd", path)
    (directory / "new.vhd").unlink()
    yield path


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
