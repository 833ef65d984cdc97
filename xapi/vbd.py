"""VBDs: a VDI as a block device of a VM.

The devices are real: a VM that runs has each of its disks open on the host, as dom0 has those
that are plugged into it. What is simulated is the VM that would read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import cast

from xapi import pbd, policy_vbd
from xapi.datamodel_storage import VBD, VBD_MODE
from xapi.datatypes import NULL, Basic, RecordOf, Ref
from xapi.errors import XenAPIError, not_allowed, other_operation, sr_not_supported
from xapi.generated import construct
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_vm import check_power_state, runs
from xapi.toolstack import Toolstack

_MAX_USERDEVICE = 255
_NUMBER = re.compile(r"[0-9]{1,3}")


def create(call: Call, record: Mapping[str, object]) -> str:
    """A VBD that is not plugged in; userdevice "autodetect" picks the next free number."""
    db = call.xapi.db
    fields = construct(VBD, record)
    vm = cast(str, fields["VM"])
    with db.transaction():
        # Only a suspended VM's VBDs may claim to be attached already.
        if db.get("VM", vm, "power_state") != "Suspended":
            fields |= {"currently_attached": False, "device": ""}
        if fields["type"] == "CD" and fields["mode"] != "RO":
            raise XenAPIError("VBD_CDS_MUST_BE_READONLY")
        if fields["empty"] and fields["type"] != "CD":
            raise XenAPIError("VBD_NOT_REMOVABLE_MEDIA", ("in constructor",))
        if fields["empty"]:
            fields["VDI"] = NULL
        else:
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
        pbd.require_plugged(call.xapi, db.get("VDI", db.get("VBD", self, "VDI"), "SR"))
        attach(call, self)
    return ""


def unplug(call: Call, self: str) -> str:
    """Take the block device away. What was written to it is durable on return."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "unplug")):
        detach(call, self)
    return ""


