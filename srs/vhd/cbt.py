"""Changed block tracking: which 64 KiB pieces of a disk were written since a snapshot.

A log is a file or an LV beside its disk. All numbers are little-endian, other than in a VHD:

    0    id of the parent log      16      the older one that this one continues
    16   id of the child log       16      the newer one that continues this one
    32   consistent                i32     0 while somebody writes the disk, 1 when he has closed it
    36   zero                      4
    40   size of the disk          u64     bytes
    48   bitmap                            bit k is 1 << k % 8 of byte k // 8: piece k was written

Bits are set before the write that they announce and never cleared, so a log may claim too much
but never too little. Reference: logs that XenServer's tools write.
"""

import os
import struct
from dataclasses import dataclass, replace
from uuid import UUID

from srs.vhd.backing import AnyPath, Backing, zeros
from srs.vhd.errors import BadLog, NoSpace, SizeRefused
from srs.vhd.format import MAX_PREALLOCATED, NULL_ID

PIECE = 64 << 10
"""Bytes of the disk that a bit stands for."""

_PART = 1 << 20


def bitmap_length(size: int) -> int:
    """Bytes that the bitmap of a disk of ``size`` bytes takes."""
    return -(-size // (8 * PIECE))


def log_length(size: int) -> int:
    """Bytes that the log of a disk of ``size`` bytes takes."""
    return CBTLog.LAYOUT.size + bitmap_length(size)


@dataclass(frozen=True, slots=True)
class CBTLog:
    """What a log says in front of its bitmap; ``size`` is that of the disk, in bytes."""

    size: int
    parent: UUID = NULL_ID
    child: UUID = NULL_ID
    consistent: int = 0

    LAYOUT = struct.Struct("<16s16si4xQ")

    def pack(self) -> bytes:
        """The 48 bytes on disk."""
        return self.LAYOUT.pack(self.parent.bytes, self.child.bytes, self.consistent, self.size)

    @classmethod
    def unpack(cls, raw: bytes) -> "CBTLog":
        """Read the 48 bytes."""
        parent, child, consistent, size = cls.LAYOUT.unpack(raw)
        return cls(size, UUID(bytes=parent), UUID(bytes=child), consistent)


def create(path: AnyPath, size: int) -> None:
    """Make an empty log for a disk of ``size`` bytes; a file that exists is overwritten.

    Raises:
        SizeRefused: no size that a disk can have.
        NoSpace: the device is too small.
        StorageFailed: the log cannot be written.
    """
    path = os.fspath(path)
    _check_size(path, size, 1)
    with Backing(path, writable=True, create=True) as backing:
        _check_room(backing, size)
        backing.write(0, CBTLog(size).pack(), *zeros(bitmap_length(size)))
        backing.sync()


def get(path: AnyPath) -> CBTLog:
    """What the log ``path`` says in front of its bitmap.

    Raises:
        BadLog: it is shorter than its disk's size asks for, or that is no size of a disk.
        StorageFailed: it cannot be read.
    """
    with Backing(os.fspath(path)) as backing:
        return _read(backing)


def get_bitmap(path: AnyPath) -> bytes:
    """The bitmap of the log ``path``, 4 MiB for a disk of 2 TiB; raises what :func:`get` raises."""
    return read(path)[1]


def read(path: AnyPath) -> tuple[CBTLog, bytes]:
    """What :func:`get` and :func:`get_bitmap` tell, of one moment; raises what they raise."""
    with Backing(os.fspath(path)) as backing:
        log = _read(backing)
        return log, _bitmap(backing, log)


def set_fields(
    path: AnyPath,
    *,
    parent: UUID | None = None,
    child: UUID | None = None,
    consistent: int | None = None,
    size: int | None = None,
) -> None:
    """Change what is given of the log ``path``, all at once; a grown bitmap gets zeros.

    Raises:
        SizeRefused: smaller than the size is, for bits would be lost.
        NoSpace: the device is too small for the grown log.
        BadLog, StorageFailed: as for :func:`get`.
    """
    path = os.fspath(path)
    with Backing(path, writable=True) as backing:
        old = _read(backing)
        if size is not None:
            _check_size(path, size, old.size)
            _check_room(backing, size)
            # Durable before the header claims it: an LV has stale bytes there.
            backing.write(log_length(old.size), *zeros(log_length(size) - log_length(old.size)))
            backing.sync()
        if consistent:
            backing.sync()  # Whoever wrote the disk set bits, which come first.
        new = replace(
            old,
            parent=old.parent if parent is None else parent,
            child=old.child if child is None else child,
            consistent=old.consistent if consistent is None else consistent,
            size=old.size if size is None else size,
        )
        backing.write(0, new.pack())  # The commit point: all of it lies in one sector.
        backing.sync()


def spoil(path: AnyPath) -> None:
    """Make the log ``path`` one that nobody can read; durable."""
    with Backing(os.fspath(path), writable=True) as backing:
        backing.write(0, b"\xff" * CBTLog.LAYOUT.size)
        backing.sync()


def resize(path: AnyPath, size: int) -> None:
    """Make the log ``path`` that of a disk grown to ``size`` bytes; see :func:`set_fields`."""
    set_fields(path, size=size)


def coalesce(parent: AnyPath, child: AnyPath) -> None:
    """Add the bits of the log ``parent`` to those of ``child``, which then tells of both times.

    A cut leaves some of the bits added; repeating it adds the others.

    Raises:
        SizeRefused: the parent's disk is larger.
        BadLog, StorageFailed: as for :func:`get`.
    """
    with Backing(os.fspath(parent)) as older, Backing(os.fspath(child), writable=True) as newer:
        size, limit = _read(older).size, _read(newer).size
        if size > limit:
            raise SizeRefused(newer.path, size, 1, limit)
        end = log_length(size)
        for at in range(CBTLog.LAYOUT.size, end, _PART):
            length = min(_PART, end - at)
            old, new = (int.from_bytes(log.read(at, length)) for log in (older, newer))
            newer.write(at, (old | new).to_bytes(length))
        newer.sync()


def changed(bitmap: bytes) -> bytes:
    """A log's bitmap in the order that backup programs are given: the first piece is 0x80."""
    return bitmap.translate(_REVERSED)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _read(backing: Backing) -> CBTLog:
    raw = backing.read(0, CBTLog.LAYOUT.size)
    if len(raw) < CBTLog.LAYOUT.size:
        raise BadLog(backing.path, f"only {len(raw)} bytes")
    log = CBTLog.unpack(raw)
    if not 0 <= log.size <= MAX_PREALLOCATED:
        raise BadLog(backing.path, f"a disk of {log.size} bytes")
    if backing.size() < log_length(log.size):
        raise BadLog(backing.path, f"ends before byte {log_length(log.size)}")
    return log


def _bitmap(backing: Backing, log: CBTLog) -> bytes:
    return backing.read(CBTLog.LAYOUT.size, bitmap_length(log.size))


def _check_size(path: str, size: int, minimum: int) -> None:
    if not minimum <= size <= MAX_PREALLOCATED:
        raise SizeRefused(path, size, minimum, MAX_PREALLOCATED)


def _check_room(backing: Backing, size: int) -> None:
    if backing.is_block and backing.size() < log_length(size):
        raise NoSpace(backing.path, log_length(size), backing.size())
