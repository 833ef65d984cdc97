"""Coalescing: the data of a disk go down into its parent, or into another disk.

The disk is only read, so until somebody relinks its children everybody reads what they read
before: whatever its parent got, it still covers. That makes a coalesce safe to cut anywhere and
to run again, as long as the parent itself stays whole, which is the business of its writer.

Data move in runs of sectors, gathered block by block; tables and bitmaps of the parent are
written once for thousands of blocks. Memory stays at a few MiB for disks of any size.
"""

import os
from collections.abc import Callable
from errno import EEXIST

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath, identity_of
from srs.vhd.build import create
from srs.vhd.chain import Chain, open_chain, open_disks
from srs.vhd.errors import NotAnAncestor, NotDifferencing, OutOfRange, StorageFailed
from srs.vhd.format import BLOCK, SECTOR, blocks_of
from srs.vhd.image import Image
from srs.vhd.parent import Disk, open_disk

Progress = Callable[[int, int], None]
"""Called with the blocks of the disk that are behind, and all of them."""


def coalesce(
    path: AnyPath,
    *,
    ancestor: AnyPath | None = None,
    output: AnyPath | None = None,
    progress: Progress | None = None,
) -> int:
    """Merge the data of the differencing disk ``path`` into its parent, a VHD or a raw image.

    Returns the number of 512-byte sectors merged, all of them durable. Apart from the parent's
    content nothing changes: neither identities, sizes and links, nor who is hidden. Relinking
    the children of ``path`` is left to the caller, see :func:`set_parent`. What a parent holds
    behind the end of ``path`` becomes zeros, as it reads for these children.

    ``ancestor``, the parent or one further up, gets instead what ``path`` and all disks between
    the two hold, so that ``path`` could be linked to it afterwards. ``output`` is a new file,
    which becomes a dynamic disk with the content of ``path``: its own data and all ancestors'.

    Raises:
        NotDifferencing, NotAnAncestor: there is no such parent.
        ParentMissing, ParentMismatch, ChainLoop: the chain is not the one it was made as.
        OutOfRange: the disk holds sectors behind the end of the parent, which is to be grown
            first. Nothing was changed.
        StorageFailed: also if ``output`` exists, with the errno EEXIST.
        VHDError: a disk cannot be opened, read or written. A target that was begun stays whole,
            and a coalesce may be repeated; an output is removed.
    """
    path = os.fspath(path)
    if output is not None:
        if ancestor is not None:
            raise ValueError("an output takes the data of all ancestors")
        return _write_out(path, os.fspath(output), progress)
    source, target = _open(path, ancestor)
    with source, target:
        _refuse_overhang(source, target)
        merged = _merge(source, target, progress)
        _cut_short(source, target)
    return merged


def _open(path: str, ancestor: AnyPath | None) -> tuple[Chain, Chain]:
    """The disks whose data move, and those that stay, the first of which can be written."""
    disks = open_disks(path, strict=True)
    try:
        at = _place(disks, ancestor)
        below = disks[at - 1]
        raw = isinstance(below, Image) and below.raw_parent
        target = open_disk(disks[at].path, raw=raw, writable=True)
        disks[at].close()
    except BaseException:
        for disk in disks:
            disk.close()
        raise
    return Chain(disks[:at]), Chain([target, *disks[at + 1 :]])


def _place(disks: list[Disk], ancestor: AnyPath | None) -> int:
    """Where in the chain ``disks`` the target is."""
    if len(disks) == 1:
        raise NotDifferencing(disks[0].path, os.fspath(ancestor or ""))
    if ancestor is None:
        return 1
    identity = identity_of(os.fspath(ancestor))
    for at, disk in enumerate(disks[1:], 1):
        if disk.backing.identity == identity:
            return at
    raise NotAnAncestor(disks[0].path, os.fspath(ancestor))


def _refuse_overhang(source: Chain, target: Chain) -> None:
    """Raise OutOfRange if ``source`` holds a sector behind the end of ``target``."""
    view = memoryview(bytearray(BLOCK if source.size > target.size else 0))
    for block in source.blocks() if source.size > target.size else ():
        start = block * BLOCK
        if start + BLOCK > target.size:
            held = source.read_held(block, view)
            stop = max((run[1] for run in bitmap.runs(held)), default=0) * SECTOR
            if stop and start + stop > target.size:
                raise OutOfRange(target.path, start, stop, target.size)


def _merge(source: Chain, target: Chain, progress: Progress | None, *, zeros: bool = True) -> int:
    """Write each run of sectors that ``source`` holds into ``target``; the sectors written.

    Without ``zeros`` runs of nothing else are left out: the target is new and reads so anyway.
    """
    view, merged, total = memoryview(bytearray(BLOCK)), 0, blocks_of(source.size)
    for block in source.blocks():
        held = source.read_held(block, view)
        if not zeros:
            held = _without_zeros(held, view)
        if held:
            target.write_held(block, held, view)
            merged += held.bit_count()
        if progress is not None:
            progress(block + 1, total)
    target.flush()
    if progress is not None:
        progress(total, total)
    return merged


def _without_zeros(held: int, view: memoryview) -> int:
    """The sectors ``held`` in ``view`` less the runs that are zeros."""
    for first, stop in bitmap.runs(held):
        if view[first * SECTOR : stop * SECTOR].tobytes() == bytes((stop - first) * SECTOR):
            held &= ~bitmap.span(first, stop)
    return held


def _cut_short(source: Chain, target: Chain) -> None:
    """Zero in ``target`` what is hidden by a disk of ``source`` that is shorter.

    Up to the end of ``target``, even behind that of ``path``: whoever stands on it may be longer.
    """
    start, stop = source.shortest, target.size
    view = memoryview(bytearray(BLOCK if start < stop else 0))
    for block, first, end in bitmap.by_block(start, max(0, stop - start)):
        missing = bitmap.span(first, end) & ~source.read_held(block, view)
        for run in bitmap.runs(missing):
            target.zero(block * BLOCK + run[0] * SECTOR, (run[1] - run[0]) * SECTOR)


def _write_out(path: str, output: str, progress: Progress | None) -> int:
    """Make the new file ``output`` a dynamic disk with the content of ``path``."""
    if os.path.lexists(output):
        raise StorageFailed(output, "create", os.strerror(EEXIST), EEXIST)
    with open_chain(path) as source:
        create(output, source.size)
        try:
            with open_chain(output, writable=True) as target:
                return _merge(source, target, progress, zeros=False)
        except BaseException:
            os.unlink(output)
            raise
