"""One open file or block device: every byte that the engine reads or writes passes here."""

import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EDQUOT, EFBIG, EINVAL, ENOSPC, ENOSYS, ENXIO, EOPNOTSUPP, EXDEV
from stat import S_ISBLK, S_ISREG
from types import TracebackType

from srs.vhd.errors import NoSpace, ReadOnly, StorageFailed, Truncated, VHDError
from srs.vhd.format import SECTOR

ZEROS = memoryview(bytes(64 << 10))
_IOV_MAX = 1024
_PIECE = 1 << 20
_BLKZEROOUT = 0x127F
_NO_COPY_RANGE = (EINVAL, ENOSYS, EOPNOTSUPP, EXDEV)
"""What copy_file_range says between file systems, on devices, and where it is not there."""
_WRITE_BEHIND = 8 << 20
_SMALL_GAP = 4096
"""Bytes that a write may leave out and still follow the one before: a bitmap before its block."""

_START_WRITING = os.POSIX_FADV_DONTNEED

AnyPath = str | os.PathLike[str]
Buffer = bytes | bytearray | memoryview


def zeros(length: int) -> list[Buffer]:
    """Buffers that hold ``length`` zero bytes together, sharing their memory."""
    whole, rest = divmod(length, len(ZEROS))
    return [*[ZEROS] * whole, ZEROS[:rest]]


def zero_fill(view: memoryview) -> None:
    """Overwrite ``view`` with zeros."""
    for at in range(0, len(view), len(ZEROS)):
        piece = view[at : at + len(ZEROS)]
        piece[:] = ZEROS[: len(piece)]


