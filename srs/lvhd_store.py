"""Images as volumes of a group, and how they change so that a crash loses nothing.

    Exception
    ├── VDIUnavailable 46      no such image
    ├── VDISize 79             an image cannot be made that large
    └── SRNoSpace 44           the group has not enough free extents

Whoever uses a store holds the SR's lock. Splitting a disk and replacing one, which take
several steps, are in srs.lvhd_split and srs.lvhd_replace.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from srs import fist, nodes, vhd
from srs import lvhd_layout as layout
from srs.errors import SRNoSpace, VDISize, VDIUnavailable
from srs.journal import INFLATE, ZERO, Entry, VolumeJournal
from srs.lvhd_peek import peek
from srs.lvm import LVMError
from srs.refcount import RefCounts
from srs.vdi import Disk
from srs.volumes import EXTENT, LogicalVolume, VolumeGroup

_SECTOR = 512


class VolumeStore:
    """The images in a volume group.

    Args:
        group: the volume group.
        counts: what is attached to this host.
        written_elsewhere: whether some host has a disk attached for writing.
    """

    def __init__(
        self,
        group: VolumeGroup,
        counts: RefCounts,
        written_elsewhere: Callable[[str], bool] = lambda uuid: False,
    ) -> None:
        self.group = group
        self.counts = counts
        self._written_elsewhere = written_elsewhere
        self.journal = VolumeJournal(group)

    # -- looking

    def volume_of(self, uuid: str) -> LogicalVolume:
        """The volume of a disk.

        Raises:
            VDIUnavailable: there is none.
        """
        for name in (layout.vhd_name(uuid), layout.raw_name(uuid)):
            if name in self.group.volumes:
                return self.group.volumes[name]
        raise VDIUnavailable(f"{uuid} is not on this SR")

    def exists(self, uuid: str) -> bool:
        """Whether there is an image of this uuid."""
        names = (layout.vhd_name(uuid), layout.raw_name(uuid))
        return any(name in self.group.volumes for name in names)

    def disk(self, uuid: str) -> Disk:
        """An image; nothing is activated for it."""
        volume = self.volume_of(uuid)
        if volume.name.startswith(layout.RAW_PREFIX):
            hidden = layout.HIDDEN_TAG in volume.tags
            size = volume.size
            return Disk(uuid, size, size, raw=True, hidden=hidden, vdi_type="aio")
        return self.vhd_in(volume, uuid)

    def vhd_in(self, volume: LogicalVolume, uuid: str) -> Disk:
        """The VHD in a volume, as the disk `uuid`."""
        head = peek(self.group, volume)
        return Disk(
            uuid,
            head.size,
            volume.size,
            hidden=head.hidden,
            parent=head.parent,
            vdi_type="vhd",
        )

    def disks(self) -> list[Disk]:
        """All images."""
        return [self.disk(uuid) for uuid in self._uuids()]

    def _uuids(self) -> list[str]:
        return list(filter(None, map(layout.disk_of, sorted(self.group.volumes))))

    def readers(self, base: str) -> list[str]:
        """What stands on a base copy, less the images whose chains cannot be read."""
        return [uuid for uuid in self._uuids() if base in self.readable_chain(uuid)[1:]]

    def path(self, uuid: str) -> str:
        """The device of a disk, while it is active."""
        return self.group.path(self.volume_of(uuid).name)

    def chain(self, disk: Disk) -> list[str]:
        """The disk and what it stands on, from top to root, as uuids."""
        uuids = [disk.uuid]
        while disk.parent and disk.parent not in uuids:
            disk = self.disk(disk.parent)
            uuids.append(disk.uuid)
        return uuids

    def activate_chain(self, disk: Disk, *, keep: bool = False) -> None:
        """Activate a disk and all that it stands on, in one command."""
        names = [self.volume_of(uuid).name for uuid in self.chain(disk)]
        self.group.activate(*names, keep=keep)

    def activate_top(self, disk: Disk) -> None:
        """Activate a disk and the one that it stands on, in one command.

        A leaf above it needs no more, mostly: activating a chain of thirty takes a second.
        """
        uuids = (disk.uuid, *([disk.parent] if disk.parent else []))
        self.group.activate(*(self.volume_of(uuid).name for uuid in uuids))

    def recount(self, *, attached: str = "", detached: str = "") -> None:
        """Count afresh who reads what: `attached` is one disk more, `detached` one less."""
        leaves = {*self.counts.attached(), attached} - {detached, ""}
        self.counts.recount([self.readable_chain(leaf) for leaf in leaves])

    def readable_chain(self, leaf: str) -> list[str]:
        """The chain, or the disk alone: another host may be changing it, or headers are lost."""
        try:
            return self.chain(self.disk(leaf))
        except VDIUnavailable:
            return [leaf]

    def abandon(self, uuid: str) -> None:
        """Close a disk though the metadata cannot be read: what nobody has open goes.

        What goes too far, volumes of a disk that is paused, the next `reactivate` brings back.
        What other disks read is counted afresh when one is opened or closed.
        """
        self.counts.set(uuid, replace(self.counts.get(uuid), binary=0))
        attached = set(self.counts.attached())
        if not attached:
            self.counts.reset()
        for name in nodes.volumes(self.group.name):
            if name != layout.METADATA and layout.disk_of(name) not in attached:
                with suppress(OSError):
                    nodes.remove(self.group.name, name)

    def reactivate(self) -> None:
        """Activate what attached disks need.

        While another host was the master it may have had this one let go of a disk, and died.
        One whose images cannot be read is left out: the others must go on.
        """
        for uuid in self.counts.attached():
            if self.exists(uuid):
                volume = self.volume_of(uuid)
                if not volume.active or volume.name in self.group.temporary:
                    with suppress(VDIUnavailable, LVMError):
                        self.activate_chain(self.disk(uuid), keep=True)

    def deactivate_unused(self) -> None:
        """Deactivate what a call that died left active: volumes that no attached disk needs."""
        self.group.deactivate(
            *(
                name
                for name, volume in self.group.volumes.items()
                if volume.active
                and not volume.open
                and name != layout.METADATA
                and not self.counts.get(
                    layout.disk_of(name) or layout.log_disk_of(name) or name
                ).used
            )
        )

    def has_data(self, disk: Disk) -> bool:
        """Whether the image itself holds any block."""
        self.activate_top(disk)
        return bool(vhd.query(self.path(disk.uuid), resolve_parent=False, allocated=True).allocated)

    def depth(self, disk: Disk) -> int:
        """How many images a reader follows."""
        return len(self.chain(disk))

    def require_free(self, need: int) -> None:
        """Refuse what does not fit.

        Raises:
            SRNoSpace: see there.
        """
        if need > self.group.free:
            raise SRNoSpace(f"{need} bytes needed, {self.group.free} free")

    def is_attached(self, uuid: str) -> bool:
        """Whether a disk may be written to at any moment, here or on another host."""
        return self.counts.get(uuid).binary > 0 or self._written_elsewhere(uuid)

    # -- changing

    def allocate(self, uuid: str, size: int, volume_size: int, *, raw: bool) -> Disk:
        """Make an empty disk."""
        self.require_free(-(-volume_size // EXTENT) * EXTENT)
        if raw:
            self.group.create(layout.raw_name(uuid), volume_size)
            return self.disk(uuid)
        name = layout.vhd_name(uuid)
        # Until its headers are written the volume is rubbish, and marked so.
        path = self.group.create(name, volume_size, tags=(layout.UNFINISHED_TAG,))
        try:
            vhd.create(path, size, max_size=layout.TABLE_SIZE)
            self.group.change_tag(name, remove=layout.UNFINISHED_TAG)
        except BaseException:
            self.group.remove(name)
            raise
        return self.disk(uuid)

    def write_leaf(self, path: str, like: Disk) -> None:
        """Write an empty leaf like `like`, which holds no data of its own, on a device."""
        if like.parent:
            self.link_leaf(path, like)
        else:
            vhd.create(path, like.size, max_size=layout.TABLE_SIZE)

    def link_leaf(self, path: str, below: Disk) -> None:
        """Write an empty leaf on a device that reads as the disk `below` does."""
        self.activate_top(below)
        try:
            vhd.snapshot(path, self.path(below.uuid), max_size=layout.TABLE_SIZE)
        except vhd.ParentMissing:
            # Both are empty: what the leaf will stand on is further down. Nothing was written.
            self.activate_chain(below)
            vhd.snapshot(path, self.path(below.uuid), max_size=layout.TABLE_SIZE)

    def add_leaf(self, uuid: str, like: Disk, volume_size: int) -> Disk:
        """Make the disk `uuid`, which reads as `like` does."""
        self.require_free(volume_size)
        name = layout.vhd_name(uuid)
        path = self.group.create(name, volume_size, tags=(layout.UNFINISHED_TAG,))
        try:
            self.write_leaf(path, like)
            self.group.change_tag(name, remove=layout.UNFINISHED_TAG)
        except BaseException:
            self.group.remove(name)
            raise
        return self.disk(uuid)

    def destroy(self, disk: Disk) -> None:
        """Remove a disk."""
        self.group.remove(self.volume_of(disk.uuid).name)

    def grow(self, disk: Disk, size: int, volume_size: int) -> Disk:
        """Make a disk larger; its volume too if it is smaller than `volume_size`."""
        if disk.raw:
            self.require_free(volume_size - disk.utilisation)
            self.group.resize(self.volume_of(disk.uuid).name, size)
            return self.disk(disk.uuid)
        self.inflate(disk.uuid, volume_size)
        self.group.activate(self.volume_of(disk.uuid).name)
        try:
            vhd.resize(self.path(disk.uuid), size)
        except vhd.SizeRefused as error:
            raise VDISize(error) from error
        return self.disk(disk.uuid)

    def inflate(self, uuid: str, size: int) -> None:
        """Make a VHD's volume at least this large.

        The new end may hold another image's footer: it is wiped before ours is written, and a
        crash in between is undone by cutting the volume back.
        """
        volume = self.volume_of(uuid)
        if size <= volume.size:
            return
        self.require_free(size - volume.size + EXTENT)
        self.journal.create(INFLATE, uuid, str(volume.size))
        fist.point("LVHDRT_inflate_after_create_journal")
        self.group.activate(volume.name)
        self.group.resize(volume.name, size)
        fist.point("LVHDRT_inflate_after_setSize")
        self._wipe_end(volume.name)
        fist.point("LVHDRT_inflate_after_zeroOut")
        vhd.set_physical_size(self.group.path(volume.name), self.group.volume(volume.name).size)
        fist.point("LVHDRT_inflate_after_setSizePhys")
        self.journal.remove(INFLATE, uuid)

    def grow_base(self, disk: Disk, size: int) -> None:
        """Make a raw base copy larger; the disks that read it are paused, and see zeros there.

        New extents hold what was there before. Until that is wiped nobody may open those disks:
        recovery, which comes first, cuts the volume back.
        """
        name = self.volume_of(disk.uuid).name
        self.require_free(-(-size // EXTENT) * EXTENT - disk.size + EXTENT)
        entry = Entry(ZERO, disk.uuid, str(disk.size))
        self.journal.create(entry.kind, entry.id, entry.value)
        with fist.undone_by(lambda: self._give_up_growth(entry)):
            self.group.activate(name)
            self.group.resize(name, size)
            fist.point("LVM_zero_after_setSize")
            vhd.wipe(self.group.path(name), disk.size)
        self.journal.remove(entry.kind, entry.id)

    def _give_up_growth(self, entry: Entry) -> None:
        self.undo_base_growth(entry)
        self.journal.remove(entry.kind, entry.id)

    def give_room(self, disk: Disk, *, thick: bool) -> bool:
        """Reserve a disk's room, if it is to have it always (`thick`) or somebody writes to it.

        A thick disk that nobody uses may stay small where there is no room: it gets it, or is
        refused, when somebody does.

        Returns:
            Whether it is one of those.

        Raises:
            SRNoSpace: it is attached, and there is no room.
        """
        attached = self.is_attached(disk.uuid)
        if attached or thick:
            try:
                self.inflate(disk.uuid, layout.full_size(disk.size))
            except SRNoSpace:
                if attached:
                    raise
        return attached or thick

    def deflate(self, uuid: str, size: int = 0) -> None:
        """Give back what a VHD's volume does not use; the footer moves first."""
        volume = self.volume_of(uuid)
        self.group.activate(volume.name)
        path = self.group.path(volume.name)
        needed = vhd.query(path, resolve_parent=False).physical_size
        size = -(-max(size, needed) // EXTENT) * EXTENT
        if size < volume.size:
            vhd.set_physical_size(path, size)
            self.group.resize(volume.name, size)

    def _wipe_end(self, name: str) -> None:
        fd = os.open(self.group.path(name), os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
        try:
            os.pwrite(fd, bytes(_SECTOR), self.group.volume(name).size - _SECTOR)
        finally:
            os.close(fd)

    # -- after a crash

    def undo_inflation(self, entry: Entry) -> None:
        """Cut a volume back to what it was."""
        # Where the volume did not grow yet, its last sector is the footer that counts.
        if entry.value and self.exists(entry.id):
            volume, size = self.volume_of(entry.id), int(entry.value)
            if volume.size > size:
                self.group.activate(volume.name)
                self._wipe_end(volume.name)
                self.deflate(entry.id, size)

    def undo_base_growth(self, entry: Entry) -> None:
        """Cut a raw base copy back to what it was: nothing was merged into the rest yet."""
        if self.exists(entry.id):
            volume, size = self.volume_of(entry.id), int(entry.value)
            if volume.size > size:
                self.group.resize(volume.name, size)

    def undo_growth(self, entry: Entry) -> bool:
        """Give back what a disk got that did not become larger; says whether it did."""
        size, _, volume_size = entry.value.partition("_")
        if not size or not self.exists(entry.id):
            return False
        disk = self.disk(entry.id)
        if disk.size > int(size):
            return True
        if not disk.raw:
            self.deflate(entry.id, int(volume_size))
        return False

    def sweep(self) -> None:
        """Drop unfinished volumes."""
        tagged = [n for n, lv in self.group.volumes.items() if layout.UNFINISHED_TAG in lv.tags]
        if tagged:
            self.group.remove(*tagged)
