"""VDI.revert: give a disk the content of one of its snapshots.

Where the driver can, it happens in place: the disk keeps reference, uuid and location, and
the driver itself writes what changed in its record. Where the driver cannot (it lacks the
capability VDI_REVERT, or answers "not implemented" for this disk), a clone of the snapshot
takes the disk's place: its metadata, its VBDs, and all snapshots that refer to it.

The snapshot is never changed, so reverting again is always possible.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from xapi import messages, pbd, vdi_copy, vdi_steps
from xapi.database import Database
from xapi.datatypes import NULL, STRING_MAP, Ref, Value
from xapi.errors import XenAPIError
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_sr import features
from xapi.storage import Unimplemented, as_xenapi_errors
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)


def revert(call: Call, snapshot: str, driver_params: Mapping[str, str]) -> str:
    """Revert the disk that `snapshot` was taken of, and return it: the same one, or a fresh one.

    The checks come in the XenAPI's order; before the driver is called nothing has changed.
    """
    xapi = call.xapi
    native = "VDI_REVERT" in features(xapi.db, xapi.db.get("VDI", snapshot, "SR"))
    # All marks or none: whoever holds the SR would block who needs it to let go of the target.
    marks = partial(_marks, xapi.db, snapshot, "vdi_revert" if native else "vdi_clone")
    with xapi.policy.operation_on(call.task, call.method, marks):
        require_revertible(xapi, snapshot)
        target: str = xapi.db.get("VDI", snapshot, "snapshot_of")
        if native and in_place(call, snapshot, target, driver_params):
            return target
        return _by_clone(call, snapshot, target, driver_params)


def _marks(db: Database, snapshot: str, operation: str) -> tuple[Mark, ...]:
    """The disk is looked up each time: another revert may just have put a clone in its place."""
    return (
        Mark("SR", db.get("VDI", snapshot, "SR"), operation),
        Mark("VDI", snapshot, "revert_to"),
        Mark("VDI", db.get("VDI", snapshot, "snapshot_of"), "revert_from"),
    )


def require_revertible(xapi: Toolstack, snapshot: str) -> None:
    """Raise SR_HAS_NO_PBDS or VDI_NOT_MANAGED unless a driver can work on the snapshot."""
    pbd.require_plugged(xapi, xapi.db.get("VDI", snapshot, "SR"))
    if not xapi.db.get("VDI", snapshot, "managed"):
        raise XenAPIError("VDI_NOT_MANAGED", (snapshot,))


def in_place(call: Call, snapshot: str, target: str, driver_params: Mapping[str, str]) -> bool:
    """Let the driver do it. False: it does not implement it for this disk; nothing changed."""
    sr, sr_uuid, location = vdi_steps.names(call.xapi, snapshot)
    target_location: str = call.xapi.db.get("VDI", target, "location")
    with as_xenapi_errors(sr, snapshot):
        try:
            call.xapi.storage.vdi_revert(
                call.task, sr_uuid, location, target_location, driver_params
            )
        except Unimplemented:
            return False
    return True


def _by_clone(call: Call, snapshot: str, target: str, driver_params: Mapping[str, str]) -> str:
    """Put a clone of the snapshot in the disk's place.

    Until the commit point the disk is as it was, and a failure removes the clone. After it
    the clone is complete, and all that is left to do is to destroy the old disk.
    """
    fresh = vdi_copy.clone(call, snapshot, driver_params)
    try:
        call.xapi.db.put("VDI", fresh, **identity(call.xapi.db, snapshot, target))
        vdi_steps.save(call, fresh)
        # The commit point: clients see the fresh disk everywhere, or nowhere.
        snapshots = _replace(call, target, fresh)
    except XenAPIError:
        vdi_steps.remove_quietly(call, fresh)
        raise
    for relative in snapshots:
        vdi_steps.save(call, relative)
    destroy_old(call, target, fresh)
    return fresh


def identity(db: Database, snapshot: str, target: str) -> dict[str, Value]:
    """What the fresh disk takes over from the old one. Its content_id tells of its content."""
    fields = vdi_steps.inherited(db, target)
    old: Mapping[str, str] = db.get("VDI", target, "other_config")
    of_snapshot: Mapping[str, str] = db.get("VDI", snapshot, "other_config")
    other_config = {key: value for key, value in old.items() if key != "content_id"}
    if "content_id" in of_snapshot:
        other_config["content_id"] = of_snapshot["content_id"]
    return {**fields, "other_config": other_config, "is_a_snapshot": False, "snapshot_of": NULL}


def _replace(call: Call, old: str, fresh: str) -> tuple[str, ...]:
    """Point all that refers to the old disk to the fresh one; returns its snapshots."""
    with call.xapi.db.transaction():
        for vbd in call.xapi.db.get("VDI", old, "VBDs"):
            call.xapi.db.put("VBD", vbd, VDI=fresh)
        return adopt_snapshots(call.xapi.db, old, fresh)


def adopt_snapshots(db: Database, old: str, fresh: str) -> tuple[str, ...]:
    """The snapshots of the old disk, which may be gone, become the fresh one's."""
    snapshots = db.find("VDI", snapshot_of=old)
    for snapshot in snapshots:
        db.put("VDI", snapshot, snapshot_of=fresh)
    return snapshots


def destroy_old(call: Call, old: str, fresh: str) -> None:
    """Destroy a disk that `fresh` has replaced.

    The revert is done whatever comes of this, so a failure is reported beside it.
    """
    fresh_uuid: str = call.xapi.db.get("VDI", fresh, "uuid")
    old_uuid: str = call.xapi.db.get("VDI", old, "uuid")
    try:
        vdi_steps.remove(call, old)
    except XenAPIError as error:
        text = (
            f"VDI {fresh_uuid} took its place in a revert, but it could not be destroyed: {error}"
        )
        _log.warning("VDI %s: %s", old_uuid, text)
        messages.post(call.xapi, "VDI_REVERT_OLD_DISK_LEFT", 3, "VDI", old_uuid, text)


MESSAGES = (
    Message(
        "VDI.revert",
        revert,
        (Param("snapshot", Ref("VDI")), Param("driver_params", STRING_MAP, {})),
    ),
)
