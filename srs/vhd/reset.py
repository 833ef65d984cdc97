"""Making a disk forget its data: of an ordinary disk zeros remain, of a child its parent's."""

import os
from dataclasses import replace

from srs.vhd.backing import AnyPath, Backing, zeros
from srs.vhd.batmap import map_checksum
from srs.vhd.footers import find_footer, renew_backup, write_footers
from srs.vhd.format import SECTOR
from srs.vhd.header import map_sectors
from srs.vhd.image import Image

_UNUSED = b"\xff" * (64 << 10)


def drop_data(path: AnyPath) -> None:
    """Give up all blocks of a sparse disk; a regular file shrinks to its metadata.

    A cut in between leaves each block with its old content or without any.

    Raises:
        NotSparse: a fixed disk.
        VHDError: the disk cannot be opened or written.
    """
    with Backing(os.fspath(path), writable=True) as backing:
        found = find_footer(backing)
        image = Image(backing, found)
        at = found.primary_at
        if at is None or not backing.is_block:
            at = backing.size() - SECTOR if backing.is_block else image.first_sector * SECTOR
        renew_backup(backing, found)
        _clear_batmap(backing, image)
        _clear_table(backing, image)
        write_footers(backing, found.footer, at)


def _clear_batmap(backing: Backing, image: Image) -> None:
    """Call no block full. First, because a full block that is in no table breaks the format."""
    header = image.batmap.header if image.batmap else None
    if header is not None:
        clear = map_sectors(image.header.slots) * SECTOR
        empty = replace(header, checksum=map_checksum(b""))
        backing.write(header.map_offset - SECTOR, empty.pack(), *zeros(clear))
        backing.sync()


def _clear_table(backing: Backing, image: Image) -> None:
    """The commit point of each block is the sector of its entry."""
    at, end = image.header.bat_offset, image.header.bat_offset + image.header.slots * 4
    for offset in range(at, end, len(_UNUSED)):
        backing.write(offset, _UNUSED[: end - offset])
    backing.sync()
