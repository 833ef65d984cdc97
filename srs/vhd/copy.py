"""Copying disks: a VHD or a raw image, with or without its ancestors, into a new one.

Data move inside the kernel where they lie in long runs, and through one buffer where a block is
made of crumbs. What no disk holds is not written, so sparse stays sparse. Memory does not depend
on the disk's size but for four bytes per block.
"""

import os
import time
from collections.abc import Iterator
from errno import EEXIST
from functools import reduce
from operator import or_
from uuid import uuid4

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath, Backing, exists_as_file, zero_fill
from srs.vhd.build import key_of, slots_for, with_locators
from srs.vhd.chain import Chain, open_chain, open_raw, read_runs, refuse_loop
from srs.vhd.errors import NotDifferencing, StorageFailed
from srs.vhd.format import (
    BLOCK,
    DIFFERENCING,
    DYNAMIC,
    EPOCH,
    MAX_PREALLOCATED,
    SECTOR,
    Footer,
)
from srs.vhd.fresh import FreshRaw, FreshVHD
from srs.vhd.header import Header
from srs.vhd.image import Image
from srs.vhd.parent import Disk, linked, open_disk, open_parent
from srs.vhd.raw import Raw

_FEW, _LONG = 8, 128
"""A block of few runs, or of runs this long on average (in sectors), is copied by the kernel."""

_BRIDGE = 64
"""Sectors between two runs up to which they are written at once, with the zeros between."""


def copy(
    source: AnyPath,
    target: AnyPath,
    *,
    raw_source: bool = False,
    raw_target: bool = False,
    differences: bool = False,
    max_size: int = 0,
) -> None:
    """Make ``target`` a new disk with the content of ``source``, ancestors included.

    Args:
        source: a VHD of any kind, or with ``raw_source`` a raw image.
        target: the new disk: a regular file that does not exist yet, or a block device. It
            becomes a dynamic VHD, or with ``raw_target`` a raw image.
        raw_source: ``source`` has no footer.
        raw_target: write no metadata; a file is as long as the disk.
        differences: make ``target`` a differencing disk on the same parent, which holds only
            what ``source`` holds itself.
        max_size: as for :func:`create`; 0 takes that of a VHD's block table.

    Until the copy is complete ``target`` is no VHD; then it is durable, but for the entry in its
    directory.

    Raises:
        NotDifferencing: ``differences`` of a disk without a parent.
        ChainLoop: ``target`` is ``source`` or one of its ancestors.
        StorageFailed: also if the file ``target`` exists, with the errno EEXIST. A symbolic link
            that leads nowhere exists, too.
        NoSpace: the target is full. As after any other error a file is removed.
        VHDError: the source cannot be read.
    """
    source, target = os.fspath(source), os.fspath(target)
    if exists_as_file(target):
        raise StorageFailed(target, "create", os.strerror(EEXIST), EEXIST)
    refuse_loop(target, source, raw_parent=raw_source)
    with _open(source, raw_source, differences) as chain:
        backing = Backing(target, writable=True, create=True)
        try:
            with backing:
                fresh = (
                    FreshRaw(backing, chain.size)
                    if raw_target
                    else _fresh_vhd(backing, chain.disks[0], max_size, differences)
                )
                buffer = memoryview(bytearray(BLOCK))
                for block in chain.blocks():
                    _copy_block(chain, block, fresh, buffer)
                fresh.finish()
        except BaseException:
            if not backing.is_block:
                os.unlink(target)
            raise


def _open(source: str, raw: bool, differences: bool) -> Chain:
    """The disks whose data are copied."""
    if raw:
        return open_raw(source)
    if not differences:
        return open_chain(source)
    disk = open_disk(source)
    if isinstance(disk, Raw) or not disk.differencing:
        disk.close()
        raise NotDifferencing(source, "")
    return Chain([disk])


def _fresh_vhd(backing: Backing, leaf: Disk, max_size: int, differences: bool) -> FreshVHD:
    """A new VHD of the size of ``leaf``, on the same parent if it is to hold ``differences``."""
    if not max_size and isinstance(leaf, Image):
        max_size = min(leaf.header.slots * BLOCK, MAX_PREALLOCATED)
    header = Header(slots_for(backing.path, leaf.size, max_size))
    kind = DYNAMIC
    texts: tuple[tuple[bytes, bytes], ...] = ()
    if differences and isinstance(leaf, Image):
        parent = open_parent(leaf, strict=True)
        try:
            header, texts = linked(header, backing.path, parent)
        finally:
            parent.close()
        header, kind = with_locators(header, texts), DIFFERENCING
    footer = Footer.new(leaf.size, kind, uuid4(), int(time.time()) - EPOCH)
    return FreshVHD(backing, footer, header, texts, key_of(leaf))


def _copy_block(chain: Chain, block: int, fresh: FreshVHD | FreshRaw, buffer: memoryview) -> None:
    """Copy what the disks of ``chain`` hold of one block."""
    sources = list(chain.data(block))
    held = reduce(or_, (here for _, here in sources), 0)
    if not held:
        return
    at = fresh.begin(block, held)
    room = fresh.room(block)
    runs = [(disk, *run) for disk, here in sources for run in bitmap.runs(here)]
    if len(runs) <= max(_FEW, held.bit_count() // _LONG) and (
        held.bit_count() == room or not fresh.backing.is_block
    ):
        for disk, first, stop in runs:
            begin, length = first * SECTOR, (stop - first) * SECTOR
            disk.backing.transfer(
                disk.data_offset(block) + begin, fresh.backing, at + begin, length
            )
        return
    zero_fill(buffer)
    for disk, here in sources:
        if here:
            read_runs(disk, block, here, 0, buffer)
    # What a device held before must not show through the zeros of a raw image.
    spans = [(0, room)] if fresh.backing.is_block else _bridged(held)
    for first, stop in spans:
        fresh.backing.write(at + first * SECTOR, buffer[first * SECTOR : stop * SECTOR])


def _bridged(held: int) -> Iterator[tuple[int, int]]:
    """The runs of sectors, those with little between them joined."""
    begin = end = 0
    for first, stop in bitmap.runs(held):
        if end and first - end <= _BRIDGE:
            end = stop
            continue
        if end:
            yield begin, end
        begin, end = first, stop
    if end:
        yield begin, end
