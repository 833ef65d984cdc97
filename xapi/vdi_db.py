"""VDI records as a driver writes them: db_introduce, db_forget and the setters behind its scan.

Only a driver's own session for that SR, or local root, may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from xapi import pbd, vdi_steps
from xapi.datamodel_storage import VDI_TYPE
from xapi.datatypes import EPOCH, NULL, STRING_MAP, Basic, Ref, Type, Value
from xapi.errors import XenAPIError, uuid_invalid
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.storage import as_xenapi_errors
from xapi.uuids import is_uuid

_INTRODUCED = (
    Param("uuid", Basic.STRING),
    Param("name_label", Basic.STRING),
    Param("name_description", Basic.STRING),
    Param("SR", Ref("SR")),
    Param("type", VDI_TYPE),
    Param("sharable", Basic.BOOL),
    Param("read_only", Basic.BOOL),
    Param("other_config", STRING_MAP),
    Param("location", Basic.STRING),
    Param("xenstore_data", STRING_MAP, {}),
    Param("sm_config", STRING_MAP, {}),
    Param("managed", Basic.BOOL, True),
    Param("virtual_size", Basic.INT, 0),
    Param("physical_utilisation", Basic.INT, 0),
    Param("metadata_of_pool", Ref("pool"), NULL),
    Param("is_a_snapshot", Basic.BOOL, False),
    Param("snapshot_time", Basic.DATETIME, EPOCH),
    Param("snapshot_of", Ref("VDI"), NULL),
)
_DB_INTRODUCED = (*_INTRODUCED, Param("cbt_enabled", Basic.BOOL, False))

_SETTERS: Mapping[str, Type] = {
    "managed": Basic.BOOL,
    "missing": Basic.BOOL,
    "read_only": Basic.BOOL,
    "sharable": Basic.BOOL,
    "virtual_size": Basic.INT,
    "physical_utilisation": Basic.INT,
    "is_a_snapshot": Basic.BOOL,
    "snapshot_of": Ref("VDI"),
    "snapshot_time": Basic.DATETIME,
    "metadata_of_pool": Ref("pool"),
    "cbt_enabled": Basic.BOOL,
}


def db_introduce(call: Call, *values: Value) -> str:
    """A record for a VDI that the driver has found or made on disk."""
    fields = _named(_DB_INTRODUCED, values)
    sr = str(fields["SR"])
    call.xapi.sessions.require_storage_access(call.session, sr)
    with call.xapi.db.transaction():
        _check_names(call, sr, fields)
        return call.xapi.db.create("VDI", **fields)


def db_forget(call: Call, vdi: str) -> str:
    """Remove the record of a VDI that is no longer on disk, and the VBDs that it has by then."""
    sr: str = call.xapi.db.get("VDI", vdi, "SR")
    call.xapi.sessions.require_storage_access(call.session, sr)
    vdi_steps.forget_record(call.xapi.db, vdi)
    return ""


def introduce(call: Call, *values: Value) -> str:
    """Have the driver make the record of a VDI that is on disk, then fill in what it is."""
    db, fields = call.xapi.db, _named(_INTRODUCED, values)
    sr = str(fields["SR"])
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "vdi_introduce")):
        pbd.require_plugged(call.xapi, sr)
        _check_names(call, sr, fields)
        with as_xenapi_errors(sr):
            name = call.xapi.storage.vdi_introduce(
                call.task,
                db.get("SR", sr, "uuid"),
                str(fields["uuid"]),
                str(fields["location"]),
                cast(Mapping[str, str], fields["sm_config"]),
            )
        vdi = vdi_steps.introduced(call, name)
        chosen = ("name_label", "name_description", "type", "sharable", "read_only")
        known = (*chosen, "other_config", "xenstore_data")
        db.put("VDI", vdi, **{field: fields[field] for field in known})
        return vdi


def _setter(field: str) -> Callable[[Call, str, Value], str]:
    def run(call: Call, self: str, value: Value) -> str:
        sr: str = call.xapi.db.get("VDI", self, "SR")
        call.xapi.sessions.require_storage_access(call.session, sr)
        call.xapi.db.put("VDI", self, **{field: value})
        return ""

    return run


def _named(params: tuple[Param, ...], values: tuple[Value, ...]) -> dict[str, Value]:
    return {param.name: value for param, value in zip(params, values, strict=True)}


def _check_names(call: Call, sr: str, fields: Mapping[str, Value]) -> None:
    uuid, location = str(fields["uuid"]), str(fields["location"])
    if not is_uuid(uuid):
        raise uuid_invalid("VDI", uuid)
    vdis: tuple[str, ...] = call.xapi.db.get("SR", sr, "VDIs")
    if any(call.xapi.db.get("VDI", vdi, "location") == location for vdi in vdis):
        raise XenAPIError("LOCATION_NOT_UNIQUE", (sr, location))


MESSAGES = (
    Message("VDI.db_introduce", db_introduce, _DB_INTRODUCED),
    Message("VDI.pool_introduce", db_introduce, _DB_INTRODUCED),
    Message("VDI.db_forget", db_forget, (Param("vdi", Ref("VDI")),)),
    Message("VDI.introduce", introduce, _INTRODUCED),
    *(
        Message(
            f"VDI.set_{field}", _setter(field), (Param("self", Ref("VDI")), Param("value", type_))
        )
        for field, type_ in _SETTERS.items()
    ),
)
