"""VBDs: a VDI as a block device of a VM. The only VM whose devices are real here is dom0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import cast

from xapi import pbd
from xapi.datamodel_storage import VBD
from xapi.datatypes import RecordOf, Ref
from xapi.errors import XenAPIError, not_allowed, other_operation
from xapi.generated import construct
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.toolstack import Toolstack

_MAX_USERDEVICE = 255


def create(call: Call, record: Mapping[str, object]) -> str:
    """A VBD that is not plugged in; userdevice "autodetect" picks the next free number."""
    db = call.xapi.db
    fields = construct(VBD, record)
    # Only a suspended VM's VBDs may claim to be attached already.
    fields |= {"currently_attached": False, "device": ""}
    vm = cast(str, fields["VM"])
    with db.transaction():
        db.get("VM", vm, "uuid")
        if fields["type"] == "CD" and fields["mode"] != "RO":
            raise XenAPIError("VBD_CDS_MUST_BE_READONLY")
        if fields["empty"] and fields["type"] != "CD":
            raise XenAPIError("VBD_NOT_REMOVABLE_MEDIA", ("in constructor",))
        if not fields["empty"]:
            _check_vdi(call.xapi, cast(str, fields["VDI"]), cast(str, fields["mode"]))
        userdevice = _userdevice(call.xapi, vm, cast(str, fields["userdevice"]))
        return db.create("VBD", **{**fields, "userdevice": userdevice})


def destroy(call: Call, self: str) -> str:
    """Remove a VBD that is not plugged in."""
    db = call.xapi.db
    with db.transaction():
        if db.get("VBD", self, "currently_attached"):
            uuid = db.get("VBD", self, "uuid")
            vm_uuid = db.get("VM", db.get("VBD", self, "VM"), "uuid")
            raise not_allowed(f"VBD '{uuid}' still attached to '{vm_uuid}'")
        running: dict[str, str] = db.get("VBD", self, "current_operations")
        for task, operation in running.items():
            raise other_operation("VBD", self, operation, task)
        db.destroy("VBD", self)
    return ""


def plug(call: Call, self: str) -> str:
    """Attach the VDI to the running VM; the device field then names the block device."""
    db = call.xapi.db
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "plug")):
        vm: str = db.get("VBD", self, "VM")
        state: str = db.get("VM", vm, "power_state")
        if state != "Running":
            raise XenAPIError("VM_BAD_POWER_STATE", (vm, "running", state.lower()))
        pbd.require_plugged(call.xapi, db.get("VDI", db.get("VBD", self, "VDI"), "SR"))
        attach(call, self)
    return ""


def unplug(call: Call, self: str) -> str:
    """Take the block device away. What was written to it is durable on return."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "unplug")):
        detach(call, self)
    return ""


def attach(call: Call, vbd: str) -> str:
    """`plug` without policy; returns the path of the block device."""
    db = call.xapi.db
    vdi: str = db.get("VBD", vbd, "VDI")
    writable = db.get("VBD", vbd, "mode") == "RW"
    path = call.xapi.datapath.open(call.task, vdi, vbd, writable=writable)
    # Block devices go by their name in /dev, as in "nbd0".
    device = PurePosixPath(path)
    name = str(device.relative_to("/dev")) if device.is_relative_to("/dev") else path
    db.put("VBD", vbd, currently_attached=True, device=name)
    return path


def detach(call: Call, vbd: str) -> None:
    """`unplug` without policy."""
    db = call.xapi.db
    call.xapi.datapath.close(call.task, db.get("VBD", vbd, "VDI"), vbd)
    db.put("VBD", vbd, currently_attached=False, device="")


def make_temporary(call: Call, vdi: str, mode: str) -> str:
    """A VBD on dom0 for the toolstack's own use; `reserved` keeps others off the VDI."""
    xapi = call.xapi
    with xapi.db.transaction():
        return xapi.db.create(
            "VBD",
            VM=xapi.dom0,
            VDI=vdi,
            userdevice=_userdevice(xapi, xapi.dom0, "autodetect"),
            mode=mode,
            type="Disk",
            reserved=True,
        )


def _check_vdi(xapi: Toolstack, vdi: str, mode: str) -> None:
    if xapi.db.get("VDI", vdi, "read_only") and mode == "RW":
        raise XenAPIError("VDI_READONLY", (vdi,))
    if xapi.db.get("VDI", vdi, "type") == "cbt_metadata":
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (vdi, "cbt_metadata"))


def _userdevice(xapi: Toolstack, vm: str, wanted: str) -> str:
    vbds: tuple[str, ...] = xapi.db.get("VM", vm, "VBDs")
    taken = {xapi.db.get("VBD", vbd, "userdevice") for vbd in vbds}
    if wanted == "autodetect":
        return next(str(n) for n in range(_MAX_USERDEVICE + 1) if str(n) not in taken)
    if not wanted.isdecimal() or int(wanted) > _MAX_USERDEVICE:
        raise XenAPIError("INVALID_DEVICE", (wanted,))
    if wanted in taken:
        raise XenAPIError("DEVICE_ALREADY_EXISTS", (wanted,))
    return wanted


_SELF = Param("self", Ref("VBD"))

MESSAGES = (
    Message("VBD.create", create, (Param("record", RecordOf("VBD")),)),
    Message("VBD.destroy", destroy, (_SELF,)),
    Message("VBD.plug", plug, (_SELF,)),
    Message("VBD.unplug", unplug, (_SELF,)),
)
