"""The content of a disk as a stream: raw or VHD, out of a plugged device and into one.

Nothing here holds more than a block or two in memory, however large the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from xapi import vhd_stream
from xapi.backend import BackendUnavailable, HostBackend, HostError
from xapi.errors import XenAPIError

#: How much travels at once, in bytes: a block of a VHD.
PIECE = vhd_stream.BLOCK

#: Gives at most n bytes of a request's body, fewer only at its end.
Source = Callable[[int], bytes]
#: Is told how much of the work is done, from 0 to 1; may raise to end it.
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Device:
    """A VDI that is plugged in: the path of its block device, its size in bytes, the host."""

    path: str
    size: int
    backend: HostBackend
    host: str

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that lie within the disk."""
        with self.io_errors():
            data = self.backend.read_blocks(self.path, offset, length)
            if len(data) != length:
                raise HostError(f"{self.path} ends before {offset + length}")
            return data

    def put(self, offset: int, data: bytes) -> None:
        """Write bytes that lie within the disk."""
        with self.io_errors():
            self.backend.write_blocks(self.path, offset, data)

    def clear(self, offset: int, length: int) -> None:
        """Make bytes zero."""
        with self.io_errors():
            self.backend.clear_blocks(self.path, offset, length)

    def used(self, base: Device | None) -> Sequence[int]:
        """Numbers of the blocks that a VHD of it must hold, on top of a base or of nothing."""
        with self.io_errors():
            return self.backend.used_blocks(self.path, PIECE, base=base.path if base else "")

    @contextmanager
    def io_errors(self) -> Iterator[None]:
        """What the host fails with in the block becomes an error of the XenAPI."""
        try:
            yield
        except BackendUnavailable as error:
            raise XenAPIError("HOST_OFFLINE", (self.host,)) from error
        except HostError as error:
            raise _io_error(str(error)) from error


def export_raw(device: Device, progress: Progress) -> Iterator[bytes]:
    """Every byte. Blocks of zeros, which most of a disk may be, are not fetched from the host."""
    used = frozenset(device.used(None))
    for block, offset in enumerate(range(0, device.size, PIECE)):
        length = min(PIECE, device.size - offset)
        yield device.read(offset, length) if block in used else bytes(length)
        progress(offset / device.size)


def transfer(source: Device, destination: Device, progress: Progress) -> None:
    """Make a disk's beginning the content of another one, which may be on another host."""
    used, stale = frozenset(source.used(None)), frozenset(destination.used(None))
    for block, offset in enumerate(range(0, source.size, PIECE)):
        length = min(PIECE, source.size - offset)
        if block in used:
            destination.put(offset, source.read(offset, length))
        elif block in stale:
            destination.clear(offset, length)
        progress(offset / source.size)


def export_vhd(device: Device, image: vhd_stream.Image, progress: Progress) -> Iterator[bytes]:
    """The blocks of the image."""
    yield image.head()
    for number, block in enumerate(image.blocks):
        offset = block * PIECE
        yield image.block(device.read(offset, min(PIECE, device.size - offset)))
        progress(number / len(image.blocks))
    yield image.foot()


def image_of(
    device: Device, uuid: str, base: Device | None = None, base_uuid: str = ""
) -> vhd_stream.Image:
    """The VHD of a disk, or of what differs from a base. Its id is the VDI's uuid."""
    parent = UUID(base_uuid) if base else None
    return vhd_stream.Image(UUID(uuid), device.size, device.used(base), parent)


def import_raw(device: Device, source: Source, length: int | None, progress: Progress) -> None:
    """Overwrite a disk from its beginning, up to its end or that of the stream.

    Args:
        device: the disk.
        source: the stream.
        length: bytes of the stream, where that is known.
        progress: is told.

    Raises:
        XenAPIError: VDI_IO_ERROR, the stream ends before its length.
    """
    end = device.size if length is None else min(device.size, length)
    offset = 0
    while offset < end:
        data = source(min(PIECE, end - offset))
        if not data:
            if length is None:
                return
            raise _io_error(f"the stream ends after {offset} of {end} bytes")
        device.put(offset, data)
        offset += len(data)
        progress(offset / end)


def import_vhd(device: Device, source: Source, progress: Progress) -> None:
    """Make a disk's beginning what a VHD says; a differencing one changes only what it holds.

    Raises:
        XenAPIError: VDI_IO_ERROR, the stream is no VHD, one of a larger disk, or ends early.
    """
    try:
        reader = vhd_stream.Reader(source, min(device.size, vhd_stream.MAX_SIZE))
        if not reader.differencing:
            _clear(device, reader)
        for span in reader.spans():
            device.put(span.offset, span.data)
            progress(span.offset / device.size)
    except vhd_stream.BadVHD as error:
        raise _io_error(str(error)) from error


def _clear(device: Device, reader: vhd_stream.Reader) -> None:
    for block in reader.missing:
        offset = block * reader.block_size
        device.clear(offset, min(reader.block_size, reader.size - offset))


def _io_error(text: str) -> XenAPIError:
    return XenAPIError("VDI_IO_ERROR", (text,))
