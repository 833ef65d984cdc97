"""PBDs: how a host reaches an SR."""

from __future__ import annotations

from collections.abc import Mapping

from xapi.database import Database
from xapi.datamodel_storage import PBD
from xapi.datatypes import NULL, STRING_MAP, RecordOf, Ref
from xapi.errors import XenAPIError, not_allowed, sr_has_no_pbds
from xapi.generated import construct
from xapi.hosts import host_of_vm
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_vm import runs
from xapi.storage import as_xenapi_errors
from xapi.toolstack import Toolstack


def create(call: Call, record: Mapping[str, object]) -> str:
    """A PBD for a host and an SR that have none yet."""
    db = call.xapi.db
    fields = construct(PBD, record)
    host, sr = str(fields["host"]), str(fields["SR"])
    with db.transaction():
        db.get("host", host, "uuid")
        db.get("SR", sr, "uuid")
        _check_device_config(fields.get("device_config"))
        for other in db.find("PBD", SR=sr, host=host):
            raise XenAPIError("PBD_EXISTS", (sr, host, other))
        return db.create("PBD", **fields)


def destroy(call: Call, self: str) -> str:
    """Remove a PBD that is not plugged in."""
    db = call.xapi.db
    mark = Mark("SR", db.get("PBD", self, "SR"), "pbd_destroy")
    with call.xapi.policy.operation(call.task, call.method, mark), db.transaction():
        if db.get("PBD", self, "currently_attached"):
            raise not_allowed("The PBD is plugged in: unplug it first.")
        db.destroy("PBD", self)
    return ""


def plug(call: Call, self: str) -> str:
    """Attach the SR to the host; nothing to do where it is attached."""
    sr: str = call.xapi.db.get("PBD", self, "SR")
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "plug")):
        attach(call, self)
    return ""


def unplug(call: Call, self: str) -> str:
    """Detach the SR from the host; nothing to do where it is not attached."""
    sr: str = call.xapi.db.get("PBD", self, "SR")
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "unplug")):
        detach(call, self)
    return ""


def set_device_config(call: Call, self: str, value: Mapping[str, str]) -> str:
    """Another way to reach the SR, from the next plug on."""
    _check_device_config(value)
    call.xapi.db.put("PBD", self, device_config=value)
    return ""


def attach(call: Call, pbd: str) -> None:
    """`plug`, for a caller that has marked the SR."""
    db = call.xapi.db
    if db.get("PBD", pbd, "currently_attached"):
        return
    sr: str = db.get("PBD", pbd, "SR")
    host: str = db.get("PBD", pbd, "host")
    require_driver(call.xapi, db.get("SR", sr, "type"))
    if not db.get("SR", sr, "shared") and db.find("PBD", SR=sr, currently_attached=True):
        raise XenAPIError("SR_NOT_SHARABLE", (sr, host))
    with as_xenapi_errors(sr):
        call.xapi.hosts[host].storage.sr_attach(call.task, db.get("SR", sr, "uuid"))
    db.put("PBD", pbd, currently_attached=True)


def detach(call: Call, pbd: str) -> None:
    """`unplug`, for a caller that has marked the SR."""
    db = call.xapi.db
    if not db.get("PBD", pbd, "currently_attached"):
        return
    sr: str = db.get("PBD", pbd, "SR")
    host: str = db.get("PBD", pbd, "host")
    active = _active_vdis(call.xapi, sr, host)
    if active:
        raise XenAPIError("VDI_IN_USE", active)
    with as_xenapi_errors(sr):
        call.xapi.hosts[host].storage.sr_detach(call.task, db.get("SR", sr, "uuid"))
    db.put("PBD", pbd, currently_attached=False)


def require_plugged(xapi: Toolstack, sr: str, host: str = "") -> str:
    """A plugged PBD of the SR, on that host where one is named.

    Raises:
        XenAPIError: SR_HAS_NO_PBDS [sr].
    """
    for pbd in xapi.db.find("PBD", SR=sr, currently_attached=True):
        if host in ("", xapi.db.get("PBD", pbd, "host")):
            return pbd
    raise sr_has_no_pbds(sr)


def require_driver(xapi: Toolstack, type_: str) -> None:
    """Raise SR_UNKNOWN_DRIVER unless there is a driver for SRs of this type."""
    if not xapi.db.find("SM", type=type_):
        raise XenAPIError("SR_UNKNOWN_DRIVER", (type_,))


def _active_vdis(xapi: Toolstack, sr: str, host: str) -> tuple[str, ...]:
    """The SR's VDIs that a VM of the host has open, or is just about to open or to close."""
    with xapi.db.lock:
        vdis: tuple[str, ...] = xapi.db.get("SR", sr, "VDIs")
        return tuple(
            vdi
            for vdi in vdis
            if any(_is_open(xapi.db, vbd, host) for vbd in xapi.db.get("VDI", vdi, "VBDs"))
        )


def _is_open(db: Database, vbd: str, host: str) -> bool:
    """A VM that sleeps has its disks closed, unless a checkpoint is going to wake it up."""
    if host_of_vm(db, db.get("VBD", vbd, "VM")) not in (host, NULL):
        return False
    if db.get("VBD", vbd, "current_operations") or db.get("VBD", vbd, "reserved"):
        return True
    vm: str = db.get("VBD", vbd, "VM")
    if not db.get("VBD", vbd, "currently_attached") or not db.exists("VM", vm):
        return False
    return runs(db, vm) or "checkpoint" in db.get("VM", vm, "current_operations").values()


def _check_device_config(config: object) -> None:
    if isinstance(config, Mapping) and "SRmaster" in config:
        raise XenAPIError(
            "VALUE_NOT_SUPPORTED",
            ("device_config", "SRmaster", "The toolstack itself says which host is the master."),
        )


_SELF = Param("self", Ref("PBD"))

MESSAGES = (
    Message("PBD.create", create, (Param("record", RecordOf("PBD")),)),
    Message("PBD.destroy", destroy, (_SELF,)),
    Message("PBD.plug", plug, (_SELF,)),
    Message("PBD.unplug", unplug, (_SELF,)),
    Message("PBD.set_device_config", set_device_config, (_SELF, Param("value", STRING_MAP))),
)
