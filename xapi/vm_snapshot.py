"""VM.snapshot and VM.checkpoint: a VM record that tells what a VM was, with snapshots of its disks.

The disks are snapshotted one after the other; if one fails, those already made are destroyed
and there is no snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from xapi import messages, task, vdi, vm_copy, vm_disks, vm_metadata, vm_power
from xapi.datatypes import NULL, Basic, Ref, SetOf, Value
from xapi.errors import XenAPIError, sr_not_supported
from xapi.message import Call, Message, Param, now
from xapi.policy import Mark
from xapi.policy_sr import features

#: Makes the VDI that a copy of the VM gets in the place of one of its own.
_CopyDisk = Callable[[str], str]


def snapshot(call: Call, vm: str, new_name: str, ignore_vdis: Collection[str]) -> str:
    """The VM as it is, without memory; VDIs in `ignore_vdis` are left out."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "snapshot")):
        state: str = call.xapi.db.get("VM", vm, "power_state")
        with copied_disks(call, vm, _snapshot_disk(call), ignore_vdis) as disks:
            made = _record(call, vm, new_name, disks, state)
    _tell(call, "VM_SNAPSHOTTED", vm, made)
    return made


def checkpoint(call: Call, vm: str, new_name: str) -> str:
    """The VM as it is, with memory: a running one is suspended meanwhile.

    Raises:
        XenAPIError: SR_OPERATION_NOT_SUPPORTED [vm], a disk's driver has no snapshots; what
            suspending, snapshotting or resuming failed with.
    """
    db = call.xapi.db
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "checkpoint")):
        state: str = db.get("VM", vm, "power_state")
        if state == "Suspended":
            made = _sleeping(call, vm, new_name, state)
        else:
            _require_snapshots(call, vm)
            host = call.xapi.hosts.of_vm(vm)
            vm_power.fall_asleep(call, vm)
            try:
                made = _sleeping(call, vm, new_name, state)
            finally:
                vm_power.wake_up(call, vm, host, paused=state == "Paused")
    _tell(call, "VM_CHECKPOINTED", vm, made)
    return made


def snapshot_with_quiesce(_call: Call, vm: str, _new_name: str) -> str:
    """A message of old: guests cannot be asked to hold still any more."""
    raise XenAPIError("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", (vm,))


@contextmanager
def copied_disks(
    call: Call, vm: str, copy: _CopyDisk, ignored: Collection[str] = ()
) -> Iterator[Mapping[str, str]]:
    """VBD -> its VDI's copy, for each disk; the copies go again if the block fails."""
    db = call.xapi.db
    made: dict[str, str] = {}
    try:
        for vbd in vm_disks.vbds(db, vm, disks=True):
            disk: str = db.get("VBD", vbd, "VDI")
            task.check_cancelled(db, call.task)
            if disk not in ignored:
                made[vbd] = copy(disk)
        yield made
    except BaseException:
        for disk in made.values():
            vdi.destroy_quietly(call, disk)
        raise


def copy_devices(
    call: Call, source: str, vm: str, disks: Mapping[str, str], *, snapshot: bool
) -> None:
    """VBDs and VIFs of a copy; what is no disk refers to the same VDI as before."""
    db = call.xapi.db
    sleeps = db.get("VM", vm, "power_state") == "Suspended"
    for vbd in vm_disks.vbds(db, source, disks=True):
        if vbd in disks:
            owner: Mapping[str, str] = db.get("VBD", vbd, "other_config")
            vm_copy.copy_vbd(
                db,
                vbd,
                vm,
                disks[vbd],
                other_config={**owner, "owner": ""} if snapshot else owner,
                currently_attached=sleeps and db.get("VBD", vbd, "currently_attached"),
                device=db.get("VBD", vbd, "device") if sleeps else "",
            )
    for vbd in vm_disks.vbds(db, source, disks=False):
        vm_copy.copy_vbd(
            db,
            vbd,
            vm,
            db.get("VBD", vbd, "VDI"),
            currently_attached=sleeps and db.get("VBD", vbd, "currently_attached"),
        )
    vm_copy.copy_vifs(db, source, vm, keep_mac=snapshot)


def _sleeping(call: Call, vm: str, new_name: str, state: str) -> str:
    """A checkpoint of a VM that is suspended now; it was in `state` before."""
    with copied_disks(call, vm, _snapshot_disk(call)) as disks:
        image = clone_image(call, vm)
        try:
            return _record(
                call, vm, new_name, disks, state, power_state="Suspended", suspend_VDI=image
            )
        except BaseException:
            vdi.destroy_quietly(call, image)
            raise


def clone_image(call: Call, vm: str) -> str:
    """A copy of a VM's suspend VDI, or NULL where it has none."""
    image: str = call.xapi.db.get("VM", vm, "suspend_VDI")
    return vdi.clone(call, image, {}) if call.xapi.db.exists("VDI", image) else NULL


def _record(
    call: Call, vm: str, name: str, disks: Mapping[str, str], state: str, **fields: Value
) -> str:
    """The snapshot's record and devices; the commit point of a snapshot."""
    db = call.xapi.db
    with db.transaction():
        made = vm_copy.copy_vm(
            db,
            vm,
            name,
            is_a_snapshot=True,
            is_a_template=True,
            snapshot_of=vm,
            snapshot_time=now(),
            snapshot_metadata=vm_metadata.dump(db, vm),
            snapshot_info={
                "disk-snapshot-type": "crash_consistent",
                "power-state-at-snapshot": state,
            },
            parent=db.get("VM", vm, "parent"),
            **fields,
        )
        db.put("VM", vm, parent=made)
        copy_devices(call, vm, made, disks, snapshot=True)
        return made


def _snapshot_disk(call: Call) -> _CopyDisk:
    return lambda disk: vdi.snapshot(call, disk, {})


def _require_snapshots(call: Call, vm: str) -> None:
    db = call.xapi.db
    for vbd in vm_disks.vbds(db, vm, disks=True):
        if "VDI_SNAPSHOT" not in features(db, db.get("VDI", db.get("VBD", vbd, "VDI"), "SR")):
            # The error's parameter is the VM here, which upstream's callers may rely on.
            raise sr_not_supported(vm)


def _tell(call: Call, name: str, vm: str, made: str) -> None:
    db = call.xapi.db
    uuid: str = db.get("VM", vm, "uuid")
    text = f"VM '{db.get('VM', vm, 'name_label')}': snapshot '{db.get('VM', made, 'name_label')}'"
    messages.post(call.xapi, name, 5, "VM", uuid, text)


_VM = Param("vm", Ref("VM"))
_NEW_NAME = Param("new_name", Basic.STRING)

MESSAGES = (
    Message("VM.snapshot", snapshot, (_VM, _NEW_NAME, Param("ignore_vdis", SetOf(Ref("VDI")), ()))),
    Message("VM.checkpoint", checkpoint, (_VM, _NEW_NAME)),
    Message("VM.snapshot_with_quiesce", snapshot_with_quiesce, (_VM, _NEW_NAME)),
)
