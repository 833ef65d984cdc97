"""vdi_snapshot and vdi_clone on copy-on-write chains.

    Exception
    ├── Unimplemented 38             a raw disk
    ├── VDISnapshot 82 · VDIClone 81 a base copy, or the medium failed
    └── SnapshotChainTooLong 109     readers would not follow one image more

A disk that holds data is split: its data becomes a hidden base copy, and the disk and its
snapshot start empty above it. A disk without data of its own needs no base: the snapshot is one
more empty leaf beside it. So snapshots of an untouched disk do not lengthen its chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srs import records
from srs.datapath import tap
from srs.errors import SnapshotChainTooLong, SRError, Unimplemented, VDIClone, VDISnapshot
from srs.journal import Entry
from srs.records import BASE_COPY, Description
from srs.session import Record
from srs.vdi import MAX_CHAIN, Disk, Location, new_uuid

if TYPE_CHECKING:
    from srs.cow import CowSR


@dataclass(frozen=True, slots=True)
class Plan:
    """How to split a disk.

    Attributes:
        twin: uuid of the second leaf, empty for none.
        leaf_full: reserve all of the disk's own room at once, as for one that is written to.
        twin_full: the same for the twin.
    """

    twin: str = ""
    leaf_full: bool = False
    twin_full: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """A disk that was split; the entry is still in the journal."""

    entry: Entry
    leaf: Disk
    base: Disk
    twin: Disk | None


def branch(
    sr: CowSR, uuid: str, ref: str, driver_params: dict[str, str], *, clone: bool
) -> Location:
    """Make a snapshot or a clone of a disk; answers the new disk.

    Args:
        sr: where the disk is.
        uuid: the disk.
        ref: its reference.
        driver_params: `type` = `single` or `internal`: only the base copy is split off, for
            garbage collectors; then the answer is the base copy.
        clone: the new disk is an ordinary one.
    """
    sr.require_master()
    disk = sr.usable(uuid)
    refuse_unless_leaf(disk, VDIClone if clone else VDISnapshot)
    kind = driver_params.get("type", "double")
    twin = new_uuid() if kind == "double" else ""
    with sr.paused(uuid, ref) as record:
        if not sr.has_data(disk):
            leaf = sr.add_leaf(twin, disk) if twin else disk
            tracked = bool(twin) and not clone and sr.tracking.snapshotted(disk, ref, record, twin)
            _introduce(sr, leaf, disk, ref, record, clone=clone, tracked=tracked)
            return leaf.location
        require_depth(sr, disk)
        split = split_off_base(sr, disk, ref, record, twin=twin, clone=clone)
        tracked = bool(twin) and not clone and sr.tracking.snapshotted(disk, ref, record, twin)
    if split.twin is not None:
        _introduce(sr, split.twin, disk, ref, record, clone=clone, tracked=tracked)
    sr.drop(split.entry)
    return (split.twin or split.base).location


def split_off_base(
    sr: CowSR, disk: Disk, ref: str, record: Record, *, twin: str = "", clone: bool = False
) -> Branch:
    """Put a disk's data into a hidden base copy, and tell the database about base and disk.

    The journal entry is for the caller to drop.
    """
    split = sr.insert_base(disk, new_uuid(), plan(sr, record, twin=twin, clone=clone))
    records.introduce(sr.session, sr.ref, split.base, BASE_COPY)
    sr.remember(split.base.uuid, BASE_COPY, split.base)
    records.refresh(sr.session, ref, record, split.leaf)
    return split


def plan(sr: CowSR, record: Record, *, twin: str = "", clone: bool = False) -> Plan:
    """How much room the leaves need: a snapshot stays small, what is written to does not."""
    attached = bool(tap.hosts(record))
    ordinary = sr.thick and not record["is_a_snapshot"]
    return Plan(twin, leaf_full=attached or ordinary, twin_full=sr.thick and clone)


def refuse_unless_leaf(disk: Disk, hidden: type[SRError]) -> None:
    """Refuse disks that cannot be split.

    Raises:
        Unimplemented: raw. Nothing has been changed, so the toolstack may fall back.
        SRError: of the given class, for a base copy.
    """
    if disk.raw:
        raise Unimplemented("a raw disk has no copy-on-write chain")
    if disk.hidden:
        raise hidden("hidden VDI")


def require_depth(sr: CowSR, disk: Disk) -> None:
    """Refuse one image more than readers follow.

    Raises:
        SnapshotChainTooLong: see there.
    """
    depth = sr.depth(disk)
    if depth >= MAX_CHAIN:
        raise SnapshotChainTooLong(f"{disk.uuid} stands on {depth - 1} images")


def _introduce(
    sr: CowSR, leaf: Disk, of: Disk, ref: str, record: Record, *, clone: bool, tracked: bool
) -> None:
    if leaf.uuid == of.uuid:
        return
    sm_config = record["sm_config"]
    kept = {key: sm_config[key] for key in ("key_hash",) if key in sm_config}
    about = Description(
        label=record["name_label"],
        description=record["name_description"],
        type=record["type"],
        is_a_snapshot=not clone,
        snapshot_of="" if clone else ref,
        cbt_enabled=tracked,
        sm_config=kept,
    )
    # The toolstack marks snapshots itself once it has the new disk. But should the host lose
    # power before that, medium and database must say the same.
    sr.remember(leaf.uuid, replace(about, snapshot_of="" if clone else of.uuid), leaf)
    records.introduce(sr.session, sr.ref, leaf, about)
    records.adjust_space(sr.session, sr.ref, sr.space(), leaf.size)
