"""Replacing a disk's image on LVM: the last steps of a revert.

    1  volume revert_<T>_1 is made, and the new image written to it
    2  rename VHD-T -> VHD-OLD_T
    3  rename revert_<T>_1 -> VHD-T        commit point
    4  remove VHD-OLD_T

The new image is its own journal entry: while its volume bears that name the revert is going
on, and the rename that puts it in its place drops the entry in the same commit of LVM's
metadata. There is no moment at which an entry exists that does not say what it is about.
What a crash leaves says what to do:

    revert_T, VHD-T              before step 2: remove revert_T
    revert_T, VHD-OLD_T          before step 3: rename VHD-OLD_T back, remove revert_T
    VHD-T, VHD-OLD_T             after step 3: remove VHD-OLD_T

The volumes are inactive when they are renamed, which takes 25 ms; active, it would take 180.
"""

from contextlib import suppress
from dataclasses import replace as changed

from srs import fist
from srs import lvhd_layout as layout
from srs.lvhd_store import VolumeStore
from srs.lvm import LVMError
from srs.vdi import Disk


def replace(store: VolumeStore, target: Disk, like: Disk, volume_size: int) -> Disk:
    """Make `target` an empty leaf like `like`, in a volume of this size (bytes)."""
    incoming = layout.incoming_name(target.uuid)
    with fist.undone_by(lambda: recover(store)):
        path = store.group.create(incoming, volume_size)
        fist.point("LVM_revert_create_insert")
        fist.point("LVM_revert_create_src")
        store.write_leaf(path, like)
        fist.point("LVM_revert_create_dest")
        new = store.vhd_in(store.group.volume(incoming), target.uuid)
        store.group.release()
        store.group.rename(layout.vhd_name(target.uuid), layout.old_name(target.uuid))
        store.group.rename(incoming, layout.vhd_name(target.uuid))  # the commit point
    # The revert is done. Should the old image resist, the next call's recovery removes it.
    with suppress(LVMError):
        store.group.remove(layout.old_name(target.uuid))
    return changed(new, utilisation=store.volume_of(target.uuid).size)


def recover(store: VolumeStore) -> list[str]:
    """End replacements that a crash interrupted; returns the disks."""
    volumes = store.group.volumes
    coalescing = {entry.id for entry in store.journal.entries() if entry.kind == "leaf"}
    touched: list[str] = []
    for name in list(volumes):
        # An old image may also be what a collector left, which has a journal entry of its own.
        uuid = layout.replaced_disk_of(name)
        if uuid and uuid not in coalescing:
            if layout.vhd_name(uuid) in volumes:
                store.group.remove(name)
            else:
                store.group.rename(name, layout.vhd_name(uuid))
            touched.append(uuid)
    for name in list(volumes):
        if uuid := layout.incoming_disk_of(name):
            store.group.remove(name)
            touched.append(uuid)
    return touched
