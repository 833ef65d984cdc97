"""What can be changed about a VBD: the CD in its drive, its mode, its type, its device number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xapi import pbd, policy_vbd
from xapi.datamodel_storage import VBD_MODE, VBD_TYPE
from xapi.datatypes import NULL, Basic, Ref
from xapi.errors import XenAPIError, other_operation, sr_not_supported
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_vm import check_power_state, runs
from xapi.toolstack import Toolstack
from xapi.vbd import attach, check_vdi, choose_userdevice, release


def insert(call: Call, vbd: str, vdi: str) -> str:
    """Put a VDI into an empty CD drive; where the VM runs, it sees it at once."""
    db = call.xapi.db
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", vbd, "insert")):
        check_vdi(call.xapi, vdi, "RO")
        db.put("VBD", vbd, VDI=vdi, empty=False)
        try:
            policy_vbd.check_vdi(db, vbd)
            if _is_live(call.xapi, vbd):
                host = call.xapi.hosts.of_vm(db.get("VBD", vbd, "VM")).ref
                pbd.require_plugged(call.xapi, db.get("VDI", vdi, "SR"), host)
                attach(call, vbd)
        except XenAPIError:
            db.put("VBD", vbd, VDI=NULL, empty=True)
            raise
    return ""


def eject(call: Call, vbd: str) -> str:
    """Take the VDI out of a CD drive."""
    db = call.xapi.db
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", vbd, "eject")):
        release(call, vbd)
        db.put("VBD", vbd, VDI=NULL, empty=True)
    return ""


def assert_attachable(call: Call, self: str) -> str:
    """Raise what would forbid attaching the VDI now."""
    call.xapi.policy.assert_allowed(Mark("VBD", self, "attach"))
    return ""


def set_mode(call: Call, self: str, value: str) -> str:
    """RO or RW, for the next time that the VM starts; it must be halted."""
    db = call.xapi.db
    with db.transaction():
        check_power_state(db, db.get("VBD", self, "VM"), "Halted")
        if value == "RW" and db.get("VBD", self, "type") == "CD":
            raise XenAPIError("VBD_CDS_MUST_BE_READONLY")
        if not db.get("VBD", self, "empty"):
            check_vdi(call.xapi, db.get("VBD", self, "VDI"), value)
        db.put("VBD", self, mode=value)
    return ""


def set_type(call: Call, self: str, value: str) -> str:
    """Disk, CD or Floppy, for the next time that the VM starts; it must be halted.

    Raises:
        XenAPIError: VBD_CDS_MUST_BE_READONLY, VBD_NOT_REMOVABLE_MEDIA (only a CD drive may be
            empty), VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS.
    """
    db = call.xapi.db
    with db.transaction():
        check_power_state(db, db.get("VBD", self, "VM"), "Halted")
        running: Mapping[str, str] = db.get("VBD", self, "current_operations")
        for task, operation in running.items():
            raise other_operation("VBD", self, operation, task)
        if value == "CD" and db.get("VBD", self, "mode") == "RW":
            raise XenAPIError("VBD_CDS_MUST_BE_READONLY")
        if value != "CD" and db.get("VBD", self, "empty"):
            raise XenAPIError("VBD_NOT_REMOVABLE_MEDIA", (self,))
        db.put("VBD", self, type=value)
    return ""


def set_userdevice(call: Call, self: str, value: str) -> str:
    """Another device number, for the next time that the VM starts."""
    db = call.xapi.db
    with db.transaction():
        vm: str = db.get("VBD", self, "VM")
        if value != db.get("VBD", self, "userdevice"):
            db.put("VBD", self, userdevice=choose_userdevice(call.xapi, vm, value))
    return ""


def _pause(operation: str) -> Callable[..., str]:
    """Pause and unpause: allowed or not, no driver has them any more."""

    def run(call: Call, self: str, *_token: str) -> str:
        call.xapi.policy.assert_allowed(Mark("VBD", self, operation))
        vdi: str = call.xapi.db.get("VBD", self, "VDI")
        raise sr_not_supported(call.xapi.db.get("VDI", vdi, "SR"))

    return run


def _is_live(xapi: Toolstack, vbd: str) -> bool:
    attached: bool = xapi.db.get("VBD", vbd, "currently_attached")
    return attached and runs(xapi.db, xapi.db.get("VBD", vbd, "VM"))


_SELF = Param("self", Ref("VBD"))
_VBD = Param("vbd", Ref("VBD"))

MESSAGES = (
    Message("VBD.insert", insert, (_VBD, Param("vdi", Ref("VDI")))),
    Message("VBD.eject", eject, (_VBD,)),
    Message("VBD.assert_attachable", assert_attachable, (_SELF,)),
    Message("VBD.set_mode", set_mode, (_SELF, Param("value", VBD_MODE))),
    Message("VBD.set_type", set_type, (_SELF, Param("value", VBD_TYPE))),
    Message("VBD.set_userdevice", set_userdevice, (_SELF, Param("value", Basic.STRING))),
    Message("VBD.pause", _pause("pause"), (_SELF,)),
    Message("VBD.unpause", _pause("unpause"), (_SELF, Param("token", Basic.STRING))),
)
