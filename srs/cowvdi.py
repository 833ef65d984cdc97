"""A disk on a copy-on-write SR: the SMAPIv1 operations, with what `srs.cow.CowSR` can do.

    Exception
    ├── VDIUnavailable 46 · VDIInUse 24 · VDIExists 43 · VDISize 79 · VDIType 66
    ├── VDIDelete 80                     a base copy that other disks read
    └── Unimplemented 38                 a raw disk has no chain

Each operation changes the medium first, and keeps the database in step. One of more than one
step has an entry in the journal until both agree (srs.recovery). All of it runs under the SR's
lock, which `srs.command` takes.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from srs import fist, locks, records, recovery, revert, slave, snapshot
from srs.changes import changed_blocks
from srs.datapath import tap
from srs.datapath.server import Server
from srs.datapath.store import Export
from srs.errors import (
    LookupFailure,
    TapdiskFailed,
    VDIDelete,
    VDIExists,
    VDIInUse,
    VDISize,
    VDIType,
    VDIUnavailable,
)
from srs.journal import RESIZE, Entry
from srs.records import Description
from srs.session import Record
from srs.vdi import VDI, Disk, Location, NewDisk, valid_size

if TYPE_CHECKING:
    from srs.cow import CowSR

#: What a file system says whose device is gone, of what it does not have in memory.
_GONE: Final = (errno.EIO, errno.EROFS)


class CowVDI(VDI):
    """A disk on a CowSR."""

    def __init__(self, sr: CowSR, uuid: str) -> None:
        self.sr = sr
        self.uuid = uuid
        self.session = sr.session

    @property
    def ref(self) -> str:
        """Reference of the disk's record; the request may have it already."""
        request = self.sr.request
        if request.vdi_uuid == self.uuid and request.vdi_ref:
            return request.vdi_ref
        return self.session.vdi_ref(self.uuid)

    def create(self, new: NewDisk) -> Location:
        """vdi_create."""
        self.sr.require_master()
        size = valid_size(new.size)
        if self.sr.exists(self.uuid):
            raise VDIExists(self.uuid)
        disk = self.sr.allocate(self.uuid, new.size if new.raw else size, raw=new.raw)
        about = Description(
            label=new.label,
            description=new.description,
            type=new.type,
            read_only=new.read_only,
            metadata_of_pool=new.metadata_of_pool,
            is_a_snapshot=new.is_a_snapshot,
            snapshot_time=new.snapshot_time,
            snapshot_of=new.snapshot_of,
        )
        try:
            self.sr.remember(self.uuid, about, disk)
            records.introduce(self.session, self.sr.ref, disk, about)
        except Exception:
            self.sr.forget(self.uuid)
            self.sr.destroy(disk)
            raise
        records.adjust_space(self.session, self.sr.ref, self.sr.space(), disk.size)
        return disk.location

    def delete(self) -> None:
        """vdi_delete: the disk first, then its record; a scan mends a crash in between."""
        self.sr.require_master()
        ref = self.ref
        self._refuse_users(ref, self.session.vdi_record(ref))
        # What a resize has lost can still be deleted.
        self.sr.require_settled(self.uuid, but=RESIZE)
        grown = 0
        if self.sr.exists(self.uuid):
            disk = self._doomed(ref)
            if disk.hidden:
                raise VDIDelete("Deleting non-leaf node not permitted")
            self.sr.destroy(disk)
            grown = -disk.size
        self.sr.tracking.deleted(self.uuid)
        self.sr.forget(self.uuid)
        records.forget(self.session, ref)
        locks.remove(self.uuid)
        records.adjust_space(self.session, self.sr.ref, self.sr.space(), grown)

    def _doomed(self, ref: str) -> Disk:
        """The disk; of one whose image cannot be read, what the database says."""
        try:
            return self.sr.disk(self.uuid)
        except VDIUnavailable:
            record = self.session.vdi_record(ref)
            size = int(record["virtual_size"])
            return Disk(self.uuid, size, 0, hidden=not record["managed"])

    def attach(self, writable: bool) -> dict[str, object]:
        """vdi_attach: says where the data will be; activation brings it there."""
        # Other hosts wait for the master, if they have to, when they activate it.
        master = self.sr.request.is_master
        disk = (self.sr.usable if master else self.sr.disk)(self.uuid)
        device = self._is_device(disk)
        server = Server(self.sr.uuid, self.uuid)
        return {
            "params": tap.link_path(self.sr.uuid, self.uuid) if device else "",
            "params_nbd": "" if device else f"nbd:unix:{server.socket_path}:exportname={self.uuid}",
            "o_direct": not device,
            "o_direct_reason": "",
            "xenstore_data": {"vdi-uuid": self.uuid, "storage-type": self.sr.storage_type},
        }

    def detach(self) -> None:
        """vdi_detach: activation did the work, so deactivation undid it.

        What an activation that failed has left is mended, unless the device is gone.
        """
        try:
            self.sr.prepare()
        except Exception as error:
            if not self._is_gone(error):
                raise

    def activate(self, writable: bool) -> None:
        """vdi_activate: claim the disk, open its images, serve them."""
        ref, session, shared = self.ref, self.session, self.sr.shared
        master = self.sr.request.is_master
        if master:
            # Before the claim, which would end the pause of a disk that recovery could not mend.
            self.sr.require_settled(self.uuid)
        tap.claim(session, self.sr.uuid, ref, writable=writable, master=master, shared=shared)
        try:
            with (
                fist.undone_by(lambda: self._unclaim(ref)),
                self.sr.steady(self.uuid, ref, writable=writable) as disk,
                ExitStack() as undo,
            ):
                if not self._is_served(disk):  # activating twice is once
                    undo.enter_context(fist.undone_by(lambda: self._close(ref)))
                    self._open(disk, ref, writable=writable)
                if not master:
                    tap.confirm(session, ref, writable=writable)
                tap.claimed(session, ref, shared=shared)
        except BaseException:
            tap.claimed(session, ref, shared=shared)
            raise

    def _is_served(self, disk: Disk) -> bool:
        """Whether this host has the disk open already."""
        return tap.is_active(self.sr.uuid, self.uuid) and (
            self._is_device(disk) or Server(self.sr.uuid, self.uuid).is_running()
        )

    def _open(self, disk: Disk, ref: str, *, writable: bool) -> None:
        path = self.sr.open_disk(disk, writable=writable)
        log = self.sr.tracking.opened(disk, ref) if writable and not disk.raw else ""
        # The link comes after the log was marked as open: deactivation goes by that.
        tap.link(self.sr.uuid, self.uuid, path)
        if not self._is_device(disk):
            server = Server(self.sr.uuid, self.uuid)
            server.start(Export(self.uuid, path, disk.raw, writable, log))

    def deactivate(self) -> None:
        """vdi_deactivate: the opposite, as far as there is something to undo.

        When the device is gone, everything that is here is closed all the same. A journal, a
        log that is marked as open, and room that could be given back wait for it to come back.

        Raises:
            TapdiskFailed: not all that was written is durable; told once, a second call ends.
        """
        ref = self.ref
        try:
            self.sr.prepare()
            fist.point("vdi_deactivate_prepared")
            self._deactivate(ref)
        except Exception as error:
            if not self._is_gone(error):
                raise
            self._abandon()
            if isinstance(error, TapdiskFailed):
                raise
        tap.unclaim(self.session, ref)

    def _is_gone(self, error: Exception) -> bool:
        """Whether a call failed because the device does not answer."""
        return (isinstance(error, OSError) and error.errno in _GONE) or not self.sr.is_readable()

    def _abandon(self) -> None:
        try:
            Server(self.sr.uuid, self.uuid).stop()
        finally:
            self.sr.abandon_disk(self.uuid)
            tap.unlink(self.sr.uuid, self.uuid)

    def _deactivate(self, ref: str) -> None:
        if self.sr.request.is_master:
            # Even of a disk that is half done, or cannot be read, nothing may stay open.
            self._close(ref)
        else:
            self._close_on_slave(ref)

    def _close_on_slave(self, ref: str) -> None:
        try:
            with self.sr.steady(self.uuid, ref, writable=False) as disk:
                self._close(ref)
        except LookupFailure:
            # Half done, and nobody is at it: here it is closed all the same. Its log may be
            # another disk's by now, and is not to be believed.
            with slave.lock(self.uuid):
                self._close(ref, tracked=False)
        else:
            self.sr.have_room_given_back(disk)

    def _unclaim(self, ref: str) -> None:
        """After a failure: other hosts may have the disk, unless it was active here before."""
        if not tap.is_active(self.sr.uuid, self.uuid):
            tap.unclaim(self.session, ref)

    def _refuse_users(self, ref: str, record: Record) -> None:
        if in_use := tap.users(self.session, self.sr.uuid, ref, record):
            raise VDIInUse(f"{self.uuid} is attached to {', '.join(in_use)}")

    def _close(self, ref: str, *, tracked: bool = True) -> None:
        try:
            Server(self.sr.uuid, self.uuid).stop()
        except Exception:
            # The caller hears of the writes that are lost, whatever else cannot be closed.
            with suppress(Exception):
                self._close_images(ref, tracked=tracked)
            raise
        self._close_images(ref, tracked=tracked)

    def _close_images(self, ref: str, *, tracked: bool) -> None:
        try:
            if tracked and self._writes_log(ref):
                self.sr.tracking.closed(self.uuid)
        finally:
            self.sr.close_disk(self.uuid)
            # Last: who asks this host whether it has the disk open is told so until here.
            tap.unlink(self.sr.uuid, self.uuid)

    def _writes_log(self, ref: str) -> bool:
        """Whether this host has the disk's log open: `activate` got that far, for writing."""
        if not self.sr.tracking.is_on(self.uuid):
            return False
        if not os.path.lexists(tap.link_path(self.sr.uuid, self.uuid)):
            return False
        mode = tap.hosts(self.session.vdi_record(ref)).get(self.session.host)
        return mode == "RW"

    def _is_device(self, disk: Disk) -> bool:
        return disk.raw and self.sr.raw_is_device

    def snapshot(self, driver_params: dict[str, str]) -> Location:
        """vdi_snapshot."""
        return snapshot.branch(self.sr, self.uuid, self.ref, driver_params, clone=False)

    def clone(self, driver_params: dict[str, str]) -> Location:
        """vdi_clone."""
        return snapshot.branch(self.sr, self.uuid, self.ref, driver_params, clone=True)

    def resize(self, size: int) -> Location:
        """vdi_resize: larger only, and offline."""
        self.sr.require_master()
        disk = self.sr.usable(self.uuid)
        if disk.hidden:
            raise VDIUnavailable("hidden VDI")
        if size < disk.size:
            raise VDISize(f"shrinking not allowed: {disk.size} to {size} bytes")
        record = self.session.vdi_record(self.ref)
        self._refuse_users(self.ref, record)
        size = size if disk.raw else valid_size(size)
        if size > disk.size:
            self._grow(disk, record, size)
        return disk.location

    def _grow(self, disk: Disk, record: Record, size: int) -> None:
        entry = Entry(RESIZE, disk.uuid, f"{disk.size}_{disk.utilisation}")
        self.sr.journal.create(entry.kind, entry.id, entry.value)
        with fist.undone_by(lambda: recovery.undo(self.sr, RESIZE, disk.uuid)):
            fist.point("resize_after_create_journal")
            self.sr.tracking.resized(self.uuid, self.ref, size)
            grown = self.sr.grow(disk, size)
        fist.point("resize_after_grow")
        records.refresh(self.session, self.ref, record, grown)
        growth = grown.size - disk.size
        records.adjust_space(self.session, self.sr.ref, self.sr.space(), growth)
        self.sr.drop(entry)

    def enable_cbt(self, on: bool) -> None:
        """vdi_enable_cbt, vdi_disable_cbt."""
        self.sr.require_master()
        disk = self.sr.usable(self.uuid)
        if disk.hidden:
            raise VDIUnavailable("hidden VDI")
        self.sr.tracking.switch(disk, self.ref, on=on)

    def data_destroy(self) -> None:
        """vdi_data_destroy: a snapshot's data go, what its log knows stays."""
        self.sr.require_master()
        record = self.session.vdi_record(self.ref)
        if not record["is_a_snapshot"] or not self.sr.tracking.is_on(self.uuid):
            raise VDIType(f"{self.uuid} is no snapshot of a tracked disk")
        self._refuse_users(self.ref, record)
        if self.sr.exists(self.uuid):
            disk = self.sr.disk(self.uuid)
            self.sr.destroy(disk)
            self.sr.forget(self.uuid)
            records.adjust_space(self.session, self.sr.ref, self.sr.space(), -disk.size)

    def list_changed_blocks(self, newer: str) -> str:
        """vdi_list_changed_blocks: from this disk to the one of reference `newer`."""
        uuid = str(self.session.vdi_record(newer)["uuid"])
        for disk in (self.uuid, uuid):
            self.sr.require_settled(disk)
        return changed_blocks(self.sr.logs, self.session, self.uuid, uuid)

    def update(self) -> None:
        """vdi_update: names that the medium keeps too."""
        record = self.session.vdi_record(self.ref)
        self.sr.remember(self.uuid, self._description(record), self.sr.disk(self.uuid))

    def _description(self, record: Record) -> Description:
        of = record.get("snapshot_of", "")
        is_a_snapshot = bool(record.get("is_a_snapshot"))
        known = is_a_snapshot and of and not of.endswith(":NULL")
        return Description(
            label=record["name_label"],
            description=record["name_description"],
            type=record["type"],
            read_only=bool(record["read_only"]),
            is_a_snapshot=is_a_snapshot,
            snapshot_time=str(record.get("snapshot_time", "")),
            snapshot_of=self.session.vdi_record(of)["uuid"] if known else "",
        )

    def revert(self, target: str) -> None:
        """vdi_revert."""
        revert.revert(self.sr, self.uuid, target)
