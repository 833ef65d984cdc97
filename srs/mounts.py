"""mount(2) and umount2(2) by call.

OSError      as the kernel gives it, with the mount point as file name
"""

import ctypes
import os
from typing import Final

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_DIRSYNC: Final = 128
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_RELATIME: Final = 1 << 21
_libc: ctypes.CDLL | None = None


def _call(name: str, where: str, *args: object) -> None:
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), where)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system.

    Args:
        source: block device, or directory with MS_BIND.
        target: existing directory.
        kind: file system type; empty with MS_BIND.
        flags: MS_* of mount(2).
        data: the file system's own options.

    Raises:
        OSError: the kernel refused.
    """
    names = [os.fsencode(name) for name in (source, target)]
    filesystem = kind.encode() or None
    options = data.encode() or None
    _call("mount", target, *names, filesystem, ctypes.c_ulong(flags), options)


def unmount(target: str) -> None:
    """Unmount what is mounted on a directory.

    Raises:
        OSError: EBUSY while somebody uses it, EINVAL if it is no mount point.
    """
    _call("umount2", target, os.fsencode(target), 0)


def is_mount_point(path: str) -> bool:
    """Whether another file system begins at this directory (a bind mount may not show)."""
    try:
        here, above = os.stat(path), os.stat(os.path.join(path, ".."))
    except OSError:
        return False
    return here.st_dev != above.st_dev or here.st_ino == above.st_ino


def is_mounted(path: str) -> bool:
    """Whether the kernel has something mounted there; asks no server, so it never hangs.

    Args:
        path: without links, and without characters that /proc/mounts would write as octal.
    """
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ", 2)[1] == path for line in file)


def same_directory(one: str, other: str) -> bool:
    """Whether two paths lead to one directory: a bind mount or a link to it."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
