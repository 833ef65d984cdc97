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
from functools import partial

from xapi import messages, revert, task, vdi_steps, vm_power, vm_rebuild, vm_revert_plan
from xapi.datatypes import NULL, Ref
from xapi.errors import XenAPIError
from xapi.message import Call, Message, Param
from xapi.policy_vm import runs
from xapi.vm_revert_disks import RevertedDisks
from xapi.vm_revert_plan import Plan
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
    with policy.operation_on(call.task, call.method, partial(vm_rebuild.marks, db, snapshot)):
        vm = vm_rebuild.reference(db, snapshot)
        marks = partial(vm_revert_plan.marks, db, snapshot, vm)
        with policy.operation_on(call.task, call.method, marks):
            _carry_out(call, vm_revert_plan.make(db, snapshot, vm))
        _tell(call, snapshot, vm)
    return ""


def _carry_out(call: Call, plan: Plan) -> None:
    """The VM is marked, and so is all that it needs."""
    db = call.xapi.db
    for source in plan.sources:
        revert.require_revertible(call.xapi, source.snapshot)
    if plan.image != NULL:
        vm_power.require_image_host(call.xapi, plan.image)
    task.insist(db, call.task)
    if runs(db, plan.vm):
        vm_power.halt(call, plan.vm, force=True)
    task.report(db, call.task, 0.1)
    with _as_revert_failure(call, plan):
        disks = RevertedDisks(call)
        disks.run(plan.sources, plan.image)
        task.report(db, call.task, 0.6)
        try:
            # The commit point. What a crash leaves before it: disks that were reverted in
            # place, in a VM whose records are the old ones, and their snapshots from before.
            replaced = commit(db, plan, disks)
        except BaseException:
            disks.undo()
            raise
    _clean_up(call, disks, replaced)
    task.report(db, call.task, 1.0)


def _clean_up(call: Call, disks: RevertedDisks, replaced: Mapping[str, str]) -> None:
    """The VM is reverted, whatever comes of this: a failure in here is only reported."""
    disks.finish()
    for old, fresh in replaced.items():
        if fresh:
            revert.destroy_old(call, old, fresh)
        else:
            vdi_steps.remove_quietly(call, old)
    for fresh in disks.fresh.values():
        for changed in (fresh, *call.xapi.db.find("VDI", snapshot_of=fresh)):
            vdi_steps.save(call, changed)


@contextmanager
def _as_revert_failure(call: Call, plan: Plan) -> Iterator[None]:
    try:
        yield
    except XenAPIError as error:
        if error.code in _PASSED_ON:
            raise
        _log.warning("VM.revert of %s failed: %s", plan.vm, error)
        # The VM that the client knows: one that was to be made again has never been there.
        vm: str = call.xapi.db.get("VM", plan.snapshot, "snapshot_of")
        raise XenAPIError("VM_REVERT_FAILED", (plan.snapshot, vm)) from error


def _tell(call: Call, snapshot: str, vm: str) -> None:
    db = call.xapi.db
    label, name = db.get("VM", vm, "name_label"), db.get("VM", snapshot, "name_label")
    text = f"VM '{label}' was reverted to snapshot '{name}'"
    messages.post(call.xapi, "VM_SNAPSHOT_REVERTED", 5, "VM", db.get("VM", vm, "uuid"), text)


MESSAGES = (Message("VM.revert", revert_vm, (Param("snapshot", Ref("VM")),)),)
