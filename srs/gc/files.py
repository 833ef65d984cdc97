"""Images in a directory, as a collector changes them.

One rename is all that a leaf-coalesce of disk L into base P needs, because it drops L's old
image in the same step:

    1  journal leaf_<L> = <P>
    2  L's data go into P; P is no longer hidden
    3  rename(P, L)                     commit point
    4  drop the journal

As long as P is there recovery hides it again, and everything is as before. XenServer's
collectors rename L to OLD_<L> first; what they leave is undone as they would do it themselves.
"""

import os

from srs import filenames, fist, vhd
from srs.filestore import FileStore
from srs.gc.medium import COALESCE, LEAF, OLD, RELINK
from srs.journal import FileJournal, fsync_directory
from srs.vdi import Disk


class FileMedium:
    """See Medium."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self.journal = FileJournal(store.path(""), (COALESCE, RELINK, LEAF))

    def _vhd(self, uuid: str) -> str:
        return self._store.path(f"{uuid}.vhd")

    def path(self, disk: Disk) -> str:
        """See Medium."""
        return self._store.path_of(disk)

    def allocated(self, disk: Disk) -> int:
        """See Medium."""
        info = vhd.query(self.path(disk), resolve_parent=False, allocated=True)
        return (info.allocated or 0) * vhd.BLOCK

    def begin_merge(self, disk: Disk, parent: Disk) -> None:
        """See Medium. Files grow as they are written."""
        if parent.size >= disk.size:
            return
        fist.point("LVHDRT_resizing_while_vdis_are_paused")
        if parent.raw:
            # The new end is a hole. Whether it lasts matters to nobody before the merge's own sync.
            os.truncate(self.path(parent), disk.size)
        else:
            self._store.grow(parent, disk.size)

    def hold(self, disk: Disk) -> None:
        """See Medium."""

    def end_merge(self, disk: Disk, parent: Disk) -> None:
        """See Medium."""

    def relink(self, child: Disk, parent: Disk) -> None:
        """See Medium."""
        vhd.set_parent(self.path(child), self.path(parent), raw_parent=parent.raw)

    def settle(self, disks: list[Disk]) -> None:
        """See Medium."""

    def remove(self, disks: list[Disk]) -> None:
        """See Medium."""
        for disk in disks:
            filenames.remove(self.path(disk))
        fsync_directory(self._store.path(""))

    def take_place(self, disk: Disk, parent: Disk) -> None:
        """See Medium."""
        vhd.set_hidden(self.path(parent), False)
        fist.point("LVHDRT_coaleaf_one_renamed")
        filenames.rename(self.path(parent), self.path(disk))  # the commit point
        fsync_directory(self._store.path(""))
        fist.point("LVHDRT_coaleaf_both_renamed")

    def end_leaf(self, leaf: str, parent: str) -> None:
        """See Medium. After the commit point nothing is left to do."""
        if not parent:
            self._drop_old(leaf)
            return
        old = self._vhd(OLD + leaf)
        if filenames.exists(old):
            if not filenames.exists(self._vhd(parent)):
                filenames.rename(self._vhd(leaf), self._vhd(parent))
                fist.point("LVHDRT_coaleaf_undo_after_rename")
            filenames.rename(old, self._vhd(leaf))
            fsync_directory(self._store.path(""))
            fist.point("LVHDRT_coaleaf_undo_after_rename2")
            vhd.set_hidden(self._vhd(leaf), False)
        if filenames.exists(self._vhd(parent)):
            vhd.set_hidden(self._vhd(parent), True)
            fist.point("LVHDRT_coaleaf_undo_end")
        else:
            fist.point("LVHDRT_coaleaf_finish_end")

    def _drop_old(self, leaf: str) -> None:
        """Without an entry an old image is rubbish, unless its disk is missing."""
        old = self._vhd(OLD + leaf)
        if filenames.exists(self._vhd(leaf)):
            filenames.remove(old)
        elif filenames.exists(old):
            vhd.set_hidden(old, False)
            filenames.rename(old, self._vhd(leaf))
