"""`vhd-util scan`: a line for each of many disks, in files or in the volumes of a group."""

import os
from collections.abc import Iterator
from errno import EIO

from srs.tools.frame import say
from srs.tools.options import Options
from srs.vhd.errors import StorageFailed
from srs.vhd.locator import canonical
from srs.vhd.scan import Record, ScanFailed, Scanned, Volume, find_files, scan_volumes
from srs.vhd.scan import scan as scan_files

_INDENT = "   "
_LOST = " (not found in scan)"


def scan(options: Options) -> int:
    """Scan the files that ``-m`` matches and those named, or the volumes of the group ``-l``.

    ``-f`` reads the first sectors only, ``-a`` looks at parents, too; ``-p`` draws a tree,
    ``-v`` prints whole paths, ``-M`` markers and key hashes. A failure ends it, but with ``-c``.
    """
    disks: list[Scanned] = []
    status = 0
    for record in _volumes(options) if "l" in options else _files(options):
        if isinstance(record, ScanFailed):
            say(f"vhd={record.path} scan-error={-record.errno} error-message='{record.text}'")
            if "c" not in options:
                status = record.errno or EIO
                break
        elif "p" in options:
            disks.append(record)
        else:
            say(_line(record, options))
    for line in _tree(disks, options) if not status else ():
        say(line)
    return status


def _files(options: Options) -> Iterator[Record]:
    paths = find_files(options["m"]) if "m" in options else []
    fast = "f" in options and "p" not in options
    return scan_files(
        [*paths, *options.operands], fast=fast, ancestors="a" in options, markers="M" in options
    )


def _volumes(options: Options) -> Iterator[Record]:
    """The records of volumes whose names match ``-m`` or are given, all without either."""
    from fnmatch import fnmatchcase

    from srs.errors import SRError
    from srs.lvm import LVMError
    from srs.run import CommandFailed
    from srs.volumes import VolumeGroup

    group = VolumeGroup(options["l"])
    try:
        found = group.volumes
    except (SRError, LVMError, CommandFailed) as error:
        raise StorageFailed(group.name, "report", str(error), EIO) from error
    volumes = {
        name: Volume(name, group.path(name), 0, each.size)
        if each.active or each.start is None
        else Volume(name, *each.start, each.size)
        for name, each in sorted(found.items())
    }
    patterns = [options.get("m"), *options.operands]
    chosen = [
        volume
        for name, volume in volumes.items()
        if patterns == [None] or any(fnmatchcase(name, each) for each in patterns if each)
    ]
    others = volumes.values() if "a" in options else ()
    return scan_volumes(chosen, parents=others, markers="M" in options)


def _line(disk: Scanned, options: Options) -> str:
    parent = "none" if disk.parent is None else _name(disk.parent, options)
    batmap = ""
    if "M" in options:
        key = disk.key_hash.hex() if disk.key_hash else "empty"
        batmap = f"marker={disk.marker or 0} keyhash={key} "
    return (
        f"vhd={_name(disk.path, options)} capacity={disk.capacity} size={disk.size}"
        f" hidden={disk.hidden} {batmap}parent={parent}"
    )


def _name(path: str, options: Options) -> str:
    return path if "v" in options else os.path.basename(path)


def _tree(disks: list[Scanned], options: Options) -> Iterator[str]:
    """The lines of all disks, children below their parent: visible ones first, but hidden roots."""
    by_path = {disk.path if "l" in options else canonical(disk.path): disk for disk in disks}
    children: dict[str | None, list[str]] = {}
    for path, disk in by_path.items():
        parent = disk.parent if disk.parent in by_path else None
        children.setdefault(parent, []).append(path)

    def is_hidden(path: str) -> bool:
        return by_path[path].hidden != 0

    roots = sorted(children.pop(None, []), key=is_hidden, reverse=True)
    # Behind the roots all disks once more: one that is not drawn by then is in a loop.
    waiting = [(path, 0) for path in reversed([*roots, *by_path])]
    drawn: set[str] = set()
    while waiting:
        path, depth = waiting.pop()
        if path not in drawn:
            drawn.add(path)
            disk = by_path[path]
            lost = disk.parent is not None and disk.parent not in by_path
            yield _INDENT * depth + _line(disk, options) + _LOST * lost
            below = sorted(children.get(path, []), key=is_hidden)
            waiting += [(child, depth + 1) for child in reversed(below)]
