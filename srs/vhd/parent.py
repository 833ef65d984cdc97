"""From a disk to its parent: which file it is, and opening it."""

import os
from dataclasses import replace

from srs.vhd import locator
from srs.vhd.backing import Backing
from srs.vhd.errors import BadFooter, ParentMismatch, ParentMissing, Truncated, VHDError
from srs.vhd.footers import find_footer
from srs.vhd.format import EPOCH, FIXED, NULL_ID, SECTOR
from srs.vhd.header import LONGEST_TEXT, NO_LOCATOR, Header, Locator
from srs.vhd.image import Image
from srs.vhd.raw import Raw
from srs.vhd.writer import ImageWriter

Disk = Image | Raw


def open_disk(path: str, *, raw: bool = False, writable: bool = False) -> Disk:
    """Open a VHD of any kind, or a ``raw`` image, without its parents.

    Raises:
        StorageFailed: the file cannot be opened.
        BadFooter, Poisoned: no usable footer.
        BadHeader, Truncated: the metadata of a sparse disk are unusable.
    """
    backing = Backing(path, writable=writable)
    if raw:
        return Raw(backing)
    try:
        found = find_footer(backing)
        if found.footer.disk_type == FIXED:
            if found.primary_at is not None and found.footer.size > found.primary_at:
                raise Truncated(path, found.footer.size + SECTOR)
            return Raw(backing, found.footer)
        return (ImageWriter if writable else Image)(backing, found)
    except BaseException:
        backing.close()
        raise


def stored_paths(image: Image) -> list[str]:
    """The parent's path as each usable locator spells it, in the order of their slots."""
    paths = (stored_path(image.backing, entry) for entry in image.header.locators)
    return [path for path in paths if path is not None]


def stored_parent(image: Image) -> str | None:
    """The path of the parent that the header describes, as a locator spells it.

    A cut that fell into the rewriting of locators leaves another one among them.
    """
    paths = stored_paths(image)
    name = image.header.parent_name
    described = (path for path in paths if os.path.basename(path) == name)
    return next(described, paths[0] if paths else None)


def stored_path(backing: Backing, entry: Locator) -> str | None:
    """The path that a locator spells; None if it spells none, or is longer than any path."""
    if entry.platform == NO_LOCATOR or entry.length > min(entry.capacity, LONGEST_TEXT):
        return None
    return locator.decode(entry.platform, backing.read(entry.offset, entry.length))


def find_parent(image: Image) -> str:
    """The canonical path of the parent of a differencing disk.

    All locators lead to the same file, unless a cut fell into the rewriting of them. Then the
    file that the header describes is the parent, so that the header alone decides.

    Raises:
        ParentMissing: no locator leads to a readable file.
    """
    paths = stored_paths(image)
    found = locator.candidates(image.path, paths)
    if not found:
        raise ParentMissing(image.path, stored_parent(image) or image.header.parent_name)
    if len(found) == 1:
        return found[0]
    return next((path for path in found if _is_recorded(image, path)), found[0])


def _is_recorded(image: Image, path: str) -> bool:
    """True if ``path`` is what the header of ``image`` says about its parent."""
    if image.raw_parent:
        return os.path.basename(path) == image.header.parent_name
    try:
        with Backing(path) as backing:
            return find_footer(backing).footer.unique_id == image.header.parent_id
    except VHDError:
        return False


def open_parent(image: Image, *, strict: bool = False) -> Disk:
    """Open the parent of a differencing disk for reading.

    ``strict`` refuses a parent with another identity than the recorded one. Whoever writes wants
    that: the data written would make sense on the recorded parent only.

    Raises:
        ParentMissing, ParentMismatch: as said above.
        VHDError: the parent cannot be opened.
    """
    path = find_parent(image)
    parent = open_disk(path, raw=image.raw_parent)
    expected, found = image.header.parent_id, parent.unique_id
    if strict and found != expected:
        parent.close()
        raise ParentMismatch(image.path, path, str(expected), str(found))
    return parent


def linked(
    header: Header, child: str, parent: Disk
) -> tuple[Header, tuple[tuple[bytes, bytes], ...]]:
    """``header`` describing ``parent``, and the (platform, text) of each locator to it.

    Where the locators lie is left to the caller.

    Raises:
        BadFooter: a VHD without an identity, which the header would call a raw image.
        ParentPathRefused: the path cannot be stored.
    """
    if isinstance(parent, Image) and parent.unique_id == NULL_ID:
        raise BadFooter(parent.path, "a parent needs an identity")
    path = locator.canonical(parent.path)
    texts = locator.spellings(locator.relative(locator.canonical(child), path))
    described = replace(
        header,
        parent_id=parent.unique_id,
        parent_timestamp=max(0, parent.backing.modified - EPOCH),
        parent_name=os.path.basename(path),
    )
    return described, texts
