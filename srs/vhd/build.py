"""Making disks: the first of a chain, and snapshots on top of others.

A disk is written with one system call per contiguous area and one sync. It is no commit point:
a cut leaves a file that does not open or is not there. Whoever needs "the old disk or the new
one" makes the new one under another name, renames it and syncs the directory, which this module
therefore leaves alone.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from srs.vhd.backing import AnyPath, Backing, Buffer, zeros
from srs.vhd.chain import refuse_loop
from srs.vhd.errors import NoSpace, SizeRefused
from srs.vhd.footers import write_primary
from srs.vhd.format import (
    DIFFERENCING,
    DYNAMIC,
    EPOCH,
    MAX_PREALLOCATED,
    MAX_SIZE,
    SECTOR,
    Footer,
    blocks_of,
    pad,
    round_to_block,
)
from srs.vhd.header import (
    FIRST_TABLE,
    BatmapHeader,
    Header,
    Locator,
    bat_length,
    batmap_length,
    map_sectors,
)
from srs.vhd.image import Image
from srs.vhd.parent import Disk, linked, open_disk, open_parent

_UNUSED_ENTRIES = b"\xff" * (64 << 10)


def create(path: AnyPath, size: int, *, max_size: int = 0, unique_id: UUID | None = None) -> None:
    """Make a dynamic disk of ``size`` bytes, rounded up to 2 MiB, that reads as zeros.

    ``max_size`` (bytes) makes room in the metadata for growing up to it by :func:`resize`;
    disks on LVs take 2 TiB. On a block device the primary footer goes to its last sector and
    the rest of its bytes stay. A regular file that exists is overwritten. Durable on return,
    except for the entry in its directory.

    Raises:
        SizeRefused: a size below 1 byte or above 2040 GiB, or a max_size below the size.
        NoSpace, StorageFailed: a regular file is removed, a device is left half-written.
    """
    path = os.fspath(path)
    if size < 1:
        raise SizeRefused(path, size, 1, MAX_SIZE)
    size = round_to_block(size)
    footer = Footer.new(size, DYNAMIC, unique_id or uuid4(), int(time.time()) - EPOCH)
    _write_disk(path, footer, Header(slots_for(path, size, max_size)))


def snapshot(
    child: AnyPath,
    parent: AnyPath,
    *,
    max_size: int = 0,
    raw_parent: bool = False,
    link_empty: bool = False,
    unique_id: UUID | None = None,
) -> None:
    """Make ``child`` an empty differencing disk on top of ``parent``, of the parent's size.

    A differencing parent without any block adds nothing to a chain, so the child is linked to
    the parent's own parent instead, and so on up to a disk that holds blocks, a disk without a
    parent (even an empty one) or a raw image. ``link_empty`` switches this off. ``raw_parent``
    says that ``parent`` is no VHD but a raw image. The parent is only read; in particular it is
    not hidden. ``max_size`` and durability are as for :func:`create`.

    Raises:
        ChainLoop: ``child`` is ``parent`` or one of its ancestors.
        ParentPathRefused: the path to the parent cannot be stored; only ASCII can.
        SizeRefused: the new parent is larger than the disk, or max_size is smaller.
        VHDError: the parent, or an ancestor that had to be looked at, cannot be opened.
        NoSpace, StorageFailed: as for :func:`create`.
    """
    child, parent = os.fspath(child), os.fspath(parent)
    refuse_loop(child, parent, raw_parent=raw_parent)
    disk = open_disk(parent, raw=raw_parent)
    size = disk.size
    try:
        while not link_empty and isinstance(disk, Image) and disk.differencing and disk.is_empty():
            above = open_parent(disk, strict=True)
            disk.close()
            disk, size = above, round_to_block(size)
        slots = slots_for(child, size, max_size)
        if size < disk.size:
            raise SizeRefused(child, size, disk.size, MAX_SIZE)
        header, texts = linked(Header(slots), child, disk)
        footer = Footer.new(size, DIFFERENCING, unique_id or uuid4(), int(time.time()) - EPOCH)
        _write_disk(child, footer, with_locators(header, texts), texts, key_of(disk))
    finally:
        disk.close()


def slots_for(path: str, size: int, max_size: int) -> int:
    """The table slots for a disk that may grow to ``max_size``, both sizes checked."""
    if not 0 < size <= MAX_SIZE:
        raise SizeRefused(path, size, 1, MAX_SIZE)
    if max_size and not size <= max_size <= MAX_PREALLOCATED:
        raise SizeRefused(path, max_size, size, MAX_PREALLOCATED)
    return blocks_of(max_size or size)


def key_of(disk: Disk) -> BatmapHeader | None:
    """The batmap header of an encrypted disk, whose key hash a child or a copy takes over."""
    header = disk.batmap.header if isinstance(disk, Image) and disk.batmap else None
    return header if header and header.key_cookie == 1 else None


def with_locators(header: Header, texts: Sequence[tuple[bytes, bytes]]) -> Header:
    """``header`` with locators for ``texts``, one after the other behind the batmap."""
    at = FIRST_TABLE + bat_length(header.slots) + batmap_length(header.slots)
    locators = []
    for platform, text in texts:
        locators.append(Locator(platform, pad(len(text)), len(text), at))
        at += pad(len(text))
    return replace(header, locators=(*locators, *header.locators[len(locators) :]))


def _write_disk(
    path: str,
    footer: Footer,
    header: Header,
    texts: Sequence[tuple[bytes, bytes]] = (),
    key: BatmapHeader | None = None,
) -> None:
    """Write all metadata of a new disk; a regular file that cannot be finished is removed."""
    backing = Backing(path, writable=True, create=True)
    try:
        with backing:
            buffers = metadata_of(footer, header, texts, key)
            end = sum(map(len, buffers))
            if backing.is_block:
                size = backing.size()
                if end + SECTOR > size:
                    raise NoSpace(path, end + SECTOR, size)
                backing.write(0, *buffers)
                write_primary(backing, footer.pack(), size - SECTOR)
            else:
                backing.write(0, *buffers, footer.pack())
            backing.sync()
    except BaseException:
        if not backing.is_block:
            os.unlink(path)
        raise


def metadata_of(
    footer: Footer,
    header: Header,
    texts: Sequence[tuple[bytes, bytes]],
    key: BatmapHeader | None,
) -> list[Buffer]:
    """Everything in front of the blocks, as buffers that follow one another."""
    whole, rest = divmod(header.slots * 4, len(_UNUSED_ENTRIES))
    table = bat_length(header.slots)
    sectors = map_sectors(header.slots)
    batmap = BatmapHeader(FIRST_TABLE + table + SECTOR, sectors)
    if key is not None:
        batmap = replace(batmap, key_cookie=1, key_nonce=key.key_nonce, key_hash=key.key_hash)
    return [
        footer.pack(),
        header.pack(),
        *[_UNUSED_ENTRIES] * whole,
        _UNUSED_ENTRIES[:rest],
        bytes(table - header.slots * 4),
        batmap.pack(),
        *zeros(sectors * SECTOR),
        *(text.ljust(pad(len(text)), b"\0") for _, text in texts),
    ]
