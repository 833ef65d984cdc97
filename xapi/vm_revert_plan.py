"""What a VM.revert is going to do, and who has to agree before it does anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xapi import vm_disks, vm_metadata
from xapi.database import Database
from xapi.datatypes import NULL, Value
from xapi.policy import Mark
from xapi.policy_sr import features


@dataclass(frozen=True, slots=True)
class Source:
    """One disk to revert: the snapshot's VDI and the disk that it is of.

    `live` is NULL or dangling where that disk is gone. `native`: it is there, and its driver
    says that it can revert it.
    """

    snapshot: str
    live: str
    native: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """`sources` name each disk once, however many VBDs have it.

    `vm` may have been destroyed: then it is the reference of the one that will be made.
    `image` is the suspend VDI of a checkpoint; `own` are the VBDs that the VM has now;
    `fields` are what its record will say.
    """

    snapshot: str
    vm: str
    sources: tuple[Source, ...]
    image: str
    own: frozenset[str]
    fields: Mapping[str, Value]


def make(db: Database, snapshot: str, vm: str) -> Plan:
    """What it takes to revert the VM to the snapshot.

    Raises:
        XenAPIError: INVALID_VALUE, the snapshot's metadata cannot be read.
    """
    with db.lock:
        sources: dict[str, Source] = {}
        for vbd in vm_disks.vbds(db, snapshot, disks=True):
            disk: str = db.get("VBD", vbd, "VDI")
            live: str = db.get("VDI", disk, "snapshot_of")
            source = Source(disk, live, _is_native(db, disk, live))
            # Two VBDs of one disk have two snapshots of it: the first one stands for both.
            sources.setdefault(disk if live == NULL else live, source)
        return Plan(
            snapshot,
            vm,
            tuple(sources.values()),
            image=db.get("VM", snapshot, "suspend_VDI"),
            own=frozenset(db.find("VBD", VM=vm)),
            fields=vm_metadata.restored(db, snapshot),
        )


def marks(db: Database, snapshot: str, vm: str) -> Iterator[Mark]:
    """The VM, and every SR, snapshot and disk that is going to be used.

    The VM's own VBDs may be attached: it will be halted.
    """
    plan = make(db, snapshot, vm)
    images = [plan.image]
    if db.exists("VM", vm):
        yield Mark("VM", vm, "reverting")
        images.append(db.get("VM", vm, "suspend_VDI"))
    operations: dict[str, str] = {}
    for source in plan.sources:
        sr: str = db.get("VDI", source.snapshot, "SR")
        if source.native:
            operations[sr] = "vdi_revert"
        operations.setdefault(sr, "vdi_clone")
    for image in images:
        if db.exists("VDI", image):
            operations.setdefault(db.get("VDI", image, "SR"), "vdi_clone")
    for sr, operation in operations.items():
        yield Mark("SR", sr, operation)
    for source in plan.sources:
        yield Mark("VDI", source.snapshot, "revert_to")
        if db.exists("VDI", source.live):
            yield Mark("VDI", source.live, "revert_from", plan.own)


def _is_native(db: Database, disk: str, live: str) -> bool:
    sr: str = db.get("VDI", disk, "SR")
    there = db.exists("VDI", live) and db.get("VDI", live, "SR") == sr
    return there and "VDI_REVERT" in features(db, sr)
