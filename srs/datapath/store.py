"""The image behind an NBD server: the VHD engine, at any alignment, with errors as OSErrors.

The engine works in sectors of 512 bytes. Clients of the kernel's nbd do too; others may not,
so the sectors at both ends of an odd write are read first.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from srs import vhd
from srs.datapath.tracker import Tracker

SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Export:
    """What a server is to serve.

    Attributes:
        name: the export's name, the VDI's uuid.
        path: image or device.
        raw: no VHD.
        writable: whether the image is opened for writing.
        log: where the disk's changed block log is, if it has one when the image is opened.
    """

    name: str
    path: str
    raw: bool
    writable: bool
    log: str = ""


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except vhd.VHDError as error:
        raise OSError(error.errno or errno.EIO, str(error)) from error


class ImageStore:
    """An open image. Raises OSError for whatever goes wrong."""

    def __init__(self, export: Export) -> None:
        opener = vhd.open_raw if export.raw else vhd.open_chain
        with _as_os_error():
            self._chain = opener(export.path, writable=export.writable)
        self.size = self._chain.size
        tracked = export.writable and export.log and os.path.exists(export.log)
        try:
            self._tracker = Tracker(export.log, self.size) if tracked else None
        except OSError:
            self._chain.close()
            raise

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from the chain."""
        first, last = _sectors(offset, len(buffer))
        with _as_os_error():
            if (first, last) == (offset, offset + len(buffer)):
                self._chain.readinto(offset, buffer)
            else:
                data = self._chain.read(first, last - first)
                buffer[:] = data[offset - first : offset - first + len(buffer)]

    def write(self, offset: int, data: memoryview) -> None:
        """Write into the top of the chain."""
        if self._tracker:
            self._tracker.mark(offset, len(data))
        first, last = _sectors(offset, len(data))
        with _as_os_error():
            if (first, last) != (offset, offset + len(data)):
                whole = bytearray(self._chain.read(first, last - first))
                whole[offset - first : offset - first + len(data)] = data
                offset, data = first, memoryview(whole)
            self._chain.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        """Make bytes read as zero."""
        first, last = -(-offset // SECTOR) * SECTOR, (offset + length) // SECTOR * SECTOR
        if first >= last:
            self.write(offset, memoryview(bytes(length)))
            return
        if offset < first:
            self.write(offset, memoryview(bytes(first - offset)))
        if self._tracker:
            self._tracker.mark(first, last - first)
        with _as_os_error():
            self._chain.zero(first, last - first)
        if last < offset + length:
            self.write(last, memoryview(bytes(offset + length - last)))

    def flush(self) -> None:
        """Make all writes durable."""
        with _as_os_error():
            self._chain.flush()

    def close(self) -> None:
        """Make all writes durable and close the chain, then the log."""
        try:
            with _as_os_error():
                self._chain.close()
        finally:
            if self._tracker:
                self._tracker.close()


def _sectors(offset: int, length: int) -> tuple[int, int]:
    """The whole sectors around a range: first byte, byte after the last."""
    return offset // SECTOR * SECTOR, -(-(offset + length) // SECTOR) * SECTOR
