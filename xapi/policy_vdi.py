"""What a VDI allows. The checks come in the XenAPI's order: the first one that fails speaks."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xapi.database import Database
from xapi.datatypes import words
from xapi.errors import (
    XenAPIError,
    not_allowed,
    other_operation,
    sr_has_no_pbds,
    sr_not_supported,
    vdi_in_use,
)
from xapi.policy_sr import features

#: What VDI.allowed_operations may show; old clients do not know the younger operations.
OFFERED = words("clone copy resize resize_online snapshot destroy forget update generate_config")
#: What a pool that is being upgraded host by host still does: what its oldest host knows.
DURING_UPGRADE = frozenset({*OFFERED, "mirror", "force_unlock", "blocked"})
#: Fine whatever VBD is attached; copy is fine beside read-only ones; all others need none.
_WHILE_ATTACHED = frozenset(
    words(
        "snapshot resize_online blocked clone revert_to mirror enable_cbt disable_cbt data_destroy"
    )
)
FEATURE = {
    "snapshot": "VDI_SNAPSHOT",
    "clone": "VDI_CLONE",
    "resize": "VDI_RESIZE",
    "resize_online": "VDI_RESIZE_ONLINE",
    "destroy": "VDI_DELETE",
    "revert_to": "VDI_CLONE",
    "revert_from": "VDI_CLONE",
    "update": "VDI_UPDATE",
    "generate_config": "VDI_GENERATE_CONFIG",
    "mirror": "VDI_MIRROR",
    "enable_cbt": "VDI_CONFIG_CBT",
    "disable_cbt": "VDI_CONFIG_CBT",
    "data_destroy": "VDI_CONFIG_CBT",
    "list_changed_blocks": "VDI_CONFIG_CBT",
    "set_on_boot": "VDI_RESET_ON_BOOT",
}
_NOT_ON_CBT_METADATA = frozenset(
    words(
        "clone copy disable_cbt enable_cbt mirror resize resize_online snapshot revert_to "
        "revert_from set_on_boot"
    )
)
_NOT_WITH_CBT = frozenset({"mirror", "set_on_boot"})
_HA_TYPES = ("ha_statefile", "redo_log")
_HA_CHANGING = {"ha_enable": "HA_ENABLE_IN_PROGRESS", "ha_disable": "HA_DISABLE_IN_PROGRESS"}


def check(db: Database, vdi: str, operation: str, leaving_out: Collection[str] = ()) -> None:
    """Raise the XenAPIError that forbids the operation, if there is one.

    The VBDs in `leaving_out` may be attached: the caller itself is going to detach them.
    """
    sr: str = db.get("VDI", vdi, "SR")
    if operation not in DURING_UPGRADE and upgrading(db):
        raise XenAPIError("NOT_SUPPORTED_DURING_UPGRADE")
    _check_other_operations(db, vdi)
    if operation in ("resize", "resize_online") and not db.find(
        "PBD", SR=sr, currently_attached=True
    ):
        raise sr_has_no_pbds(sr)
    _check_vbds(db, vdi, operation, leaving_out)
    if operation in FEATURE and FEATURE[operation] not in features(db, sr):
        raise sr_not_supported(sr)
    if operation in _NOT_ON_CBT_METADATA and db.get("VDI", vdi, "type") == "cbt_metadata":
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (vdi, "cbt_metadata"))
    if operation in _NOT_WITH_CBT and db.get("VDI", vdi, "cbt_enabled"):
        raise XenAPIError("VDI_CBT_ENABLED", (vdi,))
    _check_operation(db, vdi, sr, operation)


def upgrading(db: Database) -> bool:
    """Whether the pool's hosts are being upgraded one after the other."""
    return any(
        "rolling_upgrade_in_progress" in db.get("pool", pool, "other_config")
        for pool in db.refs("pool")
    )


def _check_other_operations(db: Database, vdi: str) -> None:
    current: Mapping[str, str] = db.get("VDI", vdi, "current_operations")
    for task, running in current.items():
        if running != "copy":
            raise other_operation("VDI", vdi, running, task)


