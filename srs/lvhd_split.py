"""Splitting a disk on LVM: its data becomes a base copy, the disk a leaf above it.

    1  journal clone_<D> = <B>_<twin>
    2  rename D -> B; give back what B does not use
    3  new volume D, a leaf above B; the same for the twin
    4  hide B                              commit point: leaves are durable by now
    5  make B read-only, drop the journal

Before step 4 recovery removes the leaves and renames B back to D; nothing can have been
written to the leaves, because the disk is paused. After it, it finishes step 5.
"""

from srs import fist, vhd
from srs import lvhd_layout as layout
from srs.errors import VDIUnavailable
from srs.journal import Entry
from srs.lvhd_peek import peek
from srs.lvhd_store import VolumeStore
from srs.snapshot import Branch
from srs.vdi import Disk
from srs.volumes import EXTENT

_SPLIT = "clone"


def room_needed(store: VolumeStore, disk: Disk, leaf_sizes: list[int]) -> int:
    """Bytes of free extents that a split takes: leaves and journal, less what B gives back."""
    store.activate_chain(disk)
    used = vhd.query(store.path(disk.uuid), resolve_parent=False).physical_size
    given_back = disk.utilisation - -(-used // EXTENT) * EXTENT
    return sum(leaf_sizes) + EXTENT - max(0, given_back)


def split(
    store: VolumeStore, disk: Disk, base: str, leaf_size: int, twin: str, twin_size: int
) -> Branch:
    """Split a disk; sizes are those of the new volumes, in bytes."""
    sizes = [leaf_size, *([twin_size] if twin else [])]
    store.require_free(max(room_needed(store, disk, sizes), EXTENT))
    store.journal.create(_SPLIT, disk.uuid, f"{base}_{twin}" if twin else base)
    entry = Entry(_SPLIT, disk.uuid, f"{base}_{twin}")
    with fist.undone_by(lambda: _settle(store, entry)):
        fist.point("LVHDRT_clone_vdi_after_create_journal")
        store.group.rename(layout.vhd_name(disk.uuid), layout.vhd_name(base))
        store.deflate(base)
        fist.point("LVHDRT_clone_vdi_after_shrink_parent")
        for which, uuid, size in zip(("first", "second"), (disk.uuid, twin), sizes, strict=False):
            path = store.group.create(layout.vhd_name(uuid), size)
            fist.point("LVHDRT_clone_vdi_after_lvcreate")
            store.activate_chain(store.disk(base))
            vhd.snapshot(path, store.path(base), max_size=layout.TABLE_SIZE)
            fist.point(f"LVHDRT_clone_vdi_after_{which}_snap")
        vhd.set_hidden(store.path(base), True)  # the commit point
        fist.point("LVHDRT_clone_vdi_after_parent_hidden")
        _finish(store, disk.uuid, base)
        fist.point("LVHDRT_clone_vdi_after_parent_ro")
        fist.point("LVHDRT_clone_vdi_before_remove_journal")
        store.journal.remove(_SPLIT, disk.uuid)
    return Branch(store.disk(disk.uuid), store.disk(base), store.disk(twin) if twin else None)


def _settle(store: VolumeStore, entry: Entry) -> None:
    """End a split: undo it before its commit point, finish it after; drop the journal."""
    base, _, twin = entry.value.partition("_")
    if store.exists(base):
        if _is_hidden(store, base):
            _finish(store, entry.id, base)
        else:
            fist.point("LVHDRT_clone_vdi_before_undo_clone")
            _undo(store, entry.id, base, twin)
            fist.point("LVHDRT_clone_vdi_after_undo_clone")
    store.journal.remove(_SPLIT, entry.id)


def _is_hidden(store: VolumeStore, uuid: str) -> bool:
    return peek(store.group, store.volume_of(uuid)).hidden


def _finish(store: VolumeStore, leaf: str, base: str) -> None:
    if store.counts.get(leaf).binary:
        # Somebody reads the disk, and from now on its base too.
        store.recount()
        store.activate_chain(store.disk(leaf), keep=True)
    name = store.volume_of(base).name
    if name in store.group.temporary:
        # Changing the permission of an active volume reloads its device, which takes longer.
        store.group.deactivate(name)
    store.group.set_readonly(name, True)


def _undo(store: VolumeStore, leaf: str, base: str, twin: str) -> None:
    leaves = [uuid for uuid in (leaf, twin) if uuid and store.exists(uuid)]
    if leaves:
        store.group.remove(*(store.volume_of(uuid).name for uuid in leaves))
    name = store.volume_of(base).name
    store.group.activate(name)
    # A crash inside step 4 may have marked one of its two footers already: the disk must not
    # come back as half a base copy.
    vhd.set_hidden(store.group.path(name), False)
    store.group.rename(name, layout.vhd_name(leaf))
    if store.is_attached(leaf):
        # Somebody writes to it, and step 2 took the room for that away.
        store.inflate(leaf, layout.full_size(store.disk(leaf).size))


def recover(store: VolumeStore) -> list[str]:
    """End splits that a crash interrupted; returns the disks."""
    touched = []
    for entry in store.journal.entries():
        if entry.kind == _SPLIT:
            _settle(store, entry)
            if not store.exists(entry.id):
                raise VDIUnavailable(f"{entry.id} was lost while it was split")
            touched.append(entry.id)
    return touched
