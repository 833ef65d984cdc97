"""Images in a volume group, as a collector changes them.

The volumes that a merge reads and writes must stay active while nobody holds the SR's lock: for
that time the merged disk counts as attached to this host, so other calls leave it and all that
it stands on alone. What a crash leaves of that is counted afresh by the next recovery.

A leaf-coalesce of disk L into base P (reference: XenServer's order, and its rule what a
journal entry means):

    1  journal leaf_<L>_<P>
    2  L's data go into P; P is no longer hidden
    3  rename VHD-L -> VHD-OLD_L
    4  rename VHD-P -> VHD-L
    5  remove VHD-OLD_L                 commit point
    6  give L the room that it is to have, drop the journal

As long as VHD-P or VHD-OLD_L is there recovery goes back; otherwise it does step 6.
"""

from collections.abc import Callable

from srs import fist, vhd
from srs import lvhd_layout as layout
from srs.errors import VDISize
from srs.lvhd_store import VolumeStore
from srs.vdi import Disk
from srs.vhd.format import BLOCK
from srs.volumes import VolumeGroup

#: What a block of 2 MiB takes of a volume, with its bitmap.
_STORED_BLOCK = BLOCK + 4096


class VolumeMedium:
    """See Medium.

    Args:
        store: the images.
        keeps_room: whether a disk has its volume in full size even if nobody writes to it.
    """

    def __init__(self, store: VolumeStore, keeps_room: Callable[[Disk], bool]) -> None:
        self._store = store
        self._keeps_room = keeps_room
        self.journal = store.journal

    @property
    def _group(self) -> VolumeGroup:
        return self._store.group

    def path(self, disk: Disk) -> str:
        """See Medium."""
        return self._store.path(disk.uuid)

    def allocated(self, disk: Disk) -> int:
        """See Medium."""
        self._store.activate_chain(disk)
        info = vhd.query(self.path(disk), resolve_parent=False, allocated=True)
        return (info.allocated or 0) * BLOCK

    # -- merging

    def begin_merge(self, disk: Disk, parent: Disk) -> None:
        """See Medium."""
        self._store.activate_chain(disk)
        need = self._need(disk, parent)
        volume = self._store.volume_of(parent.uuid)
        self._group.set_readonly(volume.name, False)
        fist.point("LVHDRT_coalescing_before_inflate_grandparent")
        if not parent.raw:
            self._store.inflate(parent.uuid, need)
            fist.point("LVHDRT_inflating_the_parent")
        if parent.size < disk.size:
            self._grow(parent, disk.size)

    def _need(self, disk: Disk, parent: Disk) -> int:
        """The volume that the parent needs to take the disk's data, bytes."""
        if parent.raw:
            return parent.size
        with vhd.open_chain(self.path(disk)) as chain:
            above, below = (set(image.blocks()) for image in chain.disks[:2])
        held = vhd.query(self.path(parent), resolve_parent=False).physical_size
        room = layout.full_size(max(disk.size, parent.size))
        return min(held + len(above - below) * _STORED_BLOCK, room)

    def _grow(self, parent: Disk, size: int) -> None:
        fist.point("LVHDRT_resizing_while_vdis_are_paused")
        if parent.raw:
            self._store.grow_base(parent, size)
            return
        try:
            vhd.resize(self.path(parent), size)
        except vhd.SizeRefused as error:
            raise VDISize(error) from error

    def hold(self, disk: Disk) -> None:
        """See Medium."""
        self._store.recount(attached=disk.uuid)
        self._store.activate_chain(disk, keep=True)

    def end_merge(self, disk: Disk, parent: Disk) -> None:
        """See Medium."""
        self._store.recount(detached=disk.uuid)
        self._make_readonly(parent.uuid)

    def _make_readonly(self, uuid: str) -> None:
        self._group.set_readonly(self._store.volume_of(uuid).name, True)

    def relink(self, child: Disk, parent: Disk) -> None:
        """See Medium."""
        volume = self._store.volume_of(child.uuid)
        self._group.set_readonly(volume.name, False)
        self._store.activate_chain(parent)
        self._group.activate(volume.name)
        vhd.set_parent(self.path(child), self.path(parent), raw_parent=parent.raw)
        # Not as it was: a cut may have come here before, and left a base copy writable.
        self._group.set_readonly(volume.name, child.hidden)

    def settle(self, disks: list[Disk]) -> None:
        """See Medium."""
        self._store.recount()
        for disk in disks:
            if self._store.counts.get(disk.uuid).binary:
                self._store.activate_chain(self._store.disk(disk.uuid), keep=True)

    def remove(self, disks: list[Disk]) -> None:
        """See Medium. In one commit of LVM's metadata."""
        self._group.remove(*(self._store.volume_of(disk.uuid).name for disk in disks))

    # -- taking a disk's place

    def take_place(self, disk: Disk, parent: Disk) -> None:
        """See Medium."""
        vhd.set_hidden(self.path(parent), False)
        self._group.rename(layout.vhd_name(disk.uuid), layout.old_name(disk.uuid))
        fist.point("LVHDRT_coaleaf_one_renamed")
        self._group.rename(layout.vhd_name(parent.uuid), layout.vhd_name(disk.uuid))
        fist.point("LVHDRT_coaleaf_both_renamed")
        fist.point("LVHDRT_coaleaf_before_delete")
        self._group.remove(layout.old_name(disk.uuid))  # the commit point
        fist.point("LVHDRT_coaleaf_after_delete")
        self._fit(disk.uuid)

    def _fit(self, uuid: str) -> None:
        """Give a disk that was a base copy the volume that it is to have."""
        self._store.recount()
        disk = self._store.disk(uuid)
        if self._store.give_room(disk, thick=self._keeps_room(disk)):
            fist.point("LVHDRT_coaleaf_finish_after_inflate")
        else:
            self._store.deflate(uuid)
        self.settle([disk])

    def end_leaf(self, leaf: str, parent: str) -> None:
        """See Medium."""
        if not parent:
            return
        names = self._group.volumes
        old, mine, below = layout.old_name(leaf), layout.vhd_name(leaf), layout.vhd_name(parent)
        if old not in names and below not in names:
            self._fit(leaf)
            fist.point("LVHDRT_coaleaf_finish_end")
            return
        if old in names:
            if below not in names:
                self._group.rename(mine, below)
                fist.point("LVHDRT_coaleaf_undo_after_rename")
            self._group.rename(old, mine)
            fist.point("LVHDRT_coaleaf_undo_after_rename2")
        self._hide(mine, False)
        self._hide(below, True)
        self._group.set_readonly(below, True)
        self.settle([self._store.disk(leaf)])
        fist.point("LVHDRT_coaleaf_undo_after_refcount")
        fist.point("LVHDRT_coaleaf_undo_end")

    def _hide(self, volume: str, hidden: bool) -> None:
        self._group.set_readonly(volume, False)
        self._group.activate(volume)
        vhd.set_hidden(self._group.path(volume), hidden)
