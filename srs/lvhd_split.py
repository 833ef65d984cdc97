"""Splitting a disk on LVM: its data becomes a base copy, the disk a leaf above it.

    1  journal clone_<D> = <B>_<twin>
    2  rename D -> B; give back what B does not use
    3  new volume D, a leaf above B; the same for the twin
    4  hide B                              commit point: leaves are durable by now
    5  make B read-only

Before step 4 recovery removes the leaves and renames B back to D; nothing can have been
written to the leaves, because the disk is paused. After it, it finishes step 5. The entry stays
until the database knows, too.
"""

from srs import fist, vhd
from srs import lvhd_layout as layout
from srs.errors import VDIUnavailable
from srs.journal import SPLIT, Entry
from srs.lvhd_peek import peek
from srs.lvhd_store import VolumeStore
from srs.snapshot import Branch
from srs.vdi import Disk
from srs.volumes import EXTENT


def room_needed(store: VolumeStore, disk: Disk, leaf_sizes: list[int]) -> int:
    """Bytes of free extents that a split takes: leaves and journal, less what B gives back."""
    store.activate_top(disk)
    used = vhd.query(store.path(disk.uuid), resolve_parent=False).physical_size
    given_back = disk.utilisation - -(-used // EXTENT) * EXTENT
    return sum(leaf_sizes) + EXTENT - max(0, given_back)


def split(
    store: VolumeStore, disk: Disk, base: str, leaf_size: int, twin: str, twin_size: int
) -> Branch:
    """Split a disk; sizes are those of the new volumes, in bytes."""
    sizes = [leaf_size, *([twin_size] if twin else [])]
    store.require_free(max(room_needed(store, disk, sizes), EXTENT))
    entry = Entry(SPLIT, disk.uuid, f"{base}_{twin}" if twin else base)
    store.journal.create(entry.kind, entry.id, entry.value)
    with fist.undone_by(lambda: _undo(store, entry, full=disk.utilisation)):
        fist.point("LVHDRT_clone_vdi_after_create_journal")
        store.group.rename(layout.vhd_name(disk.uuid), layout.vhd_name(base))
        store.deflate(base)
        fist.point("LVHDRT_clone_vdi_after_shrink_parent")
        for which, uuid, size in zip(("first", "second"), (disk.uuid, twin), sizes, strict=False):
            path = store.group.create(layout.vhd_name(uuid), size)
            fist.point("LVHDRT_clone_vdi_after_lvcreate")
            store.link_leaf(path, store.disk(base))
            fist.point(f"LVHDRT_clone_vdi_after_{which}_snap")
        vhd.set_hidden(store.path(base), True)  # the commit point
        fist.point("LVHDRT_clone_vdi_after_parent_hidden")
        _finish(store, disk.uuid, base)
        fist.point("LVHDRT_clone_vdi_after_parent_ro")
    return Branch(
        entry, store.disk(disk.uuid), store.disk(base), store.disk(twin) if twin else None
    )


def leaves_of(entry: Entry) -> tuple[str, str]:
    """The base copy and the twin of a split, empty for none."""
    base, _, twin = entry.value.partition("_")
    return base, twin


def settle(store: VolumeStore, entry: Entry, *, thick: bool) -> bool:
    """End a split: undo it before its commit point, finish it after; says which it was.

    Args:
        store: where.
        entry: its journal entry.
        thick: the disk's room is to be reserved.

    Raises:
        VDIUnavailable: the disk is neither there nor in its base copy.
    """
    base, _ = leaves_of(entry)
    if base and store.exists(base):
        if _is_hidden(store, base):
            _finish(store, entry.id, base)
            return True
        fist.point("LVHDRT_clone_vdi_before_undo_clone")
        _restore(store, entry)
        fist.point("LVHDRT_clone_vdi_after_undo_clone")
    if not store.exists(entry.id):
        raise VDIUnavailable(f"{entry.id} was lost while it was split")
    store.give_room(store.disk(entry.id), thick=thick)
    return False


def _undo(store: VolumeStore, entry: Entry, *, full: int) -> None:
    """After a failure; the disk gets the room back that it had, `full` bytes."""
    base, _ = leaves_of(entry)
    if store.exists(base):
        if _is_hidden(store, base):
            return  # it is done: recovery finishes it
        _restore(store, entry)
    store.inflate(entry.id, full)
    store.journal.remove(entry.kind, entry.id)


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


def _restore(store: VolumeStore, entry: Entry) -> None:
    """Make the base copy the disk again."""
    base, twin = leaves_of(entry)
    leaves = [uuid for uuid in (entry.id, twin) if uuid and store.exists(uuid)]
    if leaves:
        store.group.remove(*(store.volume_of(uuid).name for uuid in leaves))
    name = store.volume_of(base).name
    store.group.activate(name)
    # A crash inside step 4 may have marked one of its two footers already: the disk must not
    # come back as half a base copy.
    vhd.set_hidden(store.group.path(name), False)
    store.group.rename(name, layout.vhd_name(entry.id))
