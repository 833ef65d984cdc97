"""A VM that was destroyed, made again from one of its snapshots, for VM.revert.

While its disks are worked on there is no more of it than a reference. Its record is written in
the transaction that gives it the disks: neither a failure nor a crash leaves half a VM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xapi import vm_copy, vm_metadata
from xapi.database import Database
from xapi.datatypes import NULL
from xapi.errors import other_operation
from xapi.policy import Mark


def marks(db: Database, snapshot: str) -> Iterator[Mark]:
    """What a revert marks first: the snapshot, while no other one brings the same VM back.

    Raises:
        XenAPIError: OTHER_OPERATION_IN_PROGRESS.
    """
    vm: str = db.get("VM", snapshot, "snapshot_of")
    siblings = () if vm == NULL or db.exists("VM", vm) else db.find("VM", snapshot_of=vm)
    for sibling in siblings:
        running: Mapping[str, str] = db.get("VM", sibling, "current_operations")
        for task, operation in running.items():
            if operation == "revert":
                raise other_operation("VM", sibling, operation, task)
    yield Mark("VM", snapshot, "revert")


def reference(db: Database, snapshot: str) -> str:
    """The VM that the snapshot was taken of; where it is gone, the one that will be made."""
    with db.lock:
        vm: str = db.get("VM", snapshot, "snapshot_of")
        return vm if db.exists("VM", vm) else db.new_ref()


def rebuild(db: Database, snapshot: str, vm: str) -> None:
    """Make `vm`, halted and without devices, with the uuid that the lost one had.

    Within the caller's transaction.

    Raises:
        XenAPIError: INVALID_VALUE, the snapshot's metadata cannot be read.
    """
    name: str = db.get("VM", snapshot, "name_label")
    uuid = vm_metadata.uuid(db, snapshot)
    vm_copy.copy_vm(db, snapshot, name, vm, is_a_template=False, uuid=uuid)
