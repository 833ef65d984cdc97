"""Splitting a disk on a file SR: its data becomes a base copy, the disk a leaf above it.

    1  journal clone_<D> = <B>_<twin>
    2  link(D, B)                          B and D are one file (see also srs.hardlinks)
    3  leaves above B: the twin, in its place; D.new
    4  rename(D.new, D)                    commit point: D is a leaf above B
    5  hide B

Until step 4 recovery removes B and the leaves; after it, it hides B. B cannot be hidden
earlier: it shares its footer with D. The entry stays until the database knows, too.
"""

import errno
import os
from dataclasses import replace
from typing import Final, NoReturn

from srs import fist, hardlinks, vhd
from srs.filestore import NEW, FileStore
from srs.journal import SPLIT, Entry
from srs.snapshot import Branch
from srs.vdi import Disk

_NO_TWIN: Final = "-"


def split(store: FileStore, disk: Disk, base: str, twin: str) -> Branch:
    """Split a disk; `twin` is the uuid of a second leaf, empty for none."""
    entry = Entry(SPLIT, disk.uuid, f"{base}_{twin or _NO_TWIN}")
    store.journal.create(entry.kind, entry.id, entry.value)
    with fist.undone_by(lambda: _undo(store, entry)):
        fist.point("FileSR_clone_after_create_journal")
        fist.point("FileSR_fail_hardlink", _no_hardlinks)
        hardlinks.give_away(store.vhd_path(disk.uuid), store.vhd_path(base))
        below = replace(disk, uuid=base, hidden=True)
        fist.point("FileSR_fail_snap1", _full)
        if twin:
            store.put_leaf(twin, below)
        fist.point("FileSR_fail_snap2", _full)
        leaf = store.put_leaf(disk.uuid, below)  # the commit point
        fist.point("FileSR_clone_after_commit")
        vhd.set_hidden(store.vhd_path(base), True)
    return Branch(entry, leaf, store.disk(base), store.disk(twin) if twin else None)


def _undo(store: FileStore, entry: Entry) -> None:
    if not settle(store, entry):
        store.journal.remove(entry.kind, entry.id)


def leaves_of(entry: Entry) -> tuple[str, str]:
    """The base copy and the twin of a split, empty for none."""
    base, _, twin = entry.value.partition("_")
    return base, "" if twin == _NO_TWIN else twin


def settle(store: FileStore, entry: Entry) -> bool:
    """End a split: undo it before its commit point, finish it after; says which it was."""
    base, twin = leaves_of(entry)
    leaf, below = store.vhd_path(entry.id), store.vhd_path(base)
    if hardlinks.is_split(leaf, below):
        vhd.set_hidden(below, True)
        return True
    # The base last, and not before the others are gone for good: leaves cannot be without it.
    store.remove(f"{twin}.vhd", f"{twin}.vhd{NEW}", f"{entry.id}.vhd{NEW}")
    hardlinks.take_back(leaf, below)
    return False


def _no_hardlinks() -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _full() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
