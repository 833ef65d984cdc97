"""Directories of a host on this machine: made for it, locked by it, removed with it.

    <base>/                     $SR_TESTBED_STATE, or sr-testbed-<uid> in the temporary directory
        <name>-<random>/        one per host: disks, sockets, the kernel's own files
            lock                held (flock) by the process that owns the directory, and by
                                the guard of its kernel
    /dev/shm/sr-testbed-<uid>/  the same, for the kernel's memory

A process that was killed cannot clean up. The next one does: a directory whose lock is free
belongs to nobody. Names are short, because the path of a socket may have 107 bytes.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.errors import DeviceRefused

_MEMORY = Path("/dev/shm")
#: Bytes of a tmpfs that two guests fit in.
_ENOUGH = 512 << 20

#: The path of a socket may have 107 bytes, and /uml/g/mconsole comes after ours.
_LONGEST = 90
#: Seconds to wait for a directory that is in use.
_PATIENCE = 3


def base() -> Path:
    """Where state directories are made."""
    chosen = os.environ.get("SR_TESTBED_STATE")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"sr-testbed-{os.getuid()}"


def memory_base() -> Path:
    """Where the memory of guests is kept: in a tmpfs that they fit in, else with the state.

    A container's is small, and what is in it cannot be executed, as a kernel's memory must be.
    """
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
        room = os.statvfs(_MEMORY)
        executable = not room.f_flag & os.ST_NOEXEC
        if executable and room.f_blocks * room.f_frsize >= _ENOUGH:
            return _MEMORY / f"sr-testbed-{os.getuid()}"
    return base()


class StateDirectory:
    """A directory that lives as long as its owner, unless it is kept.

    Args:
        parent: `base()` or `memory_base()`.
        name: what it is for; a random part is added.
    """

    def __init__(self, parent: Path, name: str) -> None:
        with _exclusively(parent):
            _sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.keep = False

    @property
    def lock(self) -> int:
        """The descriptor whose lock says that the directory is in use."""
        return self._lock

    def close(self) -> None:
        """Remove the directory, unless it is kept. Closing twice is fine."""
        if self._lock < 0:
            return
        if self.keep:
            (self.path / "lock").unlink()
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1
        # The last host takes the base along; it fails when others are there, and that is fine.
        with _exclusively(self.path.parent), contextlib.suppress(OSError):
            self.path.parent.rmdir()


class LastingDirectory(StateDirectory):
    """A directory of the user's choice, which outlives its owner, with the disks in it.

    What only a running host needs (the kernel's own files, sockets) goes when it ends, or at
    the next start where its owner was killed.

    Args:
        path: made if it is not there.

    Raises:
        DeviceRefused: another host uses it, or a kernel could not.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = path.resolve()
            self._lock = os.open(self.path / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DeviceRefused(f"cannot keep a host in {path}: {error.strerror}") from error
        try:
            _check_name(self.path)
            _lock_soon(self._lock, path)
        except DeviceRefused:
            os.close(self._lock)
            raise
        self.keep = True
        self._clear()

    def close(self) -> None:
        """Leave what lasts, and let another host have it. Closing twice is fine."""
        if self._lock < 0:
            return
        self._clear()
        os.close(self._lock)
        self._lock = -1

    def _clear(self) -> None:
        shutil.rmtree(self.path / "uml", ignore_errors=True)
        for name in ("init.py", "xapi.sock"):
            (self.path / name).unlink(missing_ok=True)


def _lock_soon(fd: int, path: Path) -> None:
    """Take the lock. The kernel of a host that was killed has it a moment longer than the host."""
    for _ in range(_PATIENCE * 10):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return
    raise DeviceRefused(f"another host uses {path}", hint="end it first")


def _check_name(path: Path) -> None:
    """Sockets with long names cannot be made, and the kernel's command line has separators."""
    if len(os.fsencode(path)) > _LONGEST or any(character in str(path) for character in ",: "):
        raise DeviceRefused(
            f"a kernel cannot use the path {path}",
            hint=f"take one of at most {_LONGEST} bytes, without blanks, commas and colons",
        )


@contextlib.contextmanager
def _exclusively(parent: Path) -> Iterator[None]:
    """Hold the base directory, made if need be: hosts start and end side by side."""
    while True:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the last host took it along just now
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            break
        os.close(fd)  # it was taken along while we waited
    try:
        yield
    finally:
        os.close(fd)


def sweep(parent: Path) -> list[Path]:
    """Remove directories of processes that are gone; returns what was removed.

    A directory without a lock file was kept on purpose: keeping drops the file.
    """
    with _exclusively(parent):
        return _sweep(parent)


def _sweep(parent: Path) -> list[Path]:
    removed = []
    for lock in parent.glob("*/lock"):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its owner lives
        else:
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed.append(lock.parent)
        finally:
            os.close(fd)
    return removed
