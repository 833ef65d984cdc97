"""Setting the bits of a changed block log before what they announce is written.

The log is mapped into memory that is shared with the page cache: setting a bit costs no system
call, and outlives this process. Until the disk is closed the log counts as inconsistent, so
nothing more has to be durable.
"""

import errno
import mmap
import os

from srs.vhd import VHDError, cbt


class Tracker:
    """An open log."""

    def __init__(self, path: str, disk_size: int) -> None:
        """Open the log of a disk of `disk_size` bytes.

        Raises:
            OSError: it cannot be opened, is damaged, or is the log of a smaller disk.
        """
        try:
            size = cbt.get(path).size
        except VHDError as error:
            raise OSError(error.errno, str(error)) from error
        if size < disk_size:
            text = f"the log covers {size} bytes of a disk of {disk_size}"
            raise OSError(errno.EINVAL, text, path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._log = mmap.mmap(fd, cbt.log_length(size))
        finally:
            os.close(fd)

    def mark(self, offset: int, length: int) -> None:
        """These bytes of the disk are about to change."""
        if not length:
            return
        log, start = self._log, cbt.CBTLog.LAYOUT.size
        for piece in range(offset // cbt.PIECE, (offset + length - 1) // cbt.PIECE + 1):
            log[start + (piece >> 3)] |= 1 << (piece & 7)

    def close(self) -> None:
        """Make the log durable and close it."""
        self._log.flush()
        self._log.close()
