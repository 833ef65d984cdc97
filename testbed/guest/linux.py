"""System calls by call, not by command: an exec costs 25-900 ms in the guest, a call 50 us.

Numbers and flags: the Linux x86-64 system call table and the uapi headers `linux/fs.h`,
`linux/loop.h` and `linux/reboot.h`.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Final

MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
CLONE_NEWNS: Final = 0x00020000

_FINIT_MODULE: Final = 313
_POWER_OFF: Final = 0x4321FEDC
_BLKFLSBUF: Final = 0x1261
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CLR_FD: Final = 0x4C01
_LOOP_CONFIG: Final = struct.Struct("=II52xI176x64x")  # fd, block size, lo_flags, reserved
_LO_FLAGS_DIRECT_IO: Final = 16
_FS_IOC_FIEMAP: Final = 0xC020660B
_FIEMAP: Final = struct.Struct("=QQIIII")  # begin, length, flags, found, room, reserved
_FIEMAP_EXTENT: Final = struct.Struct("=QQQ16xI12x")  # in the file, on the device, length, flags
_FIEMAP_SYNC: Final = 1
_FIEMAP_LAST: Final = 1
#: Not known, not yet on the device, encoded, or in a place that is not aligned.
_FIEMAP_ELSEWHERE: Final = 0x2 | 0x4 | 0x8 | 0x100 | 0x200 | 0x400
_FIEMAP_UNWRITTEN: Final = 0x800
_EXTENTS: Final = 256
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP_LOOPBACK_RUNNING: Final = 0x49
_IFF_UP_BROADCAST_MULTICAST: Final = 0x1003

#: Bytes; the kernel refuses records of a KiB.
_LOG_LINE: Final = 900

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Attach a file system to the tree. Raises OSError naming the target."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, target)


def account(path: str) -> None:
    """Let the kernel note in a file which programs run (acct(2)); without a path: no longer."""
    _check(_libc.acct(path.encode() or None), path)


def unmount(target: str, flags: int = 0) -> None:
    """Take a file system off the tree. Raises OSError naming the target."""
    _check(_libc.umount2(target.encode(), flags), target)


def new_mount_namespace() -> None:
    """Leave the mount namespace of the parent; nothing mounted here shows there."""
    _check(_libc.unshare(CLONE_NEWNS), "mount namespace")
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def load_module(path: str, parameters: str = "") -> None:
    """Load a module file; one that is loaded already is fine. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syscall(_FINIT_MODULE, file, parameters.encode(), 0) < 0:
            number = ctypes.get_errno()
            if number != errno.EEXIST:
                raise OSError(number, os.strerror(number), path)
    finally:
        os.close(file)


def log(text: str) -> None:
    """A warning in the kernel's log, which the host reads."""
    line = " ".join(text.split())[:_LOG_LINE]
    with open("/dev/kmsg", "w", encoding="ascii", errors="replace") as file:
        file.write(f"<4>{line}\n")


def written(device: str) -> dict[str, int]:
    """What was written to a block device since it is there: bytes, requests, flushes.

    Reference: the kernel's Documentation/block/stat.rst, which counts in sectors of 512 bytes.
    """
    with open(f"/sys/block/{os.path.basename(device)}/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.read().split()]
    return {"bytes": fields[6] * 512, "requests": fields[4], "flushes": fields[15]}


def power_off() -> None:
    """Stop this kernel at once; nothing is synced."""
    _libc.reboot(_POWER_OFF)


def bring_up_loopback() -> None:
    """Set `lo` up (the kernel gives it 127.0.0.1 by itself)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", _IFF_UP_LOOPBACK_RUNNING)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, request)


def bring_up(name: str, address: str, netmask: str) -> None:
    """Give a network card an IPv4 address, and let it speak."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, netmask)):
            place = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(sock, request, struct.pack("16s16s", name.encode(), place))
        up = struct.pack("16sH14x", name.encode(), _IFF_UP_BROADCAST_MULTICAST)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, up)


def attach_loop(path: str, *, read_only: bool = False, direct: bool = False) -> str:
    """Bind a free loop device to a file or block device; returns /dev/loopN.

    With `direct` nothing is cached between the two: each request goes through at once, and
    what the lower device answers is the answer.

    Raises:
        OSError: the file cannot be opened, or no loop device is left.
    """
    backing = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    config = _LOOP_CONFIG.pack(backing, 512, _LO_FLAGS_DIRECT_IO if direct else 0)
    try:
        while True:
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
            try:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            finally:
                os.close(control)
            device = f"/dev/loop{number}"
            loop = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(loop, _LOOP_CONFIGURE, bytearray(config))
            except OSError as error:
                # Somebody else took the free one between the two calls: ask for another.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device
            finally:
                os.close(loop)
    finally:
        os.close(backing)


def detach_loop(device: str) -> None:
    """Unbind a loop device.

    Raises:
        OSError: EBUSY while a mount or a volume group stands on it (the kernel itself would
            say yes, and unbind it some time later); ENXIO when it is not bound.
    """
    loop = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        fcntl.ioctl(loop, _LOOP_CLR_FD)
    finally:
        os.close(loop)


def drop_cached_blocks(file: int) -> None:
    """Write a block device's dirty pages back and forget its clean ones (BLKFLSBUF)."""
    fcntl.ioctl(file, _BLKFLSBUF)


def extents(file: int) -> list[tuple[int, int, int]]:
    """Write a file's data back; where they are: offset in it, offset on the device, length.

    Holes, and room that was never written to, are left out (reference: the kernel's
    documentation of FIEMAP).

    Raises:
        OSError: EINVAL where some of it is not plainly on the device.
    """
    places: list[tuple[int, int, int]] = []
    begin, last = 0, False
    while not last:
        request = bytearray(_FIEMAP.size + _EXTENTS * _FIEMAP_EXTENT.size)
        _FIEMAP.pack_into(request, 0, begin, (1 << 64) - 1 - begin, _FIEMAP_SYNC, 0, _EXTENTS, 0)
        fcntl.ioctl(file, _FS_IOC_FIEMAP, request)
        found = _FIEMAP.unpack_from(request)[3]
        last = found == 0
        for number in range(found):
            where = _FIEMAP.size + number * _FIEMAP_EXTENT.size
            offset, at, length, flags = _FIEMAP_EXTENT.unpack_from(request, where)
            if flags & _FIEMAP_ELSEWHERE:
                raise OSError(errno.EINVAL, f"extent at {offset} is not on the device: {flags:#x}")
            if not flags & _FIEMAP_UNWRITTEN:
                places.append((offset, at, length))
            begin, last = offset + length, bool(flags & _FIEMAP_LAST)
    return places


def device_size(path: str) -> int:
    """Bytes of a block device or a file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(file, 0, os.SEEK_END)
    finally:
        os.close(file)
