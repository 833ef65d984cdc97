"""Disks: sparse files of this machine that a kernel sees as block devices."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.errors import DeviceRefused
from testbed.state import StateDirectory, base

MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that is plugged in.

    Attributes:
        path: the sparse file on this machine.
        size: bytes that the device has; only what is written takes space.
        device: its name inside, such as /dev/loop0.
        layered: a device-mapper device lies below it (see testbed/devices/layer.py).
        bare: it is what a LUN stands on; drivers and LVM do not see it.
    """

    path: Path
    size: int
    device: str
    layered: bool = False
    bare: bool = False


def create_file(path: Path, size: int) -> Path:
    """Make a sparse file of `size` bytes. It costs nothing until it is written.

    Raises:
        DeviceRefused: it exists, or this machine's file system cannot have so large a file.
    """
    if size <= 0 or size % 512:
        raise DeviceRefused(f"a disk of {size} bytes: must be a positive multiple of 512")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceRefused(f"cannot make {path}: {error.strerror}") from error
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        path.unlink()
        raise DeviceRefused(f"cannot make {path} {size} bytes large: {error.strerror}") from error
    finally:
        os.close(fd)
    return path


class Shelf:
    """Disks that several machines may plug in at once: what a SAN is to real ones."""

    def __init__(self) -> None:
        self._state = StateDirectory(base(), "shelf")
        self._numbers = itertools.count()

    @property
    def path(self) -> Path:
        """Where the disks are."""
        return self._state.path

    def add_disk(self, size: int) -> Path:
        """A new disk of `size` bytes, for `Machine.add_shared_disk`."""
        return create_file(self.path / f"disk{next(self._numbers)}", size)

    def close(self) -> None:
        """Remove the disks; machines that had them plugged in are gone by now. Idempotent."""
        self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
