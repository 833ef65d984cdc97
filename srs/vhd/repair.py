"""Giving a disk back the copies of its metadata that a crash took."""

import os
from dataclasses import replace
from uuid import uuid4

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath, Backing
from srs.vhd.errors import BadFooter, Truncated
from srs.vhd.footers import FoundFooter, find_footer, read_backup, write_footers
from srs.vhd.format import BLOCK, FIXED, NULL_ID, SECTOR
from srs.vhd.image import Image


def repair(path: AnyPath, *, backup: bool = False) -> None:
    """Write both footers of the disk ``path`` again, as the one that :func:`query` goes by says.

    A torn batmap is replaced by an empty one, and a disk without an identity gets one. Nothing
    is done about a damaged header, block table or block, see :func:`check`.

    Args:
        path: a VHD of any kind.
        backup: let the footer at byte 0 decide, even if the one at the end is whole.

    Raises:
        BadFooter: no footer to go by.
        Truncated: the file ends before data that the disk holds. With a footer behind its end it
            would look sound and read zeros there.
        VHDError: the disk cannot be opened or written.
    """
    path = os.fspath(path)
    with Backing(path, writable=True) as backing:
        found = _chosen(backing, backup)
        footer = found.footer
        if footer.unique_id == NULL_ID:
            footer = replace(footer, unique_id=uuid4())
        at = found.primary_at
        if footer.disk_type != FIXED:
            image = Image(backing, found)
            _refuse_loss(image)
            if image.batmap is not None and image.batmap.needs_store:
                image.batmap.store()
                backing.sync()
            if not backing.is_block and at is None:
                at = image.end_sector * SECTOR
        write_footers(backing, footer, backing.size() - SECTOR if at is None else at)


def _chosen(backing: Backing, backup: bool) -> FoundFooter:
    found = find_footer(backing)
    if not backup:
        return found
    footer = read_backup(backing)
    if footer is None:
        raise BadFooter(backing.path, "the backup is damaged, too")
    return FoundFooter(footer, found.primary_at)


def _refuse_loss(image: Image) -> None:
    """Raise Truncated if a sector that the disk holds lies behind the end of its file."""
    size = image.backing.size()
    if image.end_sector * SECTOR <= size:
        return
    for block in image.blocks():
        data = image.data_offset(block)
        if data + BLOCK > size:
            held = image.present(block, bitmap.FULL)  # Truncated, if that is lost already.
            end = data + max((stop for _, stop in bitmap.runs(held)), default=0) * SECTOR
            if end > size:
                raise Truncated(image.path, end)
