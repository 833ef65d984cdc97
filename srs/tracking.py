"""Changed block tracking: which 64 KiB pieces of a disk changed between its snapshots.

    Exception
    ├── VDIType 66                     a raw disk, or a snapshot, is not tracked
    └── CBTActivateFailed 457 · CBTDeactivateFailed 458

A tracked disk V has a log of what was written since its last snapshot. A snapshot S takes that
log over, and V begins an empty one:

    ... <-> log of S' <-> log of S <-> log of V          parent <-> child, oldest first

Each log has one parent and one child, so a line is all that logs can express. What changed from
S' to V is what the logs behind S' say together, those of S and of V: see srs.changes.

A wrong answer would make a backup worthless and nobody would notice; no answer makes it a full
copy. So whatever happens in between, a crash leaves a log that says too much, a log that is
marked as inconsistent, or none. All of it runs under the SR's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from srs.cbterrors import CBTActivateFailed, CBTDeactivateFailed, CBTMetadataInconsistent
from srs.datapath import tap
from srs.errors import SRError, VDIType
from srs.lvm import LVMError
from srs.records import CBT_METADATA, Description
from srs.session import Failure, Record
from srs.vdi import Disk
from srs.vhd import BadLog, VHDError, cbt

if TYPE_CHECKING:
    from srs.cow import CowSR

_NOBODY: Final = UUID(int=0)
_MESSAGE_PRIORITY: Final = 3
_TROUBLE: Final = (VHDError, LVMError, OSError, SRError)
"""What may go wrong with a log. The disk must not suffer: tracking is switched off instead."""


class Tracking:
    """Changed block tracking on one SR, during one call."""

    def __init__(self, sr: CowSR) -> None:
        self._sr = sr
        self._session = sr.session
        self._logs = sr.logs

    def is_on(self, uuid: str) -> bool:
        """Whether a disk is tracked."""
        return self._logs.exists(uuid)

    # -- switching

    def switch(self, disk: Disk, ref: str, *, on: bool) -> None:
        """vdi_enable_cbt, vdi_disable_cbt; nothing to do where it is so already.

        Raises:
            VDIType: a raw disk, or a snapshot.
            CBTActivateFailed, CBTDeactivateFailed: the log cannot be made or removed.
        """
        if disk.raw or self._session.vdi_record(ref)["is_a_snapshot"]:
            raise VDIType(f"{disk.uuid} is a snapshot or raw")
        if self.is_on(disk.uuid) == on:
            return
        with self._sr.paused(disk.uuid, ref) as record:
            try:
                if on:
                    self._begin(disk, written=is_written(record))
                else:
                    self._end(disk.uuid)
            except _TROUBLE as error:
                raise (CBTActivateFailed if on else CBTDeactivateFailed)(error) from error

    def _begin(self, disk: Disk, *, written: bool, parent: UUID = _NOBODY) -> None:
        """Give a disk an empty log; inconsistent until it says all that it has to."""
        self._logs.create(disk.uuid, disk.size)
        path = self._logs.open(disk.uuid, keep=written)
        cbt.set_fields(path, parent=parent, consistent=int(not written))

    def _end(self, uuid: str) -> None:
        """Remove a disk's log. That others still point to it does no harm: it points nowhere."""
        self._logs.remove(uuid)

    def _disown(self, uuid: str) -> None:
        """Remove a log that is not to be believed.

        Where that fails (only the SR's master removes volumes) it becomes one that nobody can
        read: marked as inconsistent, it would be consistent again when its disk is closed.
        """
        try:
            self._end(uuid)
        except _TROUBLE:
            cbt.spoil(self._logs.open(uuid))

    def _give_up(self, uuid: str, ref: str, message: str) -> None:
        """Switch tracking of a disk off, because its log cannot be believed, and say so.

        Where the medium refuses even that, the log stays as it is: inconsistent, unreadable, or
        in no line with another.
        """
        with suppress(*_TROUBLE):
            self._disown(uuid)
        with suppress(Failure):
            self._session.call("VDI.set_cbt_enabled", ref, False)
            body = f"Changed block tracking of {uuid} was switched off; copy the whole disk."
            self._session.call("message.create", message, _MESSAGE_PRIORITY, "VDI", uuid, body)

    # -- the data path

    def opened(self, disk: Disk, ref: str) -> str:
        """A disk is about to be written to: returns where the data path finds its log, if any.

        What is written to a snapshot is in no newer log, so nothing leads on from there.
        """
        uuid = disk.uuid
        if self.is_on(uuid):
            path = self._logs.open(uuid, keep=True)
            if self._is_sound(path, disk.size):
                cbt.set_fields(path, consistent=0, child=_NOBODY)
            else:
                self._give_up(uuid, ref, "VDI_CBT_METADATA_INCONSISTENT")
                if self.is_on(uuid):
                    return ""
        return self._logs.place(uuid)

    @staticmethod
    def _is_sound(path: str, size: int) -> bool:
        try:
            log = cbt.get(path)
        except BadLog:
            return False
        return bool(log.consistent) and log.size >= size

    def closed(self, uuid: str) -> None:
        """The data path has closed a log that it was told of by `opened`."""
        if self.is_on(uuid):
            with suppress(*_TROUBLE):  # it stays marked as inconsistent
                cbt.set_fields(self._logs.open(uuid), consistent=1)
            self._logs.close(uuid)

    # -- snapshots

    def snapshotted(self, disk: Disk, ref: str, record: Record, snapshot: str) -> bool:
        """A disk, which is paused, has a new snapshot; says whether that is tracked."""
        if not self.is_on(disk.uuid) or record["is_a_snapshot"]:
            return False
        try:
            self._hand_over(disk, snapshot, written=is_written(record))
        except _TROUBLE:
            self._give_up(disk.uuid, ref, "VDI_CBT_SNAPSHOT_FAILED")
            with suppress(*_TROUBLE):
                self._disown(snapshot)
            return False
        return True

    def _hand_over(self, disk: Disk, snapshot: str, *, written: bool) -> None:
        """The disk's log becomes the snapshot's, and an empty one continues it."""
        old = cbt.get(self._logs.open(disk.uuid))
        if not old.consistent and not written:
            raise CBTMetadataInconsistent(disk.uuid)
        self._logs.rename(disk.uuid, snapshot)
        path, taker = self._logs.open(snapshot), UUID(snapshot)
        if self._follows(old.parent, disk.uuid):
            cbt.set_fields(self._logs.open(str(old.parent)), child=taker)
        self._begin(disk, written=written, parent=taker)
        cbt.set_fields(path, child=UUID(disk.uuid), consistent=1)

    def _follows(self, parent: UUID, child: str) -> bool:
        """Whether a log says that `child` continues it."""
        return self.is_on(str(parent)) and self._get(str(parent)).child == UUID(child)

    def _get(self, uuid: str) -> cbt.CBTLog:
        return cbt.get(self._logs.open(uuid))

    # -- other changes of a disk

    def deleted(self, uuid: str) -> None:
        """A disk, or a snapshot's data before, is gone: what its log knew goes to the newer one."""
        if not self.is_on(uuid):
            return
        with suppress(*_TROUBLE, Failure):
            self._bridge(uuid)
        self._end(uuid)

    def _bridge(self, uuid: str) -> None:
        """Join the two logs beside one that goes; each step leaves no line that is too short."""
        log = self._get(uuid)
        child = str(log.child)
        if not log.consistent or not self.is_on(child) or self._get(child).parent != UUID(uuid):
            return
        parent = log.parent if self._follows(log.parent, uuid) else _NOBODY
        ref = self._session.vdi_ref(child)
        with self._sr.paused(child, ref):
            path = self._logs.open(child)
            cbt.coalesce(self._logs.open(uuid), path)
            cbt.set_fields(path, parent=parent)
        if parent != _NOBODY:
            cbt.set_fields(self._logs.open(str(parent)), child=log.child)

    def resized(self, uuid: str, ref: str, size: int) -> None:
        """A disk is about to grow to `size` bytes; its log grows first."""
        if self.is_on(uuid):
            try:
                cbt.resize(self._logs.open(uuid), size)
            except _TROUBLE:
                self._give_up(uuid, ref, "VDI_CBT_RESIZE_FAILED")

    def reverted(self, source: str, target: Disk, ref: str) -> None:
        """The disk `target` reads as its snapshot `source` now, and is tracked if that is."""
        was, on = self.is_on(target.uuid), self.is_on(source)
        if not was and not on:
            return
        # The old log tells of a content that is gone. As long as it does, the revert is not done.
        self._disown(target.uuid)
        try:
            if on:
                self._continue(source, target)
            self._session.call("VDI.set_cbt_enabled", ref, on)
        except (*_TROUBLE, Failure):
            self._give_up(target.uuid, ref, "VDI_CBT_SNAPSHOT_FAILED")

    def _continue(self, source: str, target: Disk) -> None:
        """Begin a log of `target`, which continues that of `source` unless another one does.

        A log has one child. Where that is a newer snapshot, its line is kept: it was true.
        """
        child = str(self._get(source).child)
        taken = self.is_on(child) and self._get(child).parent == UUID(source)
        self._begin(target, written=False, parent=_NOBODY if taken else UUID(source))
        if not taken:
            cbt.set_fields(self._logs.open(source), child=UUID(target.uuid))

    # -- the database

    def remains(self, images: set[str]) -> list[Disk]:
        """Disks of which only the log is left, among those that are not `images`."""
        found = []
        for uuid in self._logs.uuids():
            if uuid not in images:
                with suppress(BadLog):
                    size = self._get(uuid).size
                    found.append(Disk(uuid, size, cbt.log_length(size)))
        return found

    def describe(
        self, about: Mapping[str, Description], images: set[str]
    ) -> dict[str, Description]:
        """What fresh records of disks say (uuid -> names), and which of them are tracked."""
        described = dict(about)
        for uuid in self._logs.uuids():
            names = about.get(uuid, Description()) if uuid in images else CBT_METADATA
            described[uuid] = replace(names, cbt_enabled=True)
        return described

    def tell(self, known: Mapping[str, Record], there: set[str]) -> None:
        """Make `cbt_enabled` of the records of disks that are `there` agree with the logs."""
        on = set(self._logs.uuids())
        for ref, record in known.items():
            uuid = record["uuid"]
            if uuid in there and bool(record.get("cbt_enabled")) != (uuid in on):
                self._session.call("VDI.set_cbt_enabled", ref, uuid in on)


def is_written(record: Record) -> bool:
    """Whether some host has the disk active for writing."""
    return "RW" in tap.hosts(record).values()
