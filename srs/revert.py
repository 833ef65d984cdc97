"""vdi_revert: a disk gets the content of its snapshot and stays the disk it is.

    Exception
    ├── Unimplemented 38             one of both is raw; nothing was changed
    ├── VDIUnavailable 46            one of both is not here, or is a base copy
    ├── VDIInUse 24                  the target is attached
    ├── SnapshotChainTooLong 109     the snapshot would have to be split, and is too deep
    └── SRNoSpace 44                 no room for the new leaf

S is the snapshot, T the target, both visible leaves. What T becomes depends on what S is:

    A  S is empty, above a base     T: an empty leaf above the same base      S untouched
    B  S holds data                 split S: its data becomes a hidden base   then as A
    C  S is empty, without a base   T: an empty disk of S's size              S untouched

So a second revert is always case A or C, and lengthens no chain. T's old image disappears in
one step of the medium, the commit point: before it T has its old content, after it S's. All
refusals come before the first change; the split of B changes what S consists of, never what
it reads as, so a crash after it leaves nothing to undo.

From the first change to the last write to the database T has a journal entry. Until it is
dropped nobody can attach T, so that its log of changed blocks need not be touched before the
commit point: a revert that is undone leaves it as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from srs import fist, records, recovery, snapshot
from srs.datapath import tap
from srs.errors import InvalidArg, VDIInUse, VDIUnavailable
from srs.journal import REVERT, Entry
from srs.session import Failure, Record
from srs.vdi import Disk

if TYPE_CHECKING:
    from srs.cow import CowSR

_REF_PREFIX = "OpaqueRef:"


def revert(sr: CowSR, snapshot_uuid: str, target: str) -> None:
    """Make the disk `target` (uuid or reference) read as the snapshot does."""
    sr.require_master()
    source = sr.usable(snapshot_uuid)
    target_ref, target_uuid = _resolve(sr, target)
    if target_uuid == snapshot_uuid:
        raise InvalidArg("a disk cannot be reverted to itself")
    old = sr.usable(target_uuid)
    for disk in (source, old):
        snapshot.refuse_unless_leaf(disk, VDIUnavailable)
    with sr.paused(target_uuid, target_ref) as record:
        if in_use := tap.users(sr.session, sr.uuid, target_ref, record):
            raise VDIInUse(f"{target_uuid} is attached to {', '.join(in_use)}")
        source_ref = _ref_of(sr, source)
        # Until the new leaf stands: what a user of the snapshot wrote is on the medium then,
        # and nothing is added to it that the new leaf would see.
        with sr.paused(source.uuid, source_ref) as source_record:
            split = _plan(sr, source, source_record, old)
            entry = Entry(REVERT, target_uuid, source.uuid)
            sr.begin_revert(old, source)
            with fist.undone_by(lambda: recovery.undo(sr, REVERT, target_uuid)):
                fist.point(f"{sr.fist_family}_revert_create_insert")
                like = _without_data(sr, source, source_ref, source_record) if split else source
                fist.point(f"{sr.fist_family}_revert_create_src")
                new = sr.replace(old, like)
        fist.point(f"{sr.fist_family}_revert_committed")
        sr.tracking.reverted(source.uuid, new, target_ref)
        records.refresh(sr.session, target_ref, record, new)
        records.forget_blocks(sr.session, target_ref, record)
    records.adjust_space(sr.session, sr.ref, sr.space(), new.size - old.size)
    fist.point(f"{sr.fist_family}_revert_before_remove_journal")
    sr.drop(entry)


def _resolve(sr: CowSR, target: str) -> tuple[str, str]:
    """Reference and uuid of the target; it must be on this SR."""
    try:
        if target.startswith(_REF_PREFIX):
            record = sr.session.vdi_record(target)
            if record["SR"] != sr.ref:
                raise VDIUnavailable(f"{record['uuid']} is on another SR")
            return target, str(record["uuid"])
        return sr.session.vdi_ref(target), target
    except Failure as failure:
        raise VDIUnavailable(f"no VDI {target}: {failure.error}") from failure


def _plan(sr: CowSR, source: Disk, record: Record, target: Disk) -> bool:
    """Whether the snapshot has to be split; refuses what would not go through."""
    split = sr.has_data(source)
    if split:
        snapshot.require_depth(sr, source)
    sr.require_room(target, source, snapshot.plan(sr, record) if split else None)
    return split


def _without_data(sr: CowSR, source: Disk, ref: str, record: Record) -> Disk:
    """The snapshot, with its data moved into a base copy below it."""
    split = snapshot.split_off_base(sr, source, ref, record)
    sr.drop(split.entry)
    return split.leaf


def _ref_of(sr: CowSR, disk: Disk) -> str:
    request = sr.request
    return request.vdi_ref if request.vdi_uuid == disk.uuid else sr.session.vdi_ref(disk.uuid)