def unplug_force(call: Call, self: str) -> str:
    """`unplug`, even of a VBD that is said not to be unpluggable."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "unplug_force")):
        detach(call, self)
    return ""


def insert(call: Call, vbd: str, vdi: str) -> str:
    """Put a VDI into an empty CD drive; where the VM runs, it sees it at once."""
    db = call.xapi.db
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", vbd, "insert")):
        _check_vdi(call.xapi, vdi, "RO")
        db.put("VBD", vbd, VDI=vdi, empty=False)
        try:
            policy_vbd.check_vdi(db, vbd)
            if _is_live(call.xapi, vbd):
                pbd.require_plugged(call.xapi, db.get("VDI", vdi, "SR"))
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
            _check_vdi(call.xapi, db.get("VBD", self, "VDI"), value)
        db.put("VBD", self, mode=value)
    return ""


def set_userdevice(call: Call, self: str, value: str) -> str:
    """Another device number, for the next time that the VM starts."""
    db = call.xapi.db
    with db.transaction():
        vm: str = db.get("VBD", self, "VM")
        if value != db.get("VBD", self, "userdevice"):
            db.put("VBD", self, userdevice=_userdevice(call.xapi, vm, value))
    return ""


def _pause(operation: str) -> Callable[..., str]:
    """Pause and unpause: allowed or not, no driver has them any more."""

    def run(call: Call, self: str, *_token: str) -> str:
        call.xapi.policy.assert_allowed(Mark("VBD", self, operation))
        vdi: str = call.xapi.db.get("VBD", self, "VDI")
        raise sr_not_supported(call.xapi.db.get("VDI", vdi, "SR"))

    return run


def attach(call: Call, vbd: str) -> str:
    """`plug` without policy; returns the path of the block device, or "" of an empty drive.

    In dom0 the device goes by its name there, such as nbd0; in any other VM by the VM's own
    name for it, such as xvda, and runtime_properties tell where the host has it.
    """
    db = call.xapi.db
    path = ""
    if not db.get("VBD", vbd, "empty"):
        writable = db.get("VBD", vbd, "mode") == "RW"
        path = call.xapi.datapath.open(call.task, db.get("VBD", vbd, "VDI"), vbd, writable=writable)
    db.put(
        "VBD",
        vbd,
        currently_attached=True,
        device=_device(call.xapi, vbd, path),
        runtime_properties={"device": path} if path else {},
    )
    return path


def detach(call: Call, vbd: str) -> None:
    """`unplug` without policy."""
    release(call, vbd)
    call.xapi.db.put("VBD", vbd, currently_attached=False, device="")


def release(call: Call, vbd: str) -> None:
    """Take the block device away from a VBD that stays attached: its VM sleeps."""
    db = call.xapi.db
    if not db.get("VBD", vbd, "empty"):
        call.xapi.datapath.close(call.task, db.get("VBD", vbd, "VDI"), vbd)
    db.put("VBD", vbd, runtime_properties={})


def device_number(userdevice: str) -> int:
    """The number that a userdevice stands for. set_userdevice takes any text: that comes last."""
    return int(userdevice) if _NUMBER.fullmatch(userdevice) else _MAX_USERDEVICE + 1


def device_name(userdevice: str) -> str:
    """What a VM calls the disk of that number: xvda, ... xvdz, xvdaa, ..."""
    number, letters = device_number(userdevice), ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return f"xvd{letters}"


def _device(xapi: Toolstack, vbd: str, path: str) -> str:
    if xapi.db.get("VBD", vbd, "VM") != xapi.dom0:
        return device_name(xapi.db.get("VBD", vbd, "userdevice"))
    device = PurePosixPath(path)
    return str(device.relative_to("/dev")) if device.is_relative_to("/dev") else path


def _is_live(xapi: Toolstack, vbd: str) -> bool:
    attached: bool = xapi.db.get("VBD", vbd, "currently_attached")
    return attached and runs(xapi.db, xapi.db.get("VBD", vbd, "VM"))


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


def free_devices(xapi: Toolstack, vm: str) -> tuple[str, ...]:
    """The device numbers that the VM has free, lowest first."""
    vbds: tuple[str, ...] = xapi.db.get("VM", vm, "VBDs")
    taken = {xapi.db.get("VBD", vbd, "userdevice") for vbd in vbds}
    return tuple(str(n) for n in range(_MAX_USERDEVICE + 1) if str(n) not in taken)


def _userdevice(xapi: Toolstack, vm: str, wanted: str) -> str:
    free = free_devices(xapi, vm)
    if wanted == "autodetect":
        if not free:
            raise not_allowed("The VM has as many VBDs as it can have.")
        return free[0]
    if device_number(wanted) > _MAX_USERDEVICE:
        raise XenAPIError("INVALID_DEVICE", (wanted,))
    if wanted not in free:
        raise XenAPIError("DEVICE_ALREADY_EXISTS", (wanted,))
    return wanted


_SELF = Param("self", Ref("VBD"))
_VBD = Param("vbd", Ref("VBD"))

MESSAGES = (
    Message("VBD.create", create, (Param("record", RecordOf("VBD")),)),
    Message("VBD.destroy", destroy, (_SELF,)),
    Message("VBD.plug", plug, (_SELF,)),
    Message("VBD.unplug", unplug, (_SELF,)),
    Message("VBD.unplug_force", unplug_force, (_SELF,)),
    Message("VBD.insert", insert, (_VBD, Param("vdi", Ref("VDI")))),
    Message("VBD.eject", eject, (_VBD,)),
    Message("VBD.assert_attachable", assert_attachable, (_SELF,)),
    Message("VBD.set_mode", set_mode, (_SELF, Param("value", VBD_MODE))),
    Message("VBD.set_userdevice", set_userdevice, (_SELF, Param("value", Basic.STRING))),
    Message("VBD.pause", _pause("pause"), (_SELF,)),
    Message("VBD.unpause", _pause("unpause"), (_SELF, Param("token", Basic.STRING))),
)
