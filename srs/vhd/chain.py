"""A virtual disk as its users see it: a leaf with all its ancestors.

A sector is supplied by the first disk, from the leaf upwards to the root, that holds it. Where
none does, it is zero. A sector at or past the end of an ancestor reads as zero, whatever that
ancestor's own parents hold there: the disk was that short when the child was made.
"""

import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from srs.vhd import bitmap
from srs.vhd.backing import AnyPath, identity_of, zero_fill
from srs.vhd.errors import ChainLoop, OutOfRange, ParentMissing, ReadOnly
from srs.vhd.format import BLOCK, BLOCK_SECTORS, SECTOR
from srs.vhd.image import Image
from srs.vhd.parent import Disk, open_disk, open_parent
from srs.vhd.raw import Raw
from srs.vhd.writer import ImageWriter

_BRIDGE = memoryview(bytearray(32 << 10))
"""Swallows short gaps between two runs of sectors, so that one system call reads both."""


class Chain:
    """A virtual disk of ``size`` bytes; offsets and lengths are bytes and need no alignment.

    Reads see earlier writes of the same object. Writes go to the leaf and are durable after
    :meth:`flush`: a power cut leaves a disk that opens, with each sector's old or new content.
    Memory is bounded by the length of one request and a few MiB. Use it as a context manager, or
    call :meth:`close`; not by several threads at once.
    """

    def __init__(self, disks: list[Disk]) -> None:
        """Take over open disks, the leaf first; the chain is writable if the leaf is."""
        self._disks = disks
        self._leaf = disks[0]
        self.path = self._leaf.path
        self.size = self._leaf.size

    def __enter__(self) -> "Chain":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def paths(self) -> list[str]:
        """The files, leaf first; parents by their canonical paths."""
        return [disk.path for disk in self._disks]

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The open disks, leaf first, for whoever asks which of them holds what."""
        return tuple(self._disks)

    @property
    def depth(self) -> int:
        """The number of files: 1 for a disk without a parent."""
        return len(self._disks)

    def read(self, offset: int, length: int) -> bytes:
        """The ``length`` bytes at ``offset``; raises what :meth:`readinto` raises."""
        buffer = bytearray(length)
        self.readinto(offset, memoryview(buffer))
        return bytes(buffer)

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view``, a writable view of bytes, from ``offset`` on.

        Raises:
            OutOfRange: the request does not lie inside the disk; nothing was read.
            VHDError: a file cannot be read or its metadata are damaged.
        """
        start, stop = self._sectors(offset, len(view))
        if stop - start == len(view):
            for block, first, end, piece in bitmap.pieces(offset, view):
                self._read(block, bitmap.span(first, end), first, piece)
        else:
            whole = bytearray(stop - start)
            self.readinto(start, memoryview(whole))
            view[:] = memoryview(whole)[offset - start :][: len(view)]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at ``offset``, volatile until the next flush.

        Raises:
            OutOfRange, ReadOnly: nothing was written.
            NoSpace, StorageFailed: some sectors may have their new content, the rest the old.
        """
        view = memoryview(data)
        start, stop = self._sectors(offset, len(view))
        leaf = self._writable()
        if stop - start != len(view):
            whole = bytearray(stop - start)
            self.readinto(start, memoryview(whole)[:SECTOR])
            self.readinto(stop - SECTOR, memoryview(whole)[-SECTOR:])
            whole[offset - start : offset - start + len(view)] = view
            view = memoryview(whole)
        leaf.write(start, view)

    def zero(self, offset: int, length: int) -> None:
        """Make ``length`` bytes at ``offset`` read as zeros; raises what :meth:`write` raises.

        Sectors that no disk of the chain holds are zero already and cost nothing. A VHD cannot
        give a sector back to its parent, so the others are written.
        """
        start, stop = self._sectors(offset, length)
        leaf = self._writable()
        head, tail = min(-offset % SECTOR, length), (offset + length) % SECTOR
        if stop - start - length:
            self.write(offset, bytes(head))
            if length - head >= tail:
                self.write(offset + length - tail, bytes(tail))
        for block, first, end in bitmap.by_block(offset + head, length - head - tail):
            held = 0
            for _, here in self.sources(block, bitmap.span(first, end)):
                held |= here
            for run in bitmap.runs(held):
                leaf.write_zeros(block, *run)

    def write_held(self, block: int, held: int, view: memoryview) -> None:
        """Write the sectors ``held`` of ``block`` from ``view``, as :meth:`read_held` left them.

        Raises what :meth:`write` raises.
        """
        beyond = (block + 1) * BLOCK - self.size
        if beyond > 0 and held & bitmap.span(max(0, BLOCK - beyond) // SECTOR, BLOCK_SECTORS):
            raise OutOfRange(self.path, block * BLOCK, BLOCK, self.size)
        self._writable().write_held(block, held, view)

    def flush(self) -> None:
        """Make all writes so far durable.

        Raises:
            NoSpace, StorageFailed: nothing of it may have become durable; after a failed sync
                every later write and flush raises the same error.
        """
        self._leaf.flush()

    @property
    def shortest(self) -> int:
        """The virtual size of the smallest disk of the chain, in bytes."""
        return min(disk.size for disk in self._disks)

    def blocks(self) -> Iterator[int]:
        """The 2 MiB blocks of which any disk of the chain holds something, ascending."""
        last = -1
        for block in heapq.merge(*(disk.blocks() for disk in self._disks)):
            if block != last:
                yield block
            last = block

    def read_held(self, block: int, view: memoryview) -> int:
        """Read what the chain holds of ``block`` into ``view``, 2 MiB; the set of these sectors.

        The rest of ``view`` stays as it is.
        """
        held = 0
        for disk, here in self.sources(block, bitmap.FULL):
            read_runs(disk, block, here, 0, view)
            held |= here
        return held

    def close(self) -> None:
        """Flush and close all files; closes them also if the flush fails."""
        try:
            self._leaf.close()
        finally:
            for disk in self._disks[1:]:
                disk.close()

    def _sectors(self, offset: int, length: int) -> tuple[int, int]:
        """The whole sectors around a request: byte of the first, byte after the last."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRange(self.path, offset, length, self.size)
        if not length:
            return offset, offset
        return offset // SECTOR * SECTOR, -(-(offset + length) // SECTOR) * SECTOR

    def _writable(self) -> ImageWriter | Raw:
        leaf = self._leaf
        if not leaf.backing.writable or not isinstance(leaf, ImageWriter | Raw):
            raise ReadOnly(self.path)
        return leaf

    def sources(self, block: int, wanted: int) -> Iterator[tuple[Disk, int]]:
        """The disks that supply some of the ``wanted`` sectors of ``block``, and which."""
        start = block * BLOCK
        for disk in self._disks:
            if disk.size < start + BLOCK:
                wanted &= bitmap.span(0, max(0, disk.size - start) // SECTOR)
            here = disk.present(block, wanted) if wanted else 0
            if here:
                yield disk, here
                wanted ^= here
            if not wanted:
                return

    def data(self, block: int) -> Iterator[tuple[Disk, int]]:
        """As :meth:`sources` for a whole block, without what is a hole of flat storage."""
        for disk, here in self.sources(block, bitmap.FULL):
            yield disk, disk.data(block, here) if isinstance(disk, Raw) else here

    def _read(self, block: int, wanted: int, first: int, piece: memoryview) -> None:
        """Read the ``wanted`` sectors of ``block`` into ``piece``, which begins at ``first``."""
        for disk, here in self.sources(block, wanted):
            wanted ^= here
            read_runs(disk, block, here, first, piece)
        for start, stop in bitmap.runs(wanted):
            zero_fill(piece[(start - first) * SECTOR : (stop - first) * SECTOR])


def read_runs(disk: Disk, block: int, here: int, first: int, piece: memoryview) -> None:
    """Read the sectors ``here`` of ``block`` from ``disk``, near ones with one system call."""
    base = disk.data_offset(block)
    views: list[memoryview] = []
    begin = end = 0
    for start, stop in bitmap.runs(here):
        gap = (start - end) * SECTOR
        if views and gap <= len(_BRIDGE):
            views.append(_BRIDGE[:gap])
        else:
            if views:
                disk.backing.readv(base + begin * SECTOR, views)
            views, begin = [], start
        views.append(piece[(start - first) * SECTOR : (stop - first) * SECTOR])
        end = stop
    disk.backing.readv(base + begin * SECTOR, views)


def open_chain(path: AnyPath, *, writable: bool = False) -> Chain:
    """Open a VHD with all its ancestors; only the leaf is ever written.

    Raises:
        ParentMissing: an ancestor was not found.
        ParentMismatch: opened for writing, and an ancestor is not the recorded one.
        ChainLoop: a disk is its own ancestor.
        VHDError: a file cannot be opened, or is no usable VHD.
    """
    return Chain(open_disks(os.fspath(path), writable=writable, strict=writable))


def open_disks(path: str, *, writable: bool = False, strict: bool = False) -> list[Disk]:
    """The disk ``path`` and all its ancestors, opened one by one; see :func:`open_chain`.

    ``strict`` refuses an ancestor that is not the recorded one.
    """
    disks = [open_disk(path, writable=writable)]
    try:
        _climb(disks, strict=strict)
    except BaseException:
        for disk in disks:
            disk.backing.close()
        raise
    return disks


def _climb(disks: list[Disk], *, strict: bool) -> None:
    """Append all ancestors of the only disk in ``disks``; on an error those before it stay."""
    seen = {disks[0].backing.identity}
    while isinstance(last := disks[-1], Image) and last.differencing:
        parent = open_parent(last, strict=strict)
        disks.append(parent)
        if parent.backing.identity in seen:
            raise ChainLoop(last.path, parent.path)
        seen.add(parent.backing.identity)


def refuse_loop(child: str, parent: str, *, raw_parent: bool) -> None:
    """Raise ChainLoop if ``child`` is ``parent`` or one of its ancestors, by whatever name.

    The file ``child`` need not exist, and an ancestor that is not there cannot be it. Raises what
    :func:`open_chain` raises otherwise.
    """
    identity = identity_of(child)
    if identity is None:
        return
    disks = [open_disk(parent, raw=raw_parent)]
    try:
        with suppress(ParentMissing):
            _climb(disks, strict=False)
        if any(disk.backing.identity == identity for disk in disks):
            raise ChainLoop(child, parent)
    finally:
        for disk in disks:
            disk.close()


def open_raw(path: AnyPath, *, writable: bool = False) -> Chain:
    """Open a raw file or block device as a chain of one; raises StorageFailed."""
    return Chain([open_disk(os.fspath(path), raw=True, writable=writable)])