def _check_vbds(db: Database, vdi: str, operation: str, leaving_out: Collection[str]) -> None:
    vbds: tuple[str, ...] = db.get("VDI", vdi, "VBDs")
    for vbd in vbds:
        if vbd in leaving_out:
            continue
        active = db.get("VBD", vbd, "currently_attached") or db.get("VBD", vbd, "reserved")
        tolerated = operation in _WHILE_ATTACHED or (
            operation == "copy" and db.get("VBD", vbd, "mode") == "RO"
        )
        if active and not tolerated:
            raise vdi_in_use(vdi, operation)
    for vbd in vbds:
        current: Mapping[str, str] = db.get("VBD", vbd, "current_operations")
        for task, running in current.items():
            raise other_operation("VDI", vdi, running, task)


def _check_operation(db: Database, vdi: str, sr: str, operation: str) -> None:
    if operation == "snapshot":
        _check_snapshot(db, vdi)
    elif operation == "copy":
        _check_copy(db, vdi)
    elif operation == "revert_to" and not db.get("VDI", vdi, "is_a_snapshot"):
        raise XenAPIError("REVERT_ONLY_ALLOWED_ON_SNAPSHOT")
    elif operation in ("destroy", "revert_from"):
        _check_loss(db, vdi, sr)
    elif operation == "forget":
        _check_rrd(db, vdi)
        check_ha(db, vdi)
    elif operation in ("resize", "resize_online"):
        check_ha(db, vdi)
    elif operation in ("enable_cbt", "disable_cbt"):
        _check_cbt(db, vdi)
    elif operation == "data_destroy":
        _check_data_destroy(db, vdi, sr)


def _check_snapshot(db: Database, vdi: str) -> None:
    if db.get("VDI", vdi, "sharable"):
        raise XenAPIError("VDI_IS_SHARABLE", (vdi,))
    _check_on_boot(db, vdi)
    if "copy" in db.get("VDI", vdi, "current_operations").values():
        raise not_allowed("The VDI is being copied: it can be snapshotted when that has ended.")


def _check_copy(db: Database, vdi: str) -> None:
    _check_on_boot(db, vdi)
    if db.get("VDI", vdi, "type") in _HA_TYPES:
        raise not_allowed("HA statefiles and redo logs cannot be copied.")


def _check_cbt(db: Database, vdi: str) -> None:
    if db.get("VDI", vdi, "is_a_snapshot"):
        raise not_allowed("The changes of a snapshot are not tracked: it has none.")
    type_: str = db.get("VDI", vdi, "type")
    if type_ not in ("user", "system"):
        raise XenAPIError("VDI_INCOMPATIBLE_TYPE", (vdi, type_))
    _check_on_boot(db, vdi)


def _check_data_destroy(db: Database, vdi: str, sr: str) -> None:
    if not db.get("VDI", vdi, "is_a_snapshot"):
        raise not_allowed("Only the data of a snapshot can be destroyed by itself.")
    if not db.get("VDI", vdi, "cbt_enabled"):
        raise XenAPIError("VDI_NO_CBT_METADATA", (vdi,))
    _check_loss(db, vdi, sr)


def _check_on_boot(db: Database, vdi: str) -> None:
    if db.get("VDI", vdi, "on_boot") == "reset":
        raise XenAPIError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")


def _check_loss(db: Database, vdi: str, sr: str) -> None:
    """Whether the VDI's content may be lost."""
    if db.get("SR", sr, "type") == "udev":
        raise XenAPIError("VDI_IS_A_PHYSICAL_DEVICE", (vdi,))
    if db.get("SR", sr, "is_tools_sr"):
        raise sr_not_supported(sr)
    _check_rrd(db, vdi)
    check_ha(db, vdi)


def _check_rrd(db: Database, vdi: str) -> None:
    if db.get("VDI", vdi, "type") == "rrd":
        raise XenAPIError("VDI_HAS_RRDS", (vdi,))


def check_ha(db: Database, vdi: str) -> None:
    """Whether high availability needs the VDI as it is."""
    if db.get("VDI", vdi, "type") not in _HA_TYPES:
        return
    for pool in db.refs("pool"):
        if db.get("pool", pool, "ha_enabled"):
            raise XenAPIError("HA_IS_ENABLED")
        running: Mapping[str, str] = db.get("pool", pool, "current_operations")
        for operation, code in _HA_CHANGING.items():
            if operation in running.values():
                raise XenAPIError(code)
