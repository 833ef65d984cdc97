"""VM.snapshot_metadata: a VM's row as it was, and what of it a revert brings back."""

from __future__ import annotations

import logging
from typing import Final

from xapi import sexpr
from xapi.database import Database
from xapi.datamodel_vm import VM
from xapi.datatypes import Value, words
from xapi.errors import XenAPIError

UNSPECIFIED: Final = "unspecified"
_log = logging.getLogger(__name__)

#: What a revert leaves as it is: identity, state, relations, and what users sort VMs by.
_KEPT: Final = frozenset(
    words(
        "uuid suspend_VDI power_state parent current_operations metrics guest_metrics "
        "resident_on domid protection_policy snapshot_schedule scheduled_to_be_resident_on tags "
        "affinity groups VGPUs VUSBs VTPMs attached_PCIs is_snapshot_from_vmpp snapshot_metadata"
    )
)
#: Snapshots of old have no metadata: of their own row these fields tell of the snapshot itself.
_OF_THE_SNAPSHOT: Final = frozenset(
    words(
        "name_label is_a_snapshot is_a_template is_default_template snapshot_of snapshot_time "
        "snapshot_info transportable_snapshot_id"
    )
)
_COLUMNS: Final = {field.column: field for field in VM.fields if field.stored}


def dump(db: Database, vm: str) -> str:
    """The VM's row as an S-expression."""
    with db.lock:
        return sexpr.dump(
            [
                [column, sexpr.to_text(db.get("VM", vm, field.name))]
                for column, field in _COLUMNS.items()
            ]
        )


def restored(db: Database, snapshot: str) -> dict[str, Value]:
    """The fields that a revert to the snapshot writes into the VM.

    Raises:
        XenAPIError: INVALID_VALUE, the metadata cannot be read.
    """
    metadata: str = db.get("VM", snapshot, "snapshot_metadata")
    if metadata:
        fields = _parsed(metadata)
    else:
        fields = {
            field.name: db.get("VM", snapshot, field.name)
            for field in _COLUMNS.values()
            if field.name not in _OF_THE_SNAPSHOT
        }
    kept = {name: value for name, value in fields.items() if name not in _KEPT}
    return {**kept, "ha_always_run": False}


def uuid(db: Database, snapshot: str) -> str:
    """The uuid that the VM had, or "" where the metadata does not tell.

    Raises:
        XenAPIError: INVALID_VALUE, the metadata cannot be read.
    """
    metadata: str = db.get("VM", snapshot, "snapshot_metadata")
    return str(_parsed(metadata).get("uuid", "")) if metadata else ""


def _parsed(metadata: str) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    try:
        for column, text in sexpr.pairs(metadata):
            if column not in _COLUMNS:
                _log.warning("snapshot_metadata: the column %s is not known here", column)
                continue
            field = _COLUMNS[column]
            fields[field.name] = sexpr.from_text(field.type, text, column)
    except ValueError as error:
        raise XenAPIError("INVALID_VALUE", ("snapshot_metadata", str(error))) from error
    if fields.get("domain_type", UNSPECIFIED) == UNSPECIFIED:
        if "HVM_boot_policy" not in fields:
            raise XenAPIError("INVALID_VALUE", ("snapshot_metadata:HVM__boot_policy", "null"))
        fields["domain_type"] = domain_type(fields["HVM_boot_policy"])
    return fields


def domain_type(boot_policy: Value) -> str:
    """The kind of a VM that does not say which: with a boot policy there is a BIOS to follow it."""
    return "hvm" if boot_policy else "pv"
