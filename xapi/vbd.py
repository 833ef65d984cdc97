"""VBDs: a VDI as a block device of a VM.

The devices are real: a VM that runs has each of its disks open on the host, as dom0 has those
that are plugged into it. What is simulated is the VM that would read them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import cast

from xapi import pbd
from xapi.datamodel_storage import VBD
from xapi.datapath import Datapath
from xapi.datatypes import NULL, RecordOf, Ref
from xapi.errors import XenAPIError, not_allowed, other_operation
from xapi.generated import construct
from xapi.hosts import Member
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)

#: The device numbers that there are.
_USERDEVICES = tuple(str(number) for number in range(256))


def create(call: Call, record: Mapping[str, object]) -> str:
    """A VBD that is not plugged in; userdevice "autodetect" picks the next free number.

    Raises:
        XenAPIError: VBD_CDS_MUST_BE_READONLY, VBD_NOT_REMOVABLE_MEDIA, what `check_vdi` and
            `choose_userdevice` raise, or OTHER_OPERATION_IN_PROGRESS: the VDI is about to go.
    """
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
            vdi = cast(str, fields["VDI"])
            check_vdi(call.xapi, vdi, cast(str, fields["mode"]))
            _check_lasting(call.xapi, vdi)
        userdevice = choose_userdevice(call.xapi, vm, cast(str, fields["userdevice"]))
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
        sr: str = db.get("VDI", db.get("VBD", self, "VDI"), "SR")
        pbd.require_plugged(call.xapi, sr, _member(call.xapi, self).ref)
        attach(call, self)
    return ""


def unplug(call: Call, self: str) -> str:
    """Take the block device away. What was written to it is durable on return."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "unplug")):
        detach(call, self)
    return ""


def unplug_force(call: Call, self: str) -> str:
    """`unplug`, even of a VBD that is said not to be unpluggable, or whose data are lost."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VBD", self, "unplug_force")):
        detach(call, self, force=True)
    return ""


def attach(call: Call, vbd: str) -> str:
    """`plug` without policy; returns the path of the block device, or "" of an empty drive.

    It is a device of the host that the VM runs on, or is just starting on.
    In dom0 the device goes by its name there, such as nbd0; in any other VM by the VM's own
    name for it, such as xvda, and runtime_properties tell where the host has it.
    """
    db, path = call.xapi.db, ""
    with ExitStack() as undo:
        if not db.get("VBD", vbd, "empty"):
            vdi: str = db.get("VBD", vbd, "VDI")
            writable = db.get("VBD", vbd, "mode") == "RW"
            datapath = _member(call.xapi, vbd).datapath
            path = datapath.open(call.task, vdi, vbd, writable=writable)
            undo.callback(_close_quietly, call, datapath, vdi, vbd)
        db.put(
            "VBD",
            vbd,
            currently_attached=True,
            device=_device(call.xapi, vbd, path),
            runtime_properties={"device": path} if path else {},
        )
        undo.pop_all()
    return path


def detach(call: Call, vbd: str, *, force: bool = False) -> None:
    """`unplug` without policy; by force also if what was written last cannot be kept."""
    release(call, vbd, force=force)
    call.xapi.db.put("VBD", vbd, currently_attached=False, device="")


def release(call: Call, vbd: str, *, force: bool = False) -> None:
    """Take the block device away from a VBD that stays attached: its VM sleeps."""
    db = call.xapi.db
    if not db.get("VBD", vbd, "empty"):
        datapath = _member(call.xapi, vbd).datapath
        datapath.close(call.task, db.get("VBD", vbd, "VDI"), vbd, force=force)
    db.put("VBD", vbd, runtime_properties={})


def _member(xapi: Toolstack, vbd: str) -> Member:
    """The host that has the VBD's disk open, if any has."""
    return xapi.hosts.of_vm(xapi.db.get("VBD", vbd, "VM"))


def _close_quietly(call: Call, datapath: Datapath, vdi: str, vbd: str) -> None:
    """After a failure to say that the VDI is open, whose error is what the client shall see."""
    try:
        datapath.close(call.task, vdi, vbd, force=True)
    except XenAPIError as error:
        _log.warning("%s: closing VDI %s: %s", call.method, vdi, error)


