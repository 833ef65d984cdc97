"""VDIs: create, snapshot, clone, resize, update, forget, destroy, and how they may be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from xapi import pbd, vdi_copy, vdi_steps
from xapi.datamodel_storage import ON_BOOT, VDI
from xapi.datatypes import NULL, STRING_MAP, Basic, RecordOf, Ref, Value
from xapi.errors import XenAPIError
from xapi.generated import construct
from xapi.message import Call, Message, Param, now
from xapi.policy import Mark
from xapi.policy_vm import check_power_state
from xapi.storage import as_xenapi_errors

_log = logging.getLogger(__name__)


def create(call: Call, record: Mapping[str, object]) -> str:
    """An empty VDI of at least virtual_size bytes."""
    fields = construct(VDI, record)
    sr = cast(str, fields["SR"])
    if fields["type"] == "cbt_metadata":
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (NULL, "cbt_metadata"))
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "vdi_create")):
        pbd.require_plugged(call.xapi, sr)
        return vdi_steps.create(call, sr, fields)


def snapshot(call: Call, vdi: str, driver_params: Mapping[str, str]) -> str:
    """A VDI with the present content of another, marked as its snapshot."""
    xapi, marks = call.xapi, vdi_steps.marks(call.xapi, vdi, "snapshot")
    with xapi.policy.operation(call.task, call.method, *marks):
        sr, sr_uuid, location = vdi_steps.names(xapi, vdi)
        pbd.require_plugged(xapi, sr)
        with as_xenapi_errors(sr, vdi):
            name = xapi.storage.vdi_snapshot(call.task, sr_uuid, location, driver_params)
        fresh = vdi_steps.introduced(call, name)
        with xapi.db.transaction():
            _share_content_id(call, vdi)
            xapi.db.put(
                "VDI",
                fresh,
                **vdi_steps.inherited(xapi.db, vdi),
                is_a_snapshot=True,
                snapshot_of=vdi,
                snapshot_time=now(),
            )
        vdi_steps.save(call, fresh)
        return fresh


def clone(call: Call, vdi: str, driver_params: Mapping[str, str]) -> str:
    """A writable VDI with the content of another, which is no snapshot of it."""
    marks = vdi_steps.marks(call.xapi, vdi, "clone")
    with call.xapi.policy.operation(call.task, call.method, *marks):
        pbd.require_plugged(call.xapi, call.xapi.db.get("VDI", vdi, "SR"))
        return vdi_copy.clone(call, vdi, driver_params)


def destroy(call: Call, self: str) -> str:
    """Destroy a VDI; VBDs that refer to it go with it."""
    marks = vdi_steps.marks(call.xapi, self, "destroy")
    with call.xapi.policy.operation(call.task, call.method, *marks):
        pbd.require_plugged(call.xapi, call.xapi.db.get("VDI", self, "SR"))
        vdi_steps.remove(call, self)
    return ""


def destroy_quietly(call: Call, vdi: str) -> None:
    """`destroy` after a failure, whose own error is what the client shall see.

    It goes by a task of its own: that of a cancelled call would not wait for a busy SR.
    """
    try:
        destroy(replace(call, task=call.xapi.db.new_ref()), vdi)
    except XenAPIError as error:
        _log.warning("%s: cleaning up VDI %s: %s", call.method, vdi, error)


def resize(call: Call, vdi: str, size: int) -> str:
    """Make a VDI larger. Whether it may become smaller, the driver decides (it may not)."""
    marks = vdi_steps.marks(call.xapi, vdi, "resize")
    with call.xapi.policy.operation(call.task, call.method, *marks):
        _resize(call, vdi, size, online=False)
    return ""


def resize_online(call: Call, vdi: str, size: int) -> str:
    """`resize` while the VDI is attached."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VDI", vdi, "resize_online")):
        _resize(call, vdi, size, online=True)
    return ""


def _resize(call: Call, vdi: str, size: int, *, online: bool) -> None:
    sr, sr_uuid, location = vdi_steps.names(call.xapi, vdi)
    with as_xenapi_errors(sr, vdi):
        call.xapi.storage.vdi_resize(call.task, sr_uuid, location, size, online=online)


