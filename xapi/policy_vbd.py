"""What a VBD allows: one operation at a time, plug when it is out, unplug when it is in."""

from __future__ import annotations

from collections.abc import Mapping

from xapi.database import Database
from xapi.errors import XenAPIError, other_operation, vdi_in_use

#: What VBD.allowed_operations may show.
OFFERED = ("attach", "plug", "unplug")


def check(db: Database, vbd: str, operation: str) -> None:
    """Raise the XenAPIError that forbids the operation, if there is one."""
    current: Mapping[str, str] = db.get("VBD", vbd, "current_operations")
    for task, running in current.items():
        raise other_operation("VBD", vbd, running, task)
    attached: bool = db.get("VBD", vbd, "currently_attached")
    device: str = db.get("VBD", vbd, "device")
    if operation in ("plug", "attach"):
        if attached:
            raise XenAPIError("DEVICE_ALREADY_ATTACHED", (device,))
        _check_vdi(db, vbd)
    elif operation == "unplug":
        if not attached:
            raise XenAPIError("DEVICE_ALREADY_DETACHED", (device,))
        if not db.get("VBD", vbd, "unpluggable"):
            raise XenAPIError("VBD_NOT_UNPLUGGABLE", (vbd,))


def _check_vdi(db: Database, vbd: str) -> None:
    """Whether the VBD's VDI can be attached as the VBD wants it."""
    if db.get("VBD", vbd, "empty"):
        raise XenAPIError("VBD_IS_EMPTY", (vbd,))
    vdi: str = db.get("VBD", vbd, "VDI")
    if not db.get("VDI", vdi, "managed"):
        raise XenAPIError("VDI_NOT_MANAGED", (vdi,))
    running: Mapping[str, str] = db.get("VDI", vdi, "current_operations")
    for task, operation in running.items():
        if operation not in ("copy", "mirror"):
            raise other_operation("VDI", vdi, operation, task)
    if db.get("VDI", vdi, "sharable"):
        return
    others: tuple[str, ...] = db.get("VDI", vdi, "VBDs")
    for other in others:
        if other == vbd or not db.get("VBD", other, "currently_attached"):
            continue
        if "RW" in (db.get("VBD", vbd, "mode"), db.get("VBD", other, "mode")):
            raise vdi_in_use(vdi, "attach")
