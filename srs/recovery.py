"""What a call that died left behind: its journal entry says what it was doing.

    Exception
    └── FistPoint (203, srs.errors)     a test asked for a crash in here, too

Recovery runs on the SR's master alone, under the SR's lock: when the SR is attached, and before
every call that works with its disks. For each entry it ends the operation on the medium (before
its commit point: as if it had never begun; after it: as if it had not been interrupted), then
makes the database agree, then drops the entry. Each of these steps may be done again, so a
crash in the middle of them does no harm.

An entry that cannot be ended stays, and its disks are refused; all others can be used.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from srs import records
from srs.datapath import tap
from srs.errors import FistPoint, SRError, SRScan, VDIUnavailable
from srs.gc.medium import LEAF
from srs.journal import REVERT, SPLIT, ZERO, Entry
from srs.lvm import LVMError
from srs.records import BASE_COPY, Description
from srs.session import Failure
from srs.vdi import Disk, uuid_in
from srs.vhd import VHDError

if TYPE_CHECKING:
    from srs.cow import CowSR

#: What a host that is not the master answers (the text is the field's).
CRITICAL: Final = "Critical journals are pending. A scan is required."

_TROUBLE: Final = (VHDError, LVMError, OSError, SRError, Failure)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An entry that cannot be ended, and why."""

    entry: Entry
    error: Exception


def mend(sr: CowSR) -> dict[str, Unsettled]:
    """End what crashes interrupted; returns the disks for which it failed."""
    unsettled: dict[str, Unsettled] = {}
    ended = False
    entries = sr.pending()
    for number, entry in enumerate(entries, 1):
        later = [uuid for other in entries[number:] for uuid in _blocked_by(sr, other)]
        try:
            _end(sr, entry, {*later, *unsettled})
            ended = True
        except FistPoint:
            raise
        except _TROUBLE as error:
            unsettled |= dict.fromkeys(_blocked_by(sr, entry), Unsettled(entry, error))
    if ended:
        _account(sr)
    return unsettled


def undo(sr: CowSR, kind: str, uuid: str) -> None:
    """After a failure: as mend, but what is behind its commit point is left to that."""
    for entry in sr.pending():
        if (entry.kind, entry.id) == (kind, uuid) and not sr.settle(entry):
            sr.drop(entry)


def is_final(sr: CowSR, uuid: str) -> bool:
    """After a failure: whether no entry will change the disk's images, once it was ended here."""
    try:
        for entry in sr.pending():
            if uuid in _blocked_by(sr, entry):
                sr.settle(entry)
    except FistPoint:
        raise
    except _TROUBLE:
        return False
    return True


def disks_of(entry: Entry) -> list[str]:
    """The disks that an entry is about, the one that it is called after first."""
    words = entry.value.split("_") if entry.kind in (SPLIT, REVERT, LEAF) else []
    others = words[:2] if entry.kind == SPLIT else words[:1]
    return [entry.id, *(word for word in others if uuid_in(word) == word and word)]


def _blocked_by(sr: CowSR, entry: Entry) -> list[str]:
    """The disks that nobody may use before an entry was ended."""
    if entry.kind != ZERO:
        return disks_of(entry)
    # What reads a base copy that was about to grow would read rubbish at its end.
    return [entry.id, *sr.readers(entry.id)]


def _end(sr: CowSR, entry: Entry, blocked: Container[str]) -> None:
    """End an entry; disks that another one blocks stay paused."""
    done = sr.settle(entry)
    disks = disks_of(entry)
    if sr.exists(entry.id):
        for uuid in disks:
            _tell(sr, uuid, entry, resume=uuid not in blocked)
        if entry.kind == REVERT and entry.value and done:
            sr.tracking.reverted(disks[-1], sr.disk(entry.id), sr.session.vdi_ref(entry.id))
    sr.drop(entry)


def _tell(sr: CowSR, uuid: str, entry: Entry, *, resume: bool) -> None:
    """Make the database agree about one disk of an entry."""
    session = sr.session
    ref = records.find(session, uuid)
    if not sr.exists(uuid):
        if ref and not sr.tracking.is_on(uuid):
            sr.forget(uuid)
            records.forget(session, ref)
        return
    disk = sr.disk(uuid)
    if not ref:
        about = BASE_COPY if disk.hidden else _named_after(sr, entry.id, disk)
        sr.remember(uuid, about, disk)
        records.introduce(session, sr.ref, disk, about)
        return
    record = session.vdi_record(ref)
    if entry.kind == SPLIT and not (uuid == entry.id or disk.hidden or record["is_a_snapshot"]):
        # The toolstack has not marked it as a snapshot, nor will it: for it the call has failed.
        sr.remember(uuid, _named_after(sr, uuid, disk), disk)
    records.refresh(session, ref, record, disk)
    records.forget_blocks(session, ref, record)
    sr.tracking.tell({ref: record}, {uuid})
    if resume:
        tap.resume(session, sr.uuid, {ref: record})
    tap.forget_claims(session, sr.uuid, {ref: record})


def _named_after(sr: CowSR, origin: str, disk: Disk) -> Description:
    """How a snapshot or clone is called that nobody had named when the call died."""
    record = sr.session.vdi_record(sr.session.vdi_ref(origin))
    return Description(
        label=record["name_label"],
        description=record["name_description"],
        type=record["type"],
        cbt_enabled=sr.tracking.is_on(disk.uuid),
    )


def _account(sr: CowSR) -> None:
    try:
        allocated = sum(disk.size for disk in sr.disks() if not disk.hidden)
    except (SRScan, VDIUnavailable):
        return  # an image is lost: whoever scans is told
    records.write_space(sr.session, sr.ref, sr.space(), allocated)