def update(call: Call, vdi: str) -> str:
    """Let the driver write the VDI's record into the SR's metadata."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VDI", vdi, "update")):
        sr, sr_uuid, location = vdi_steps.names(call.xapi, vdi)
        pbd.require_plugged(call.xapi, sr)
        with as_xenapi_errors(sr, vdi):
            call.xapi.storage.vdi_update(call.task, sr_uuid, location)
    return ""


def generate_config(call: Call, host: str, vdi: str) -> str:
    """What a host needs in order to attach the VDI while there is no toolstack."""
    storage = call.xapi.hosts[host].storage
    with call.xapi.policy.operation(call.task, call.method, Mark("VDI", vdi, "generate_config")):
        sr, sr_uuid, location = vdi_steps.names(call.xapi, vdi)
        pbd.require_plugged(call.xapi, sr, host)
        with as_xenapi_errors(sr, vdi):
            return storage.vdi_generate_config(call.task, sr_uuid, location)


def set_on_boot(call: Call, self: str, value: str) -> str:
    """Whether the disk begins anew with each start of its VM, which must be halted."""
    db = call.xapi.db
    marks = vdi_steps.marks(call.xapi, self, "set_on_boot")
    with call.xapi.policy.operation(call.task, call.method, *marks), db.transaction():
        for vbd in db.get("VDI", self, "VBDs"):
            check_power_state(db, db.get("VBD", vbd, "VM"), "Halted")
        db.put("VDI", self, on_boot=value)
    return ""


def set_allow_caching(call: Call, self: str, value: bool) -> str:
    """Whether hosts may keep a copy of what they read."""
    call.xapi.db.put("VDI", self, allow_caching=value)
    return ""


def get_nbd_info(call: Call, self: str) -> Value:
    """Where the VDI can be read over NBD: nowhere, since no network here has that purpose."""
    type_: str = call.xapi.db.get("VDI", self, "type")
    if type_ == "cbt_metadata":
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (self, type_))
    return ()


def force_unlock(call: Call, vdi: str) -> str:
    """A message of old: there has been no lock to break for long."""
    raise XenAPIError("MESSAGE_DEPRECATED")


def forget(call: Call, vdi: str) -> str:
    """Remove the VDI's record and its VBDs; its content stays where it is."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VDI", vdi, "forget")):
        vdi_steps.forget_record(call.xapi.db, vdi)
    return ""


def _set_name(field: str) -> Callable[[Call, str, str], str]:
    """Rename; a driver that keeps names on disk is told, if the SR is attached."""

    def run(call: Call, self: str, value: str) -> str:
        db = call.xapi.db
        db.put("VDI", self, **{field: value})
        if db.find("PBD", SR=db.get("VDI", self, "SR"), currently_attached=True):
            vdi_steps.save(call, self)
        return ""

    return run


def _share_content_id(call: Call, vdi: str) -> None:
    """A VDI and its snapshot hold the same content, and say so by the same content_id."""
    db = call.xapi.db
    other_config: Mapping[str, str] = db.get("VDI", vdi, "other_config")
    if "content_id" not in other_config:
        content_id = db.new_uuid()
        db.put("VDI", vdi, other_config={**other_config, "content_id": content_id})


_VDI = Param("vdi", Ref("VDI"))
_SELF = Param("self", Ref("VDI"))
_DRIVER_PARAMS = Param("driver_params", STRING_MAP, {})
_SIZE = Param("size", Basic.INT)
_TEXT = Param("value", Basic.STRING)

MESSAGES = (
    Message("VDI.create", create, (Param("record", RecordOf("VDI")),)),
    Message("VDI.snapshot", snapshot, (_VDI, _DRIVER_PARAMS)),
    Message("VDI.clone", clone, (_VDI, _DRIVER_PARAMS)),
    Message("VDI.resize", resize, (_VDI, _SIZE)),
    Message("VDI.resize_online", resize_online, (_VDI, _SIZE)),
    Message("VDI.update", update, (_VDI,)),
    Message("VDI.forget", forget, (_VDI,)),
    Message("VDI.generate_config", generate_config, (Param("host", Ref("host")), _VDI)),
    Message("VDI.force_unlock", force_unlock, (_VDI,)),
    Message("VDI.get_nbd_info", get_nbd_info, (_SELF,)),
    Message("VDI.set_on_boot", set_on_boot, (_SELF, Param("value", ON_BOOT))),
    Message("VDI.set_allow_caching", set_allow_caching, (_SELF, Param("value", Basic.BOOL))),
    Message("VDI.destroy", destroy, (_SELF,)),
    Message("VDI.set_name_label", _set_name("name_label"), (_SELF, _TEXT)),
    Message("VDI.set_name_description", _set_name("name_description"), (_SELF, _TEXT)),
)