class Backing:
    """An open file descriptor with whole transfers and errors that name the file.

    ``is_block`` decides where a disk's primary footer lives; ``identity`` is that of
    :func:`identity_of`, ``modified`` the time of the last change in Unix seconds, of a device's
    node for a device. ``copies_ranges`` is false once copying into it was refused by the kernel.
    Use it as a context manager, or call :meth:`close`.
    """

    def __init__(self, path: str, *, writable: bool = False, create: bool = False) -> None:
        """Open ``path``; ``create`` makes or empties a regular file (a device keeps its bytes).

        Raises:
            StorageFailed: with the operating system's errno.
        """
        self.path = path
        self.writable = writable
        self.copies_ranges = True
        self._written = self._behind = 0
        # Without O_NONBLOCK a pipe that a damaged locator names would be waited for.
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        if create:
            flags |= os.O_CREAT
        try:
            self._fd = os.open(path, flags, 0o644)
        except OSError as error:
            raise self._failure("open", error) from error
        status = os.fstat(self._fd)
        self.is_block = S_ISBLK(status.st_mode)
        if not self.is_block and not S_ISREG(status.st_mode):
            self.close()
            raise StorageFailed(path, "open", "neither a regular file nor a block device", EINVAL)
        self.identity = _identity(status)
        self.modified = int(status.st_mtime)
        if create and not self.is_block:
            self.truncate(0)

    def __enter__(self) -> "Backing":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def size(self) -> int:
        """Bytes of the file or device now."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``, fewer only where the file ends."""
        try:
            return os.pread(self._fd, length, offset)
        except (OSError, OverflowError) as error:
            raise self._failure("read", error) from error

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill ``buffers`` one after the other with the bytes from ``offset`` on.

        Raises:
            Truncated: the file ends first.
        """
        for batch in _batches(buffers):
            expected = sum(map(len, batch))
            while batch:
                try:
                    done = os.preadv(self._fd, batch, offset)
                except (OSError, OverflowError) as error:
                    raise self._failure("read", error) from error
                if not done:
                    raise Truncated(self.path, offset + expected)
                offset += done
                expected -= done
                batch = _rest(batch, done) if expected else []

    def write(self, offset: int, *buffers: Buffer) -> None:
        """Write ``buffers`` one after the other from ``offset`` on; volatile until :meth:`sync`.

        Raises:
            ReadOnly: the file was opened for reading.
            NoSpace: the file system or the quota is full.
            StorageFailed: any other error.
        """
        if not self.writable:
            raise ReadOnly(self.path)
        start = offset
        for batch in _batches([memoryview(buffer) for buffer in buffers]):
            left = sum(map(len, batch))
            while left:
                try:
                    done = os.pwritev(self._fd, batch, offset)
                except (OSError, OverflowError) as error:
                    raise self._failure("write", error, left) from error
                offset += done
                left -= done
                batch = _rest(batch, done) if left else []
        self._write_behind(start, offset)

    def transfer(self, offset: int, target: "Backing", to: int, length: int) -> None:
        """Copy ``length`` bytes at ``offset`` to byte ``to`` of ``target``, volatile for now.

        The kernel moves them, on NFS the server, and file systems that can share extents do.
        Holes are left out: a ``target`` that is a regular file must have a hole there, too.

        Raises:
            Truncated: this file ends first.
            NoSpace, StorageFailed: the target cannot be written, or this file not be read.
        """
        at, end = offset, offset + length
        if self.size() < end:
            raise Truncated(self.path, end)
        for start, stop in self.data(offset, end):
            if target.is_block:
                target.write_zeros(to + at - offset, start - at)
            at = start
            while at < stop:
                done = self._copy_range(at, target, to + at - offset, stop - at)
                if not done:
                    raise Truncated(self.path, end)
                at += done
        if target.is_block:
            target.write_zeros(to + at - offset, end - at)

    def _copy_range(self, offset: int, target: "Backing", to: int, length: int) -> int:
        """Copy some of ``length`` bytes; how many, 0 at the end of the file."""
        if not target.writable:
            raise ReadOnly(target.path)
        if target.copies_ranges:
            try:
                done = os.copy_file_range(self._fd, target._fd, length, offset, to)
                target._write_behind(to, to + done)
                return done
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise target._failure("copy", error, length) from error
                target.copies_ranges = False
        data = self.read(offset, min(length, _PIECE))
        target.write(to, data)
        return len(data)

    def data(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """What lies between ``offset`` and ``end`` and is no hole, as (first byte, byte after).

        A device has no holes, and neither has a file system that does not tell.
        """
        while offset < end:
            try:
                start = os.lseek(self._fd, offset, os.SEEK_DATA)
                stop = min(end, os.lseek(self._fd, start, os.SEEK_HOLE))
            except OSError as error:
                if error.errno == ENXIO and not self.is_block:
                    return  # Nothing but a hole up to the end of the file.
                start, stop = offset, end
            if start < end:
                yield start, stop
            offset = max(stop, start)

    def write_zeros(self, offset: int, length: int) -> None:
        """Zero ``length`` bytes of a device at ``offset``, by its own means if it has some."""
        if length:
            try:
                fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, length))
            except OSError:
                for at in range(0, length, _PIECE):
                    self.write(offset + at, *zeros(min(_PIECE, length - at)))

    def allocate(self, size: int) -> None:
        """Extend an empty regular file by ``size`` zeros whose space is taken now."""
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            raise self._failure("allocate", error, size) from error

    def truncate(self, size: int) -> None:
        """Cut or extend a regular file to ``size`` bytes."""
        try:
            os.ftruncate(self._fd, size)
        except (OSError, OverflowError) as error:
            raise self._failure("truncate", error) from error

    def sync(self) -> None:
        """Return when everything written so far has reached the medium."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failure("sync", error) from error

    def _write_behind(self, start: int, end: int) -> None:
        """Note a write, and have the kernel begin to write out each 8 MiB written in a row.

        Otherwise the medium idles while a long sequential write fills the page cache, and the
        sync at its end waits for all of it. Linux does so on this advice for pages that are
        dirty, and keeps them until they are written. It is advice: nobody hears of a refusal.
        A single sector, as the footer of a growing file, neither makes a row nor ends one.
        """
        if end - start <= SECTOR:
            return
        if not 0 <= start - self._written <= _SMALL_GAP:
            self._behind = start
        self._written = end
        if end - self._behind >= _WRITE_BEHIND:
            with suppress(OSError):
                os.posix_fadvise(self._fd, self._behind, end - self._behind, _START_WRITING)
            self._behind = end

    def _failure(self, operation: str, error: OSError | OverflowError, needed: int = 0) -> VHDError:
        # A place that a damaged disk names can be one that no system call knows.
        number = error.errno or 0 if isinstance(error, OSError) else EFBIG
        if number in (ENOSPC, EDQUOT):
            return NoSpace(self.path, needed, 0)
        return StorageFailed(self.path, operation, os.strerror(number), number)


def identity_of(path: str) -> tuple[int, int] | None:
    """What all names of one file or device have in common; None if there is no such file."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def exists_as_file(path: str) -> bool:
    """True if ``path`` is there and no block device, which is there for good."""
    try:
        return not S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return os.path.lexists(path)  # A link that leads nowhere is there, too.


def sync_directory(path: str) -> None:
    """Make it durable that the file ``path`` is there, or is not.

    Raises:
        StorageFailed: with the operating system's errno.
    """
    directory = os.path.dirname(path) or "."
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        reason, number = os.strerror(error.errno or 0), error.errno or 0
        raise StorageFailed(directory, "sync", reason, number) from error


def _identity(status: os.stat_result) -> tuple[int, int]:
    return (-1, status.st_rdev) if S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


def _batches(buffers: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """As many buffers as one system call takes, again and again."""
    if len(buffers) <= _IOV_MAX:
        yield list(buffers)
        return
    for at in range(0, len(buffers), _IOV_MAX):
        yield list(buffers[at : at + _IOV_MAX])


def _rest(buffers: list[memoryview], done: int) -> list[memoryview]:
    """What is left of ``buffers`` after the first ``done`` bytes."""
    for index, buffer in enumerate(buffers):
        if done < len(buffer):
            return [buffer[done:], *buffers[index + 1 :]]
        done -= len(buffer)
    return []
