"""The steps that VDI calls are made of, for callers that have marked what they use.

The driver makes and removes VDI records itself, by VDI.db_introduce and VDI.db_forget. What
it does not know is written here: names, types, what the client wants remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

from xapi.database import Database
from xapi.datatypes import NULL, Value
from xapi.errors import XenAPIError, internal_error
from xapi.message import Call
from xapi.policy import Mark
from xapi.policy_sr import features
from xapi.storage import NewVDI, StorageError, VDIName, as_xenapi_errors
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)

#: What a snapshot or a clone takes over from the VDI that it was made from.
INHERITED = (
    "name_label",
    "name_description",
    "type",
    "sharable",
    "other_config",
    "xenstore_data",
    "on_boot",
    "allow_caching",
    "tags",
)
#: What VDI.create writes into the record that the driver made.
_CHOSEN = ("name_label", "name_description", "type", "sharable", "read_only")
_REMEMBERED = ("other_config", "xenstore_data", "tags")


def names(xapi: Toolstack, vdi: str) -> tuple[str, str, str]:
    """How storage names a VDI, and the reference for its errors: SR, SR's uuid, location."""
    with xapi.db.lock:
        sr: str = xapi.db.get("VDI", vdi, "SR")
        return sr, xapi.db.get("SR", sr, "uuid"), xapi.db.get("VDI", vdi, "location")


def introduced(call: Call, name: VDIName) -> str:
    """The record of a VDI that a driver says it has made."""
    try:
        return call.xapi.db.by_uuid("VDI", name.uuid)
    except XenAPIError:
        raise internal_error(f"the driver made VDI {name.uuid} but no record of it") from None


def marks(xapi: Toolstack, vdi: str, operation: str) -> tuple[Mark, Mark]:
    """What an operation that its SR must know of marks: the SR first, then the VDI."""
    sr: str = xapi.db.get("VDI", vdi, "SR")
    return Mark("SR", sr, f"vdi_{operation}"), Mark("VDI", vdi, operation)


def inherited(db: Database, vdi: str) -> dict[str, Value]:
    """The fields that a snapshot or clone of the VDI has in common with it."""
    with db.lock:
        return {field: db.get("VDI", vdi, field) for field in INHERITED}


def create(call: Call, sr: str, fields: Mapping[str, Value]) -> str:
    """A VDI of zeros. `fields` are those of a VDI record; virtual_size is the least size."""
    db = call.xapi.db
    wanted = cast(int, fields["virtual_size"])
    request = NewVDI(
        virtual_size=wanted,
        type=cast(str, fields["type"]),
        name_label=cast(str, fields.get("name_label", "")),
        name_description=cast(str, fields.get("name_description", "")),
        read_only=cast(bool, fields.get("read_only", False)),
        sm_config=cast(Mapping[str, str], fields.get("sm_config", {})),
    )
    with as_xenapi_errors(sr):
        name = call.xapi.storage.vdi_create(call.task, db.get("SR", sr, "uuid"), request)
    vdi = introduced(call, name)
    if db.get("VDI", vdi, "virtual_size") < wanted:
        remove_quietly(call, vdi)
        raise XenAPIError("SR_BACKEND_FAILURE", ("", "Disk too small", ""))
    db.put("VDI", vdi, **{key: fields[key] for key in (*_CHOSEN, *_REMEMBERED) if key in fields})
    return vdi


def save(call: Call, vdi: str) -> None:
    """Let a driver that keeps VDI records on disk write this one; a failure is only logged."""
    try:
        sr, sr_uuid, location = names(call.xapi, vdi)
        if "VDI_UPDATE" in features(call.xapi.db, sr):
            call.xapi.storage.vdi_update(call.task, sr_uuid, location)
    except (StorageError, XenAPIError) as error:
        _log.warning("%s: the driver did not save the record of %s: %s", call.method, vdi, error)


def remove(call: Call, vdi: str) -> None:
    """Destroy a VDI on disk, and its record where the driver has not done so itself."""
    db = call.xapi.db
    sr, sr_uuid, location = names(call.xapi, vdi)
    with as_xenapi_errors(sr, vdi):
        call.xapi.storage.vdi_delete(call.task, sr_uuid, location)
    with db.transaction():
        if db.exists("VDI", vdi):
            forget_record(db, vdi)


def forget_record(db: Database, vdi: str) -> None:
    """Remove the record of a VDI with all that would have nothing to refer to without it.

    In one transaction: a VBD without its VDI keeps its VM from starting.
    """
    with db.transaction():
        for vbd in db.get("VDI", vdi, "VBDs"):
            db.destroy("VBD", vbd)
        for vm in db.find("VM", suspend_VDI=vdi):
            db.put("VM", vm, suspend_VDI=NULL)
        db.destroy("VDI", vdi)


def remove_quietly(call: Call, vdi: str) -> None:
    """`remove` after a failure, whose own error is what the client shall see."""
    try:
        remove(call, vdi)
    except XenAPIError as error:
        _log.warning("%s: cleaning up VDI %s: %s", call.method, vdi, error)
