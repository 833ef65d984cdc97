"""Locks that hold between processes and between the threads of one process.

    Exception
    └── LockErr (37, srs.errors)      a lock that cannot be taken

A lock is a POSIX write lock on the file `/var/lock/sm/<namespace>/<name>`, the place and kind
that XenServer's storage manager uses, so drivers of both kinds exclude each other. POSIX locks
belong to a process: threads would walk through them, and closing any descriptor of the file
drops them. So each process keeps one entry per file, with a mutex for its threads and the one
descriptor that is ever opened. Locks are re-entrant within a thread, are not inherited by a
forked child, and vanish with their process.
"""

import fcntl
import os
import struct
import threading
from types import TracebackType
from typing import Final, Self

from srs import paths
from srs.errors import LockErr

#: struct flock of fcntl(2): type, whence, start, length, process.
_FLOCK: Final = struct.Struct("@hhqqi0q")


class _Entry:
    """One lock file as this process knows it."""

    __slots__ = ("depth", "fd", "mutex")

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.depth = 0
        self.fd = -1


_entries: dict[str, _Entry] = {}
_entries_guard = threading.Lock()


def forget_in_child() -> None:
    """A child holds none of its parent's locks; the descriptors are of no use to it.

    After `os.fork` this is done already; after `srs.forking.fork` it is up to the child.
    """
    global _entries_guard
    for entry in _entries.values():
        if entry.fd >= 0:
            os.close(entry.fd)
    _entries.clear()
    _entries_guard = threading.Lock()


os.register_at_fork(after_in_child=forget_in_child)


class Lock:
    """A named lock; use it as a context manager.

    Args:
        namespace: directory below the lock root: an SR's or VDI's uuid, `lvm-<SR uuid>`.
        name: file name: `sr`, `vdi`, `running`, `gc_active`, ...
        root: lock root, for tests.
    """

    def __init__(self, namespace: str, name: str, root: str = paths.LOCKS) -> None:
        self.path = os.path.join(root, namespace, name)

    def acquire(self) -> None:
        """Wait until the lock is ours.

        Raises:
            LockErr: the lock file cannot be made or locked.
        """
        self._take(block=True)

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it; say whether it is ours now."""
        return self._take(block=False)

    def release(self) -> None:
        """Undo one acquire.

        Raises:
            LockErr: this process does not hold the lock.
        """
        entry = _entries.get(self.path)
        if entry is None or entry.depth == 0:
            raise LockErr(f"{self.path} is not held")
        entry.depth -= 1
        if entry.depth == 0:
            os.close(entry.fd)  # drops the POSIX lock
            entry.fd = -1
        entry.mutex.release()

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        entry = _entries.get(self.path)
        return entry is not None and entry.depth > 0

    def holder(self) -> int:
        """The process that holds the lock; 0 if none does.

        Raises:
            LockErr: the lock file cannot be asked.
        """
        if self.held:
            return os.getpid()
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise LockErr(f"{self.path}: {error.strerror}") from error
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        finally:
            os.close(fd)
        return 0 if kind == fcntl.F_UNLCK else int(pid)

    def _take(self, *, block: bool) -> bool:
        with _entries_guard:
            entry = _entries.setdefault(self.path, _Entry())
        if not entry.mutex.acquire(blocking=block):
            return False
        if entry.depth == 0:
            try:
                entry.fd = self._lock_file(block=block)
            except OSError as error:
                entry.mutex.release()
                raise LockErr(f"{self.path}: {error.strerror}") from error
            except BaseException:  # what a signal's handler raises ends the waiting
                entry.mutex.release()
                raise
            if entry.fd < 0:
                entry.mutex.release()
                return False
        entry.depth += 1
        return True

    def _lock_file(self, *, block: bool) -> int:
        """A descriptor that holds the POSIX lock, or -1 if somebody else has it."""
        while True:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # the directory was removed under us, see remove()
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX if block else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.close(fd)
                return -1
            except BaseException:
                os.close(fd)
                raise
            # Whoever deletes a VDI removes its lock files; a lock on a removed file locks nothing.
            if self._is_current(fd):
                return fd
            os.close(fd)

    def _is_current(self, fd: int) -> bool:
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        here = os.fstat(fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def remove(namespace: str, root: str = paths.LOCKS) -> None:
    """Remove a namespace's lock files, because what they guarded is gone."""
    directory = os.path.join(root, namespace)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        try:
            os.unlink(os.path.join(directory, name))
        except FileNotFoundError:
            continue
    try:
        os.rmdir(directory)
    except OSError:
        # Somebody took a lock meanwhile: the next removal gets it.
        return
