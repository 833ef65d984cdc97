"""Fixed disks: all data, then a footer."""

import os
import time
from dataclasses import replace
from uuid import UUID, uuid4

from srs.vhd.backing import AnyPath, Backing
from srs.vhd.errors import NoSpace, SizeRefused
from srs.vhd.footers import write_footers
from srs.vhd.format import EPOCH, FIXED, MAX_SIZE, NOWHERE, SECTOR, Footer, round_to_block


def create_fixed(path: AnyPath, size: int, *, unique_id: UUID | None = None) -> None:
    """Make a fixed disk of ``size`` bytes, rounded up to 2 MiB, that reads as zeros.

    Its space is taken at once. On a block device all its data are zeroed and the footer goes to
    the last sector. A regular file that exists is overwritten. Durable on return, except for the
    entry in its directory.

    Raises:
        SizeRefused: a size below 1 byte or above 2040 GiB.
        NoSpace, StorageFailed: a regular file is removed, a device is no disk.
    """
    path = os.fspath(path)
    if not 0 < size <= MAX_SIZE:
        raise SizeRefused(path, size, 1, MAX_SIZE)
    size = round_to_block(size)
    footer = Footer.new(size, FIXED, unique_id or uuid4(), int(time.time()) - EPOCH)
    backing = Backing(path, writable=True, create=True)
    try:
        with backing:
            at = _clear(backing, size)
            # The commit point: before it nothing says that this is a disk.
            write_footers(backing, replace(footer, data_offset=NOWHERE), at)
    except BaseException:
        if not backing.is_block:
            os.unlink(path)
        raise


def _clear(backing: Backing, size: int) -> int:
    """Make room for ``size`` zeros and a footer; the byte where that belongs."""
    if not backing.is_block:
        backing.allocate(size)
        return size
    available = backing.size() - SECTOR
    if size > available:
        raise NoSpace(backing.path, size + SECTOR, available + SECTOR)
    backing.write(available, bytes(SECTOR))
    backing.write_zeros(0, size)
    backing.sync()
    return available
