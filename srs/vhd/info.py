"""What a disk says about itself."""

import os
from dataclasses import dataclass
from uuid import UUID

from srs.vhd.backing import AnyPath, Backing
from srs.vhd.chain import open_chain
from srs.vhd.footers import find_footer
from srs.vhd.format import BLOCK, FIXED, SECTOR
from srs.vhd.image import Image
from srs.vhd.parent import find_parent, stored_parent


@dataclass(frozen=True, slots=True)
class Info:
    """The answer to :func:`query`; sizes are bytes.

    ``physical_size`` is a file's length; of a device it is what the disk needs of it, footer
    included. ``parent`` is the parent's canonical path, None for a disk without one or if it
    was not resolved; ``stored_parent`` is the path as written in the disk. ``depth`` counts the
    files from this one to the root, ``allocated`` the 2 MiB blocks in this file; each is None
    unless asked for. ``max_size`` is how far :func:`resize` can go; 0 for a fixed disk.
    ``disk_type`` is FIXED, DYNAMIC or DIFFERENCING.
    """

    size: int
    physical_size: int
    parent: str | None
    stored_parent: str | None
    hidden: int
    depth: int | None
    allocated: int | None
    max_size: int
    disk_type: int
    unique_id: UUID


def query(
    path: AnyPath, *, resolve_parent: bool = True, depth: bool = False, allocated: bool = False
) -> Info:
    """Describe the disk ``path``.

    Without ``resolve_parent`` the parent need not exist. ``depth`` opens all ancestors.

    Raises:
        ParentMissing: the parent, or with ``depth`` an ancestor, was not found.
        VHDError: the file cannot be opened or is no usable VHD.
    """
    path = os.fspath(path)
    with Backing(path) as backing:
        found = find_footer(backing)
        footer = found.footer
        image = None if footer.disk_type == FIXED else Image(backing, found)
        child = image if image is not None and image.differencing else None
        return Info(
            size=footer.size,
            physical_size=_physical_size(backing, image),
            parent=find_parent(child) if child and resolve_parent else None,
            stored_parent=stored_parent(child) if child else None,
            hidden=footer.hidden,
            depth=_depth(path) if depth else None,
            allocated=image.allocated() if image and allocated else None,
            max_size=image.header.slots * BLOCK if image else 0,
            disk_type=footer.disk_type,
            unique_id=footer.unique_id,
        )


def _physical_size(backing: Backing, image: Image | None) -> int:
    if image is not None and backing.is_block:
        return image.end_sector * SECTOR + SECTOR
    return backing.size()


def _depth(path: str) -> int:
    with open_chain(path) as chain:
        return chain.depth
