"""What VM.revert writes: the VM's row, its VBDs, its VIFs, and the links between disks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from xapi import revert, vm_copy, vm_disks, vm_rebuild
from xapi.database import Database
from xapi.datatypes import NULL
from xapi.vm_revert_disks import RevertedDisks
from xapi.vm_revert_plan import Plan


def commit(db: Database, plan: Plan, disks: RevertedDisks) -> Mapping[str, str]:
    """Write all records in one transaction: clients see the reverted VM, or the VM as it was.

    Returns the VDIs that nobody needs any more, each with the one that took its place, or "".
    """
    snapshot, vm = plan.snapshot, plan.vm
    with db.transaction():
        if not db.exists("VM", vm):
            vm_rebuild.rebuild(db, snapshot, vm)
        attached = {db.get("VBD", vbd, "VDI") for vbd in vm_disks.vbds(db, vm, disks=True)}
        replaced = _replace_disks(db, plan, disks)
        _put_vbds(db, snapshot, vm, disks.in_place)
        for vif in db.get("VM", vm, "VIFs"):
            db.destroy("VIF", vif)
        vm_copy.copy_vifs(db, snapshot, vm, keep_mac=True)
        image: str = db.get("VM", vm, "suspend_VDI")
        _put_vm(db, plan, disks.image)
        _adopt_vm_snapshots(db, snapshot, vm)
    unneeded = {old: fresh for old, fresh in replaced.items() if old in attached}
    return {**unneeded, **({image: ""} if db.exists("VDI", image) else {})}


def _replace_disks(db: Database, plan: Plan, disks: RevertedDisks) -> dict[str, str]:
    """Clones take over the names and the snapshots of the disks that they stand for.

    Afterwards every disk of the snapshot is a snapshot of what the VM shall have in its place.
    """
    replaced: dict[str, str] = {}
    for source in plan.sources:
        fresh = disks.fresh.get(source.snapshot)
        if fresh is None:
            continue
        if db.exists("VDI", source.live):
            db.put("VDI", fresh, **revert.identity(db, source.snapshot, source.live))
            replaced[source.live] = fresh
            for vbd in db.get("VDI", source.live, "VBDs"):
                if vbd not in plan.own:
                    db.put("VBD", vbd, VDI=fresh)
        if source.live != NULL:
            revert.adopt_snapshots(db, source.live, fresh)
        db.put("VDI", source.snapshot, snapshot_of=fresh)
    return replaced


def _put_vbds(db: Database, snapshot: str, vm: str, in_place: Collection[str]) -> None:
    """Disks that were reverted in place keep their VBDs; all others are made again."""
    results = {
        vbd: db.get("VDI", db.get("VBD", vbd, "VDI"), "snapshot_of")
        for vbd in vm_disks.vbds(db, snapshot, disks=True)
    }
    kept: dict[str, str] = {}
    for vbd in db.get("VM", vm, "VBDs"):
        disk: str = db.get("VBD", vbd, "VDI")
        wanted = [of for of, result in results.items() if result == disk and of not in kept]
        if wanted and disk in in_place and db.get("VBD", vbd, "type") == "Disk":
            kept[wanted[0]] = vbd
        else:
            db.destroy("VBD", vbd)
    of_snapshot: tuple[str, ...] = db.get("VM", snapshot, "VBDs")
    _put_devices(db, of_snapshot, kept)
    for vbd in of_snapshot:
        # A checkpoint's disks count as attached: it will wake up with them.
        state = {name: db.get("VBD", vbd, name) for name in ("currently_attached", "device")}
        if vbd in kept:
            db.put("VBD", kept[vbd], **state)
        else:
            vm_copy.copy_vbd(db, vbd, vm, results.get(vbd, db.get("VBD", vbd, "VDI")), **state)


def _put_devices(db: Database, of_snapshot: Sequence[str], kept: Mapping[str, str]) -> None:
    """No two VBDs on one device: what was moved since the snapshot moves back if it must."""
    devices = [db.get("VBD", kept.get(vbd, vbd), "userdevice") for vbd in of_snapshot]
    if len(set(devices)) < len(devices):
        for vbd, own in kept.items():
            db.put("VBD", own, userdevice=db.get("VBD", vbd, "userdevice"))


def _put_vm(db: Database, plan: Plan, image: str) -> None:
    db.put(
        "VM",
        plan.vm,
        **{
            **plan.fields,
            **vm_copy.replace_metrics(db, plan.snapshot, plan.vm),
            "generation_id": vm_copy.generation_id(db),
            "power_state": db.get("VM", plan.snapshot, "power_state"),
            "suspend_VDI": image,
            "resident_on": NULL,
            "domid": -1,
            "parent": plan.snapshot,
        },
    )


def _adopt_vm_snapshots(db: Database, snapshot: str, vm: str) -> None:
    """A VM that was made again is the one that all snapshots of the lost one are of."""
    lost: str = db.get("VM", snapshot, "snapshot_of")
    if lost != vm:
        siblings = () if lost == NULL else db.find("VM", snapshot_of=lost)
        for sibling in {snapshot, *siblings}:
            db.put("VM", sibling, snapshot_of=vm)