def device_name(userdevice: str) -> str:
    """What a VM calls the disk of that number: xvda, ... xvdz, xvdaa, ..."""
    number, letters = int(userdevice), ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return f"xvd{letters}"


def _device(xapi: Toolstack, vbd: str, path: str) -> str:
    if not xapi.db.get("VM", xapi.db.get("VBD", vbd, "VM"), "is_control_domain"):
        return device_name(xapi.db.get("VBD", vbd, "userdevice"))
    device = PurePosixPath(path)
    return str(device.relative_to("/dev")) if device.is_relative_to("/dev") else path


def make_temporary(call: Call, vdi: str, mode: str, dom0: str) -> str:
    """A VBD on a dom0 for the toolstack's own use; `reserved` keeps others off the VDI."""
    xapi = call.xapi
    with xapi.db.transaction():
        return xapi.db.create(
            "VBD",
            VM=dom0,
            VDI=vdi,
            userdevice=choose_userdevice(xapi, dom0, "autodetect"),
            mode=mode,
            type="Disk",
            reserved=True,
        )


def remove_temporary(call: Call, vbd: str) -> None:
    """Undo `make_temporary`.

    Raises:
        XenAPIError: as `detach`. Data that could not be written are lost then, and the VBD goes
            all the same; only a device that is busy keeps it.
    """
    db = call.xapi.db
    if not db.exists("VBD", vbd):
        return  # the host has restarted meanwhile, and taken the VBD with it
    try:
        detach(call, vbd)
    except XenAPIError:
        detach(call, vbd, force=True)
        raise
    finally:
        if not db.get("VBD", vbd, "currently_attached"):
            db.destroy("VBD", vbd)


def check_vdi(xapi: Toolstack, vdi: str, mode: str) -> None:
    """Raise VDI_READONLY or VDI_INCOMPATIBLE_TYPE where no VBD of that mode can have the VDI."""
    if xapi.db.get("VDI", vdi, "read_only") and mode == "RW":
        raise XenAPIError("VDI_READONLY", (vdi,))
    if xapi.db.get("VDI", vdi, "type") == "cbt_metadata":
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (vdi, "cbt_metadata"))


def _check_lasting(xapi: Toolstack, vdi: str) -> None:
    running: Mapping[str, str] = xapi.db.get("VDI", vdi, "current_operations")
    for task, operation in running.items():
        if operation in ("destroy", "forget"):
            raise other_operation("VDI", vdi, operation, task)


def free_devices(xapi: Toolstack, vm: str) -> tuple[str, ...]:
    """The device numbers that the VM has free, lowest first."""
    vbds: tuple[str, ...] = xapi.db.get("VM", vm, "VBDs")
    taken = {xapi.db.get("VBD", vbd, "userdevice") for vbd in vbds}
    return tuple(number for number in _USERDEVICES if number not in taken)


def choose_userdevice(xapi: Toolstack, vm: str, wanted: str) -> str:
    """A free device number of the VM: the wanted one, or the next for "autodetect".

    Raises:
        XenAPIError: INVALID_DEVICE, DEVICE_ALREADY_EXISTS, OPERATION_NOT_ALLOWED (none left).
    """
    free = free_devices(xapi, vm)
    if wanted == "autodetect":
        if not free:
            raise not_allowed("The VM has as many VBDs as it can have.")
        return free[0]
    if wanted not in _USERDEVICES:
        raise XenAPIError("INVALID_DEVICE", (wanted,))
    if wanted not in free:
        raise XenAPIError("DEVICE_ALREADY_EXISTS", (wanted,))
    return wanted


_SELF = Param("self", Ref("VBD"))

MESSAGES = (
    Message("VBD.create", create, (Param("record", RecordOf("VBD")),)),
    Message("VBD.destroy", destroy, (_SELF,)),
    Message("VBD.plug", plug, (_SELF,)),
    Message("VBD.unplug", unplug, (_SELF,)),
    Message("VBD.unplug_force", unplug_force, (_SELF,)),
)
