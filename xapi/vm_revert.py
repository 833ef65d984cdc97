"""VM.revert: give a VM the disks, the devices and the settings that it had at a snapshot.

All of it, or nothing of it. Who could object to one of the disks is asked before the VM is
touched; a disk that fails brings the ones before it back; the records change in one
transaction, when the disks are done. What cannot be taken back is that a VM which ran is
halted: a VM whose disks go back in time must not run meanwhile.

A disk keeps its reference and its VBD where its driver can revert it in place; where not, a
clone of the snapshot takes its place. So it does for a disk that has been deleted since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from xapi import messages, revert, task, vdi_steps, vm_disks, vm_metadata, vm_power, vm_rebuild
from xapi.database import Database
from xapi.datatypes import NULL, Ref, Value
from xapi.errors import XenAPIError
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_sr import features
from xapi.policy_vm import runs
from xapi.vm_revert_disks import RevertedDisks, Source
from xapi.vm_revert_records import commit

_log = logging.getLogger(__name__)

#: What a client can do something about; all other causes of a failure are in the log.
_PASSED_ON = frozenset({"SR_BACKEND_FAILURE_44", "SR_BACKEND_FAILURE_109", "VDI_INCOMPATIBLE_TYPE"})


def revert_vm(call: Call, snapshot: str) -> str:
    """Revert the VM that `snapshot` was taken of; one that was destroyed is made again.

    Afterwards it is halted, or suspended where the snapshot is a checkpoint.

    Raises:
        XenAPIError: VM_REVERT_FAILED [snapshot, vm], or SR_BACKEND_FAILURE_44 (no space),
            SR_BACKEND_FAILURE_109 (chain too long): a driver failed. Everything else is
            raised before anything has changed.
    """
    db, policy = call.xapi.db, call.xapi.policy
    with policy.operation(call.task, call.method, Mark("VM", snapshot, "revert")):
        with vm_rebuild.living(call, snapshot) as vm:
            marks = partial(_marks, db, snapshot, vm)
            with policy.operation_on(call.task, call.method, marks):
                _carry_out(call, _plan(db, snapshot, vm))
        _tell(call, snapshot, vm)
    return ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: `sources` name each disk once, however many VBDs have it.

    `image` is the suspend VDI of a checkpoint; `own` are the VBDs that the VM has now;
    `fields` are what its record will say.
    """

    snapshot: str
    vm: str
    sources: tuple[Source, ...]
    image: str
    own: frozenset[str]
    fields: Mapping[str, Value]


def _plan(db: Database, snapshot: str, vm: str) -> Plan:
    with db.lock:
        sources: dict[str, Source] = {}
        for vbd in vm_disks.vbds(db, snapshot, disks=True):
            disk: str = db.get("VBD", vbd, "VDI")
            live: str = db.get("VDI", disk, "snapshot_of")
            source = Source(disk, live, _is_native(db, disk, live))
            # Two VBDs of one disk have two snapshots of it: the first one stands for both.
            sources.setdefault(disk if live == NULL else live, source)
        return Plan(
            snapshot,
            vm,
            tuple(sources.values()),
            image=db.get("VM", snapshot, "suspend_VDI"),
            own=frozenset(db.get("VM", vm, "VBDs")),
            fields=vm_metadata.restored(db, snapshot),
        )


def _is_native(db: Database, disk: str, live: str) -> bool:
    sr: str = db.get("VDI", disk, "SR")
    there = db.exists("VDI", live) and db.get("VDI", live, "SR") == sr
    return there and "VDI_REVERT" in features(db, sr)


def _marks(db: Database, snapshot: str, vm: str) -> Iterator[Mark]:
    """Every SR, snapshot and disk that is going to be used. The VM's own VBDs do not count."""
    plan = _plan(db, snapshot, vm)
    yield Mark("VM", vm, "reverting")
    operations: dict[str, str] = {}
    for source in plan.sources:
        sr: str = db.get("VDI", source.snapshot, "SR")
        if source.native:
            operations[sr] = "vdi_revert"
        operations.setdefault(sr, "vdi_clone")
    for image in (plan.image, db.get("VM", plan.vm, "suspend_VDI")):
        if db.exists("VDI", image):
            operations.setdefault(db.get("VDI", image, "SR"), "vdi_clone")
    for sr, operation in operations.items():
        yield Mark("SR", sr, operation)
    for source in plan.sources:
        yield Mark("VDI", source.snapshot, "revert_to")
        if db.exists("VDI", source.live):
            yield Mark("VDI", source.live, "revert_from", plan.own)


def _carry_out(call: Call, plan: Plan) -> None:
    """The VM is marked, and so is all that it needs."""
    db = call.xapi.db
    for source in plan.sources:
        revert.require_revertible(call.xapi, source.snapshot)
    if plan.image != NULL:
        vm_power.require_image_host(call.xapi, plan.image)
    task.insist(db, call.task)
    if runs(db, plan.vm):
        vm_power.halt(call, plan.vm)
    task.report(db, call.task, 0.1)
    with _as_revert_failure(call, plan):
        disks = RevertedDisks(call)
        disks.run(plan.sources, plan.image)
        task.report(db, call.task, 0.6)
        try:
            # The commit point. What a crash leaves before it: disks that were reverted in
            # place, in a VM whose records are the old ones, and their snapshots from before.
            replaced = commit(db, plan.snapshot, plan.vm, plan.fields, plan.sources, disks)
        except BaseException:
            disks.undo()
            raise
    disks.finish()
    for old, fresh in replaced.items():
        if fresh:
            revert.destroy_old(call, old, fresh)
        else:
            vdi_steps.remove_quietly(call, old)
    for fresh in disks.fresh.values():
        vdi_steps.save(call, fresh)
    task.report(db, call.task, 1.0)


@contextmanager
def _as_revert_failure(call: Call, plan: Plan) -> Iterator[None]:
    try:
        yield
    except XenAPIError as error:
        if error.code in _PASSED_ON:
            raise
        _log.warning("VM.revert of %s failed: %s", plan.vm, error)
        # The VM that the client knows: one that was made again goes, as the call fails.
        vm: str = call.xapi.db.get("VM", plan.snapshot, "snapshot_of")
        raise XenAPIError("VM_REVERT_FAILED", (plan.snapshot, vm)) from error


def _tell(call: Call, snapshot: str, vm: str) -> None:
    db = call.xapi.db
    label, name = db.get("VM", vm, "name_label"), db.get("VM", snapshot, "name_label")
    text = f"VM '{label}' was reverted to snapshot '{name}'"
    messages.post(call.xapi, "VM_SNAPSHOT_REVERTED", 5, "VM", db.get("VM", vm, "uuid"), text)


MESSAGES = (Message("VM.revert", revert_vm, (Param("snapshot", Ref("VM")),)),)
