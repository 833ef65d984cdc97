"""Changing what a disk says about itself: hidden, place of its footer, parent.

Each operation reads and checks everything first, so that bad input changes nothing, and has one
commit point. None of them may run while the disk is open for writing elsewhere.
"""

import os
from dataclasses import replace
from errno import EINVAL, ENAMETOOLONG

from srs.vhd.backing import AnyPath, Backing
from srs.vhd.chain import refuse_loop
from srs.vhd.errors import NoSpace, NotDifferencing, ParentPathRefused, SizeRefused
from srs.vhd.footers import (
    FoundFooter,
    find_footer,
    renew_backup,
    write_footers,
    write_primary,
)
from srs.vhd.format import FIXED, SECTOR, UNUSED, Footer
from srs.vhd.header import Header
from srs.vhd.image import Image
from srs.vhd.parent import linked, open_disk


def set_hidden(path: AnyPath, hidden: int) -> None:
    """Mark a disk as hidden (1: an inner node, or garbage) or visible (0), in both footers.

    The field's tools take any byte; nobody gives others than these a meaning. Where the medium has
    no room for a last footer that was lost, hiding a sparse disk writes only the first: whoever
    hides a disk is about to remove it, and that makes room.

    Raises:
        VHDError: the disk cannot be opened or written.
    """
    with Backing(os.fspath(path), writable=True) as backing:
        found = find_footer(backing)
        footer = replace(found.footer, hidden=int(hidden))
        try:
            replace_footer(backing, found, footer)
        except NoSpace:
            if not hidden or footer.disk_type == FIXED:
                raise
            backing.write(0, footer.pack())
            backing.sync()


def set_physical_size(path: AnyPath, size: int) -> None:
    """Move the primary footer so that the disk occupies ``size`` bytes of its device.

    To grow, enlarge the device first; to shrink, call this first. A regular file is given that
    length. The old footer stays where it was, as bytes without a meaning.

    Raises:
        SizeRefused: smaller than what the disk holds, larger than the device, or not a whole
            number of sectors.
        NotSparse: a fixed disk.
        VHDError: the disk cannot be opened or written.
    """
    path = os.fspath(path)
    with Backing(path, writable=True) as backing:
        found = find_footer(backing)
        needed = Image(backing, found).end_sector * SECTOR + SECTOR
        limit = backing.size() if backing.is_block else UNUSED * SECTOR
        if size % SECTOR or not needed <= size <= limit:
            raise SizeRefused(path, size, needed, limit)
        renew_backup(backing, found)
        # The commit point. A cut before it leaves the backup footer to speak for the disk.
        write_primary(backing, found.footer.pack(), size - SECTOR)
        backing.sync()


def set_parent(path: AnyPath, parent: AnyPath, *, raw_parent: bool = False) -> None:
    """Make ``parent`` the parent of the differencing disk ``path``; the content is the caller's.

    The locators keep their places. All but the last are rewritten first, then the header, which
    is the commit point, then the last locator: up to the commit point one of them leads to the
    old parent, afterwards one leads to the new, and a reader follows the one that the header
    describes. Of the header's two sectors, neighbours within 4 KiB, only the first changes unless
    the length of the path does.

    Raises:
        NotDifferencing: the disk has no parent to change.
        ChainLoop: ``path`` is ``parent`` or one of its ancestors.
        ParentPathRefused: the path does not fit into the space of a locator, or is not ASCII.
        BadHeader: a locator lies where other data are.
        VHDError: a disk cannot be opened or written.
    """
    path, parent = os.fspath(path), os.fspath(parent)
    with Backing(path, writable=True) as backing:
        image = Image(backing, find_footer(backing))
        if not image.differencing:
            raise NotDifferencing(path, parent)
        refuse_loop(path, parent, raw_parent=raw_parent)
        header, (*first, last) = _relink(image, parent, raw_parent)
        for offset, text in first:
            backing.write(offset, text)
        backing.sync()
        backing.write(image.footer.data_offset, header.pack())
        backing.sync()  # The commit point.
        backing.write(*last)
        backing.sync()


def _relink(image: Image, parent: str, raw_parent: bool) -> tuple[Header, list[tuple[int, bytes]]]:
    """The header that describes ``parent``, and what each locator in use says then: (at, text)."""
    disk = open_disk(parent, raw=raw_parent)
    try:
        header, spellings = linked(image.header, image.path, disk)
    finally:
        disk.close()
    texts, locators, writes = dict(spellings), [], []
    for entry in header.locators:
        text = texts.get(entry.platform)
        if text is not None:
            image.refuse_stray(entry)
            if len(text) > entry.capacity:
                reason = f"{len(text)} bytes for a space of {entry.capacity}"
                raise ParentPathRefused(image.path, parent, reason, ENAMETOOLONG)
            writes.append((entry.offset, text.ljust(entry.capacity, b"\0")))
            entry = replace(entry, length=len(text))
        locators.append(entry)
    if not writes:
        raise ParentPathRefused(image.path, parent, "the disk has no locator", EINVAL)
    return replace(header, locators=tuple(locators)), writes


def replace_footer(backing: Backing, found: FoundFooter, footer: Footer) -> int:
    """Write ``footer`` where the disk's footer was found, or where it belongs if it was lost.

    Returns the byte where the primary copy is now.
    """
    at = found.primary_at
    if at is None:
        if backing.is_block:
            at = backing.size() - SECTOR
        else:
            at = Image(backing, found).end_sector * SECTOR
    write_footers(backing, footer, at)
    return at
