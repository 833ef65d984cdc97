"""Looking at many disks: one record each, and a damaged one does not hide the others.

Only what a disk says itself is read, its parents are never opened. A fast scan reads the first
sectors of each and nothing else.
"""

import glob
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from errno import EIO
from typing import Protocol
from uuid import UUID

from srs.vhd import locator
from srs.vhd.backing import AnyPath, Backing
from srs.vhd.errors import BadFooter, ParentMissing, StorageFailed, VHDError
from srs.vhd.footers import find_footer
from srs.vhd.format import DIFFERENCING, FIXED, NULL_ID, SECTOR, Footer
from srs.vhd.header import FIRST_TABLE, HEADER_LENGTH, BatmapHeader, Header, bat_length
from srs.vhd.image import Image
from srs.vhd.parent import find_parent

_BRACES = re.compile(r"\{([^{}]*)\}")
_MAPPED = re.compile(r"(?:[^-]|--)+-((?:[^-]|--)+)")
_DIRECT = 4096
"""What is read past the page cache comes in whole pages."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan tells of the disk ``path``; sizes are bytes.

    ``capacity`` is the virtual size, ``size`` the length of file, device or volume. ``parent`` is
    the canonical path of the parent, as stored if that does not exist, only its name in a fast
    scan; None for a disk without one. ``marker`` and ``key_hash`` are the batmap's, None if they
    were not asked for or there is no batmap.
    """

    path: str
    capacity: int
    size: int
    hidden: int
    parent: str | None
    disk_type: int
    unique_id: UUID
    marker: int | None = None
    key_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class ScanFailed:
    """Why ``path`` could not be looked at: what was being done, and the errno."""

    path: str
    text: str
    errno: int


@dataclass(frozen=True, slots=True)
class Volume:
    """Where a volume's bytes begin: ``offset`` (bytes) on ``device``, for ``size`` bytes.

    It need not be active: for an inactive one that is its first extent on the physical volume.
    """

    name: str
    device: str
    offset: int
    size: int


Record = Scanned | ScanFailed


def find_files(pattern: str) -> list[str]:
    """The files that a shell pattern matches, in order; braces give alternatives."""
    match = _BRACES.search(pattern)
    if match is None:
        return sorted(glob.glob(pattern))
    before, after = pattern[: match.start()], pattern[match.end() :]
    found: set[str] = set()
    for choice in match[1].split(","):
        found.update(find_files(before + choice + after))
    return sorted(found)


def scan(
    paths: Iterable[AnyPath], *, fast: bool = False, ancestors: bool = False, markers: bool = False
) -> Iterator[Record]:
    """A record of each of the disks ``paths``, in their order.

    Args:
        paths: VHDs on files or block devices; :func:`find_files` finds some.
        fast: read the footer and header at the start only, and leave parents unresolved.
        ancestors: then also of each parent that was not among them, once, and of its parents.
        markers: read the batmap's marker and key hash.
    """
    seen: set[str] = set()
    waiting = {os.fspath(path): False for path in paths}
    while waiting:
        seen.update(map(locator.canonical, waiting))
        parents: dict[str, bool] = {}
        for path, raw in waiting.items():
            try:
                with Backing(path) as backing:
                    if raw:
                        record, raw_parent = _raw_image(backing), False
                    elif fast:
                        record, raw_parent = _glance(backing, markers)
                    else:
                        record, raw_parent = _look(backing, markers)
            except VHDError as error:
                yield ScanFailed(path, _reason(error), error.errno)
                continue
            yield record
            if ancestors and record.parent is not None:
                above = os.path.join(os.path.dirname(path), record.parent)
                parents[locator.canonical(above)] = raw_parent
        waiting = {path: raw for path, raw in parents.items() if path not in seen}


def scan_volumes(
    volumes: Iterable[Volume], *, parents: Iterable[Volume] = (), markers: bool = False
) -> Iterator[Record]:
    """A fast scan of volumes that need not be active; ``path`` and ``parent`` are their names.

    ``parents`` are volumes, of which those follow, once, on which one of the others stands.
    """
    known = {volume.name: volume for volume in parents}
    waiting = {volume.name: (volume, False) for volume in volumes}
    while waiting:
        above: dict[str, tuple[Volume, bool]] = {}
        for volume, raw in waiting.values():
            known.pop(volume.name, None)
            window = _Window(volume)
            try:
                record, raw_parent = (
                    (_raw_image(window), False) if raw else _glance(window, markers)
                )
            except VHDError as error:
                yield ScanFailed(volume.name, _reason(error), error.errno)
                continue
            record = replace(record, parent=record.parent and volume_name(record.parent))
            yield record
            if record.parent in known:
                above[record.parent] = known[record.parent], raw_parent
        waiting = {name: found for name, found in above.items() if name in known}


