"""Replacing a disk's image on LVM: the last steps of a revert.

    1  volume revert_<T>_1 is made, tagged with the snapshot S
    2  the new image is written to it
    3  rename VHD-T -> VHD-OLD_T
    4  rename revert_<T>_1 -> VHD-T        commit point
    5  logs of changed blocks and the database follow
    6  remove VHD-OLD_T

The new image is its own journal entry: while its volume bears that name the revert is going
on, and the rename that puts it in its place drops the entry in the same commit of LVM's
metadata. From then on the old image is the entry. There is no moment at which an entry exists
that does not say what it is about. What a crash leaves says what to do:

    revert_T, VHD-T              before step 3: remove revert_T
    revert_T, VHD-OLD_T          before step 4: rename VHD-OLD_T back, remove revert_T
    VHD-T, VHD-OLD_T             after step 4: finish steps 5 and 6; without a tag 6 alone

The volumes are inactive when they are renamed, which takes 25 ms; active, it would take 180.
"""

from contextlib import suppress
from dataclasses import replace as changed

from srs import fist
from srs import lvhd_layout as layout
from srs.journal import REVERT, Entry
from srs.lvhd_store import VolumeStore
from srs.lvm import LVMError
from srs.vdi import Disk
from srs.volumes import LogicalVolume


def begin(store: VolumeStore, target: Disk, source: Disk, volume_size: int) -> None:
    """Make the volume (bytes) for what `target` is about to read as: its snapshot `source`."""
    tag = layout.SOURCE_TAG + source.uuid
    store.group.create(layout.incoming_name(target.uuid), volume_size, tags=(tag,))


def replace(store: VolumeStore, target: Disk, like: Disk) -> Disk:
    """Make `target` an empty leaf like `like`."""
    incoming = layout.incoming_name(target.uuid)
    store.group.activate(incoming)
    store.write_leaf(store.group.path(incoming), like)
    fist.point("LVM_revert_create_dest")
    new = store.vhd_in(store.group.volume(incoming), target.uuid)
    store.group.release()
    store.group.rename(layout.vhd_name(target.uuid), layout.old_name(target.uuid))
    fist.point("LVM_revert_renamed")
    store.group.rename(incoming, layout.vhd_name(target.uuid))  # the commit point
    return changed(new, utilisation=store.volume_of(target.uuid).size)


def pending(store: VolumeStore) -> list[Entry]:
    """Replacements that are going on."""
    volumes = store.group.volumes
    # An old image may also be what a collector left, which has a journal entry of its own.
    coalescing = {entry.id for entry in store.journal.entries() if entry.kind == "leaf"}
    disks = {layout.incoming_disk_of(name) or layout.replaced_disk_of(name) for name in volumes}
    return [_entry(store, uuid) for uuid in sorted(disks - coalescing - {""})]


def _entry(store: VolumeStore, uuid: str) -> Entry:
    volumes = store.group.volumes
    new = volumes.get(layout.incoming_name(uuid)) or volumes.get(layout.vhd_name(uuid))
    sources = _sources(new) if new else []
    return Entry(REVERT, uuid, sources[0].removeprefix(layout.SOURCE_TAG) if sources else "")


def _sources(volume: LogicalVolume) -> list[str]:
    return [tag for tag in volume.tags if tag.startswith(layout.SOURCE_TAG)]


def settle(store: VolumeStore, uuid: str) -> bool:
    """End a replacement; says whether the disk has its new image."""
    old, current = layout.old_name(uuid), layout.vhd_name(uuid)
    volumes = store.group.volumes
    if current in volumes:
        # With a new image that is still to come, the old one is that of an earlier replacement.
        return old in volumes and layout.incoming_name(uuid) not in volumes
    if old in volumes:
        store.group.rename(old, current)
    return False


def drop(store: VolumeStore, uuid: str) -> None:
    """Drop the entry of a replacement that has ended.

    An old image that resists is removed by the next call's recovery. By then the disk may have
    been written to, so the entry must not say any more what it read as: the tag goes.

    Raises:
        LVMError, OSError: neither goes; the disk must not be used.
    """
    for name in (layout.incoming_name(uuid), layout.old_name(uuid)):
        if name in store.group.volumes:
            with suppress(LVMError):
                store.group.remove(name)
    current = layout.vhd_name(uuid)
    if layout.old_name(uuid) in store.group.volumes and current in store.group.volumes:
        for tag in _sources(store.group.volume(current)):
            store.group.change_tag(current, remove=tag)
