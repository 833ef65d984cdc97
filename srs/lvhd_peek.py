"""Reading a VHD's headers from a volume that need not be active.

    Exception
    └── VDIUnavailable (46, srs.errors)     the volume does not begin with a VHD's headers

Activating a volume takes 30 ms, reading two sectors from the device below it almost nothing:
so a scan of many disks, or finding out what a disk stands on, activates none. The device is
read past the page cache: what a volume wrote through its own node is not in that of the device,
and what another host wrote is in none.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Final

from srs.errors import VDIUnavailable
from srs.vdi import uuid_in
from srs.vhd.errors import VHDError
from srs.vhd.format import DIFFERENCING, SECTOR, Footer
from srs.vhd.header import Header
from srs.volumes import LogicalVolume, VolumeGroup

_LENGTH: Final = 4096


@dataclass(frozen=True, slots=True)
class Headers:
    """What a VHD says about itself at its start.

    Attributes:
        size: of the virtual disk, bytes.
        hidden: a base copy.
        parent: uuid of the image that it stands on, empty for none.
    """

    size: int
    hidden: bool
    parent: str


def peek(group: VolumeGroup, volume: LogicalVolume) -> Headers:
    """The headers of the VHD in a volume.

    Raises:
        VDIUnavailable: there are none, or the device cannot be read.
    """
    name = f"{group.name}/{volume.name}"
    try:
        if volume.active or volume.start is None:
            data = _read(group.path(volume.name), 0)
        else:
            data = _read(*volume.start)
        footer = Footer.unpack(data[:SECTOR], name)
        header = Header.unpack(data[SECTOR : 3 * SECTOR], name)
    except (OSError, VHDError) as error:
        raise VDIUnavailable(error) from error
    parent = uuid_in(header.parent_name) if footer.disk_type == DIFFERENCING else ""
    return Headers(footer.size, footer.hidden != 0, parent)


def _read(path: str, offset: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        # Anonymous memory begins on a page: reading past the page cache asks for that.
        with mmap.mmap(-1, _LENGTH) as buffer:
            os.preadv(fd, [buffer], offset)
            return bytes(buffer)
    finally:
        os.close(fd)
