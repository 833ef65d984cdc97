"""Changed block tracking: switch it on and off, ask what changed, keep only that of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xapi import pbd, vdi_steps
from xapi.datatypes import Ref
from xapi.errors import XenAPIError, vdi_in_use
from xapi.message import Call, Message, Param
from xapi.storage import as_xenapi_errors

#: How long data_destroy waits for others to let go of the snapshot, in seconds.
_PATIENCE = 4.0
#: What stands in the place of a content_id where there is no content any more.
_NO_CONTENT = "/No content: this is a cbt_metadata VDI/"


def _switch(operation: str) -> Callable[[Call, str], str]:
    """enable_cbt or disable_cbt; nothing to do where it is so already."""
    wanted = operation == "enable_cbt"

    def run(call: Call, self: str) -> str:
        db, storage = call.xapi.db, call.xapi.storage
        marks = vdi_steps.marks(call.xapi, self, operation)
        with call.xapi.policy.operation(call.task, call.method, *marks):
            sr, sr_uuid, location = vdi_steps.names(call.xapi, self)
            pbd.require_plugged(call.xapi, sr)
            if db.get("VDI", self, "cbt_enabled") == wanted:
                return ""
            switch = storage.vdi_enable_cbt if wanted else storage.vdi_disable_cbt
            with as_xenapi_errors(sr, self):
                switch(call.task, sr_uuid, location)
            db.put("VDI", self, cbt_enabled=wanted)
        return ""

    return run


def list_changed_blocks(call: Call, vdi_from: str, vdi_to: str) -> str:
    """A bitmap in base64: bit n stands for the n-th 64 KiB, set where the two VDIs may differ."""
    db = call.xapi.db
    _, _, older = vdi_steps.names(call.xapi, vdi_from)
    marks = vdi_steps.marks(call.xapi, vdi_to, "list_changed_blocks")
    with call.xapi.policy.operation(call.task, call.method, *marks):
        sr, sr_uuid, newer = vdi_steps.names(call.xapi, vdi_to)
        if db.get("VDI", vdi_from, "SR") != sr:
            raise XenAPIError("INVALID_VALUE", ("vdi_from", vdi_from))
        pbd.require_plugged(call.xapi, sr)
        with as_xenapi_errors(sr, vdi_to):
            return call.xapi.storage.vdi_list_changed_blocks(call.task, sr_uuid, older, newer)


def data_destroy(call: Call, self: str) -> str:
    """Destroy a snapshot's data and keep what changed up to it; its VBDs go."""
    db, policy = call.xapi.db, call.xapi.policy
    marks = vdi_steps.marks(call.xapi, self, "data_destroy")
    with policy.operation(call.task, call.method, *marks):
        sr, sr_uuid, location = vdi_steps.names(call.xapi, self)
        pbd.require_plugged(call.xapi, sr)
        if not policy.wait_for(lambda: not _attached(call, self), _PATIENCE):
            raise vdi_in_use(self, "data_destroy")
        with as_xenapi_errors(sr, self):
            call.xapi.storage.vdi_data_destroy(call.task, sr_uuid, location)
        with db.transaction():
            for vbd in db.get("VDI", self, "VBDs"):
                db.destroy("VBD", vbd)
            other_config: Mapping[str, str] = db.get("VDI", self, "other_config")
            db.put(
                "VDI",
                self,
                type="cbt_metadata",
                other_config={**other_config, "content_id": _NO_CONTENT},
            )
        vdi_steps.save(call, self)
    return ""


def _attached(call: Call, vdi: str) -> bool:
    db = call.xapi.db
    vbds: tuple[str, ...] = db.get("VDI", vdi, "VBDs")
    return any(
        db.get("VBD", vbd, "currently_attached") or db.get("VBD", vbd, "reserved") for vbd in vbds
    )


_SELF = (Param("self", Ref("VDI")),)

MESSAGES = (
    Message("VDI.enable_cbt", _switch("enable_cbt"), _SELF),
    Message("VDI.disable_cbt", _switch("disable_cbt"), _SELF),
    Message("VDI.data_destroy", data_destroy, _SELF),
    Message(
        "VDI.list_changed_blocks",
        list_changed_blocks,
        (Param("vdi_from", Ref("VDI")), Param("vdi_to", Ref("VDI"))),
    ),
)
