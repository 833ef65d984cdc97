"""A VM that was destroyed, made again from one of its snapshots, for VM.revert."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xapi import vm_copy, vm_metadata
from xapi.message import Call
from xapi.vm import remove_records


@contextmanager
def living(call: Call, snapshot: str) -> Iterator[str]:
    """The VM that the snapshot was taken of.

    Where it is gone, a halted one without devices is made for the time of the block, with its
    old uuid. It stays if the block has made it the one that the snapshot is of.
    """
    db = call.xapi.db
    vm: str = db.get("VM", snapshot, "snapshot_of")
    if db.exists("VM", vm):
        yield vm
        return
    made = _rebuild(call, snapshot)
    try:
        yield made
    finally:
        with db.transaction():
            if db.get("VM", snapshot, "snapshot_of") != made:
                remove_records(call, made)


def _rebuild(call: Call, snapshot: str) -> str:
    db = call.xapi.db
    with db.transaction():
        name: str = db.get("VM", snapshot, "name_label")
        uuid = vm_metadata.uuid(db, snapshot)
        return vm_copy.copy_vm(db, snapshot, name, is_a_template=False, uuid=uuid)
