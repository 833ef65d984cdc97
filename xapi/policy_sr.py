"""What an SR allows.

Operations on an SR exclude each other, whatever they are: two VDI.creates on one SR come one
after the other. Only plugging a PBD goes on beside most of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from xapi.database import Database
from xapi.datatypes import words
from xapi.errors import XenAPIError, other_operation, sr_has_no_pbds, sr_not_supported

#: What SR.allowed_operations may show.
OFFERED = words(
    "scan destroy forget plug unplug vdi_create vdi_destroy vdi_resize vdi_clone "
    "vdi_snapshot vdi_mirror vdi_enable_cbt vdi_disable_cbt vdi_data_destroy "
    "vdi_list_changed_blocks vdi_set_on_boot vdi_introduce vdi_revert update pbd_create "
    "pbd_destroy"
)
#: Plugging goes on beside other operations, but not beside those that change the same PBDs.
_NOT_WHILE_PLUGGING = frozenset({"plug", "unplug", "destroy", "forget", "pbd_destroy"})
#: The driver's capability that an operation needs. vdi_clone is not here: it is emulated.
FEATURE = {
    "vdi_create": "VDI_CREATE",
    "vdi_destroy": "VDI_DELETE",
    "vdi_resize": "VDI_RESIZE",
    "vdi_introduce": "VDI_INTRODUCE",
    "vdi_snapshot": "VDI_SNAPSHOT",
    "vdi_revert": "VDI_REVERT",
    "vdi_mirror": "VDI_MIRROR",
    "vdi_enable_cbt": "VDI_CONFIG_CBT",
    "vdi_disable_cbt": "VDI_CONFIG_CBT",
    "vdi_data_destroy": "VDI_CONFIG_CBT",
    "vdi_list_changed_blocks": "VDI_CONFIG_CBT",
    "vdi_set_on_boot": "VDI_RESET_ON_BOOT",
    "update": "SR_UPDATE",
}


def check(db: Database, sr: str, operation: str) -> None:
    """Raise the XenAPIError that forbids the operation, if there is one."""
    if operation in FEATURE and FEATURE[operation] not in features(db, sr):
        raise sr_not_supported(sr)
    current: Mapping[str, str] = db.get("SR", sr, "current_operations")
    for task, running in current.items():
        if running != "plug" or operation in _NOT_WHILE_PLUGGING:
            raise other_operation("SR", sr, _shown(running), task)
    if operation in ("destroy", "forget"):
        _check_removal(db, sr, operation)


def features(db: Database, sr: str) -> Mapping[str, int]:
    """The capabilities of the SR's driver, with their versions."""
    return _of_driver(db, db.history.generation, db.get("SR", sr, "type"))


@lru_cache(maxsize=16)
def _of_driver(db: Database, _generation: int, type_: str) -> Mapping[str, int]:
    """Asked for by every operation of every VDI in a list, between two changes of anything."""
    for driver in db.find("SM", type=type_):
        known: Mapping[str, int] = db.get("SM", driver, "features")
        return known
    return {}


def _check_removal(db: Database, sr: str, operation: str) -> None:
    pbds: tuple[str, ...] = db.get("SR", sr, "PBDs")
    if db.find("PBD", SR=sr, currently_attached=True):
        raise XenAPIError("SR_HAS_PBD", (sr,))
    if operation == "forget":
        return
    if not pbds:
        raise sr_has_no_pbds(sr)
    vdis: tuple[str, ...] = db.get("SR", sr, "VDIs")
    if any(db.get("VDI", vdi, "managed") and db.get("VDI", vdi, "type") != "rrd" for vdi in vdis):
        raise XenAPIError("SR_NOT_EMPTY", (sr,))


def _shown(operation: str) -> str:
    """An operation as errors spell it: those of the VDI family look like a message name."""
    return f"VDI.{operation[4:]}" if operation.startswith("vdi_") else operation
