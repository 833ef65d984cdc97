"""What a VBD allows: one operation at a time, plug when it is out, unplug when it is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xapi.database import Database
from xapi.errors import XenAPIError, other_operation, vdi_in_use
from xapi.policy_vm import MOVES_DISKS

#: What VBD.allowed_operations may show.
OFFERED = ("attach", "eject", "insert", "plug", "unplug", "unplug_force")

#: Operations that open a VBD's VDI.
_OPENING = frozenset({"attach", "plug", "insert"})


def check(db: Database, vbd: str, operation: str, leaving_out: Collection[str] = ()) -> None:
    """Raise the XenAPIError that forbids the operation, if there is one.

    `leaving_out`: all VBDs of the VM, where the operation is a step of the VM's own. It may
    have them attached already, and an empty drive is no obstacle.
    """
    current: Mapping[str, str] = db.get("VBD", vbd, "current_operations")
    for task, running in current.items():
        raise other_operation("VBD", vbd, running, task)
    if leaving_out:
        if operation == "attach" and not db.get("VBD", vbd, "empty"):
            check_vdi(db, vbd, leaving_out)
    elif operation in ("insert", "eject"):
        _check_medium(db, vbd, operation)
        _check_vm(db, vbd)
    elif operation in ("plug", "attach"):
        _check_plug(db, vbd, operation)
    elif operation in ("unplug", "unplug_force"):
        _check_unplug(db, vbd, operation)
    elif operation in ("pause", "unpause"):
        _check_running(db, vbd)


def check_vdi(db: Database, vbd: str, leaving_out: Collection[str] = ()) -> None:
    """Whether the VBD's VDI can be attached as the VBD wants it, whatever those left out do.

    Raises:
        XenAPIError: VBD_IS_EMPTY, VDI_NOT_MANAGED, OTHER_OPERATION_IN_PROGRESS, or VDI_IN_USE
            where one writes and another has it.
    """
    if db.get("VBD", vbd, "empty"):
        raise XenAPIError("VBD_IS_EMPTY", (vbd,))
    vdi: str = db.get("VBD", vbd, "VDI")
    if not db.get("VDI", vdi, "managed"):
        raise XenAPIError("VDI_NOT_MANAGED", (vdi,))
    running: Mapping[str, str] = db.get("VDI", vdi, "current_operations")
    for task, operation in running.items():
        if operation not in ("copy", "mirror"):
            raise other_operation("VDI", vdi, operation, task)
    _check_sr(db, db.get("VDI", vdi, "SR"))
    if db.get("VDI", vdi, "sharable"):
        return
    writes = db.get("VBD", vbd, "mode") == "RW"
    if writes and "copy" in running.values():
        raise vdi_in_use(vdi, "attach")
    others: tuple[str, ...] = db.get("VDI", vdi, "VBDs")
    for other in others:
        shares = other == vbd or other in leaving_out
        if not shares and (writes or db.get("VBD", other, "mode") == "RW"):
            _check_other(db, vdi, other)


def _check_other(db: Database, vdi: str, vbd: str) -> None:
    """A VBD that cannot share the VDI must not have it, nor be about to get it."""
    if db.get("VBD", vbd, "currently_attached"):
        raise vdi_in_use(vdi, "attach")
    current: Mapping[str, str] = db.get("VBD", vbd, "current_operations")
    for task, operation in current.items():
        if operation in _OPENING:
            raise other_operation("VBD", vbd, operation, task)


def _check_sr(db: Database, sr: str) -> None:
    """Nothing is opened on an SR that is about to leave its host."""
    running: Mapping[str, str] = db.get("SR", sr, "current_operations")
    for task, operation in running.items():
        if operation == "unplug":
            raise other_operation("SR", sr, operation, task)


def _check_plug(db: Database, vbd: str, operation: str) -> None:
    if db.get("VBD", vbd, "currently_attached"):
        raise XenAPIError("DEVICE_ALREADY_ATTACHED", (db.get("VBD", vbd, "device"),))
    if operation == "plug":
        _check_running(db, vbd)
        _check_vm(db, vbd)
    check_vdi(db, vbd)


def _check_unplug(db: Database, vbd: str, operation: str) -> None:
    if not db.get("VBD", vbd, "currently_attached"):
        raise XenAPIError("DEVICE_ALREADY_DETACHED", (db.get("VBD", vbd, "device"),))
    _check_running(db, vbd)
    if operation == "unplug" and not db.get("VBD", vbd, "unpluggable"):
        raise XenAPIError("VBD_NOT_UNPLUGGABLE", (vbd,))
    _check_vm(db, vbd)


def _check_medium(db: Database, vbd: str, operation: str) -> None:
    if db.get("VBD", vbd, "type") != "CD":
        raise XenAPIError("VBD_NOT_REMOVABLE_MEDIA", (vbd,))
    empty: bool = db.get("VBD", vbd, "empty")
    if operation == "insert" and not empty:
        raise XenAPIError("VBD_NOT_EMPTY", (vbd,))
    if operation == "eject" and empty:
        raise XenAPIError("VBD_IS_EMPTY", (vbd,))


def _check_vm(db: Database, vbd: str) -> None:
    """Nothing is put in or taken out while the VM itself opens or closes its disks."""
    vm: str = db.get("VBD", vbd, "VM")
    if not db.exists("VM", vm):
        return
    running: Mapping[str, str] = db.get("VM", vm, "current_operations")
    for task, operation in running.items():
        if operation in MOVES_DISKS:
            raise other_operation("VM", vm, operation, task)


def _check_running(db: Database, vbd: str) -> None:
    vm: str = db.get("VBD", vbd, "VM")
    if not db.exists("VM", vm):
        return
    state: str = db.get("VM", vm, "power_state")
    if state not in ("Running", "Paused"):
        raise XenAPIError("VM_BAD_POWER_STATE", (vm, "running", state.lower()))