def volume_name(mapped: str) -> str:
    """The volume that a name in /dev/mapper stands for, whose own dashes are doubled there.

    A name that is not of that form stays.
    """
    name = os.path.basename(mapped)
    match = _MAPPED.fullmatch(name)
    return match[1].replace("--", "-") if match else name


class _Readable(Protocol):
    """What a glance needs of a file, a device or a window onto one."""

    path: str

    def read(self, offset: int, length: int) -> bytes: ...

    def size(self) -> int: ...


class _Window:
    """A volume seen through the device below it, past the page cache, which knows it not."""

    def __init__(self, volume: Volume) -> None:
        self.path = volume.name
        self._volume = volume

    def size(self) -> int:
        return self._volume.size

    def read(self, offset: int, length: int) -> bytes:
        start = (self._volume.offset + offset) // _DIRECT * _DIRECT
        skip = self._volume.offset + offset - start
        try:
            fd = os.open(self._volume.device, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
            try:
                # Anonymous memory begins on a page: reading past the page cache asks for that.
                with mmap.mmap(-1, -(-(skip + length) // _DIRECT) * _DIRECT) as buffer:
                    done = os.preadv(fd, [buffer], start)
                    return buffer[skip : min(done, skip + length)]
            finally:
                os.close(fd)
        except OSError as error:
            number = error.errno or EIO
            raise StorageFailed(self.path, "read", os.strerror(number), number) from error


def _glance(disk: _Readable, markers: bool) -> tuple[Scanned, bool]:
    """What the first sectors tell, and if the parent is raw."""
    raw = disk.read(0, FIRST_TABLE)
    try:
        footer = Footer.unpack(raw[:SECTOR], disk.path, poisoned=True)
    except BadFooter:
        footer = Footer.unpack(disk.read(max(0, disk.size() - SECTOR), SECTOR), disk.path)
        if footer.disk_type != FIXED:
            raise
    if footer.disk_type == FIXED:
        return _record(disk, footer, None, None), False
    at = footer.data_offset
    raw = raw[SECTOR:] if at == SECTOR else disk.read(at, HEADER_LENGTH)
    header = Header.unpack(raw, disk.path)
    differencing = footer.disk_type == DIFFERENCING
    batmap = _batmap_header(disk, footer, header) if markers else None
    parent = header.parent_name if differencing else None
    return _record(disk, footer, parent, batmap), differencing and header.parent_id == NULL_ID


def _look(backing: Backing, markers: bool) -> tuple[Scanned, bool]:
    """What a disk tells, its parent's path resolved, and if the parent is raw."""
    found = find_footer(backing, poisoned=True)
    if found.footer.disk_type == FIXED:
        return _record(backing, found.footer, None, None), False
    image = Image(backing, found)
    parent = None
    if image.differencing:
        try:
            parent = find_parent(image)
        except ParentMissing as error:
            parent = error.parent
    batmap = _batmap_header(backing, image.footer, image.header) if markers else None
    return _record(backing, image.footer, parent, batmap), image.raw_parent


def _batmap_header(disk: _Readable, footer: Footer, header: Header) -> BatmapHeader | None:
    if not footer.by_tap:
        return None
    return BatmapHeader.unpack(disk.read(header.bat_offset + bat_length(header.slots), SECTOR))


def _record(
    disk: _Readable, footer: Footer, parent: str | None, batmap: BatmapHeader | None
) -> Scanned:
    return Scanned(
        *(disk.path, footer.size, disk.size(), footer.hidden, parent),
        *(footer.disk_type, footer.unique_id),
        marker=batmap.marker if batmap else None,
        key_hash=batmap.key_hash if batmap and batmap.key_cookie == 1 else None,
    )


def _raw_image(disk: _Readable) -> Scanned:
    """A raw parent: nobody uses it but its children, and it knows nothing of itself."""
    size = disk.size()
    return Scanned(disk.path, size, size, 1, None, FIXED, NULL_ID)


def _reason(error: VHDError) -> str:
    """What was being done, in the words of the field's tool."""
    if isinstance(error, StorageFailed):
        return "opening file" if error.operation == "open" else "reading file"
    return "invalid footer" if isinstance(error, BadFooter) else "reading header"
