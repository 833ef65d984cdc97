"""Disks as copy-on-write chains of images: what all VHD drivers do alike.

    Exception
    ├── VDIUnavailable 46 · VDIInUse 24 · VDIExists 43 · VDISize 79 · VDIType 66
    ├── VDIDelete 80                     a base copy that other disks read
    └── Unimplemented 38                 a raw disk has no chain

`CowSR` names what a medium must be able to do; `srs.file` does it with files in a directory,
`srs.lvhd` with volumes in a group. `CowVDI` carries out the SMAPIv1 operations with that, and
keeps the database in step. A visible disk is always a leaf: snapshots put its data into a
hidden base copy, below it and its snapshot.

All of it runs under the SR's lock, which `srs.command` takes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from srs import fist, locks, records, revert, slave, snapshot
from srs.cbtlogs import Logs
from srs.changes import changed_blocks
from srs.datapath import tap
from srs.datapath.server import Server
from srs.datapath.store import Export
from srs.errors import (
    Unimplemented,
    VDIDelete,
    VDIExists,
    VDIInUse,
    VDISize,
    VDIType,
    VDIUnavailable,
)
from srs.records import Description, Space
from srs.session import Record
from srs.sr import SR
from srs.tracking import Tracking
from srs.vdi import VDI, Disk, Location, NewDisk, valid_size

if TYPE_CHECKING:
    from srs.gc.medium import Medium


class CowSR(SR):
    """An SR that keeps disks as chains of images; a subclass knows the medium.

    Attributes:
        thick: whether an ordinary disk's room is reserved when it is made.
        storage_type: what guests are told the disk lies on.
        raw_is_device: whether a raw disk is a block device that needs no server.
    """

    storage_type: ClassVar[str] = "ext"
    raw_is_device: ClassVar[bool] = False

    @property
    def thick(self) -> bool:
        """Whether an ordinary disk's room is reserved when it is made."""
        return False

    # -- what the medium does

    def disk(self, uuid: str) -> Disk:
        """A disk as it is on the medium.

        Raises:
            VDIUnavailable: not there, or its image cannot be read.
        """
        raise Unimplemented("disk")

    def disks(self) -> list[Disk]:
        """All disks on the medium, base copies too.

        Raises:
            SRScan: one image cannot be read.
        """
        raise Unimplemented("disks")

    def exists(self, uuid: str) -> bool:
        """Whether there is a disk of this uuid."""
        raise Unimplemented("exists")

    def space(self) -> Space:
        """Room on the medium."""
        raise Unimplemented("space")

    def allocate(self, uuid: str, size: int, *, raw: bool) -> Disk:
        """Make an empty disk.

        Raises:
            SRNoSpace: no room.
        """
        raise Unimplemented("allocate")

    def destroy(self, disk: Disk) -> None:
        """Remove a disk from the medium."""
        raise Unimplemented("destroy")

    def grow(self, disk: Disk, size: int) -> Disk:
        """Make a disk larger.

        Raises:
            Unimplemented: not this kind of disk.
            VDISize: the image cannot take that size.
            SRNoSpace: no room.
        """
        raise Unimplemented("grow")

    def has_data(self, disk: Disk) -> bool:
        """Whether the image itself holds any block."""
        raise Unimplemented("has_data")

    def depth(self, disk: Disk) -> int:
        """Number of images that a reader of the disk follows."""
        raise Unimplemented("depth")

    def add_leaf(self, uuid: str, like: Disk) -> Disk:
        """Make a disk that reads as `like` does, which holds no data of its own."""
        raise Unimplemented("add_leaf")

    def insert_base(self, disk: Disk, base: str, plan: snapshot.Plan) -> snapshot.Branch:
        """Turn a disk's data into the hidden base copy `base`, below the disk and its twin.

        Atomic: after a crash, `recover` finds either the disk as it was or all of it.
        """
        raise Unimplemented("insert_base")

    def replace(self, target: Disk, like: Disk) -> Disk:
        """Make `target` read as `like` does, which holds no data of its own.

        Atomic: after a crash, `recover` finds the target with its old or its new content.
        """
        raise Unimplemented("replace")

    def require_room(self, target: Disk, source: Disk, plan: snapshot.Plan | None) -> None:
        """Refuse a revert that would run out of room halfway.

        Raises:
            SRNoSpace: not enough for a new leaf, and a base copy if there is a plan for one.
        """

    def open_disk(self, disk: Disk, *, writable: bool) -> str:
        """Make a disk's images readable on this host; returns the path of the top one."""
        raise Unimplemented("open_disk")

    def close_disk(self, disk: Disk) -> None:
        """Undo open_disk."""
        raise Unimplemented("close_disk")

    def is_pending(self, uuid: str) -> bool:
        """Whether the medium says that a change of the disk was begun, and not that it is done."""
        raise Unimplemented("is_pending")

    def reread(self) -> None:
        """Forget what was read of the medium: the SR's master may have changed it."""

    def have_room_made(self, uuid: str) -> None:
        """On a host that is not the master: have the master reserve room for a disk's writes."""

    def have_room_given_back(self, disk: Disk) -> None:
        """On such a host: a disk that is closed needs only the room that it uses."""

    def lacks_room(self, uuid: str) -> bool:
        """Whether there is less than that now."""
        return False

    def remember(self, uuid: str, about: Description, disk: Disk) -> None:
        """Keep a disk's names on the medium, where it has a place for them."""

    def forget(self, uuid: str) -> None:
        """Drop what remember kept."""

    @property
    def logs(self) -> Logs:
        """Where the logs of changed blocks are."""
        raise Unimplemented("changed block tracking")

    def medium(self) -> "Medium":
        """The images as a collector changes them."""
        raise Unimplemented("garbage collection")

    def recover(self) -> list[str]:
        """Finish or undo what a crash interrupted; returns the disks that it was about."""
        return []

    # -- what follows from it

    @cached_property
    def shared(self) -> bool:
        """Whether other hosts may have the SR, too."""
        return not self.request.is_master or bool(self.session.call("SR.get_shared", self.ref))

    @contextmanager
    def steady(self, uuid: str, ref: str, *, writable: bool) -> Iterator[Disk]:
        """A disk that this host has claimed, as nobody changes it until the block ends.

        On the master the SR's lock sees to that.
        """
        if self.request.is_master:
            yield self.disk(uuid)
            return
        with slave.steady(self, uuid, ref, writable=writable) as disk:
            yield disk

    @property
    def tracking(self) -> Tracking:
        """Changed block tracking on this SR."""
        return Tracking(self)

    def prepare(self) -> None:
        """Mend what a crash left, before anything else is done."""
        if self.request.is_master:
            self.mend()

    def mend(self) -> None:
        """Recover, and make the database agree for the disks that it was about."""
        for uuid in self.recover():
            ref = records.find(self.session, uuid)
            if ref and self.exists(uuid):
                record = self.session.vdi_record(ref)
                records.refresh(self.session, ref, record, self.disk(uuid))
                tap.resume(self.session, self.uuid, {ref: record})

    def scan(self) -> None:
        """sr_scan: the medium is right, the database follows."""
        self.require_master()
        disks = self.disks()
        known = self.session.vdi_records_of(self.ref)
        tap.resume(self.session, self.uuid, known)
        images = {disk.uuid for disk in disks}
        remains = self.tracking.remains(images)
        named = self.descriptions()
        about = self.tracking.describe(named, images)
        records.reconcile(self.session, self.ref, known, [*disks, *remains], about)
        for disk in disks:
            if disk.uuid not in named:
                # A crash came between the image and its names.
                self.remember(disk.uuid, records.of(disk, about), disk)
        self.tracking.tell(known, images | {disk.uuid for disk in remains})
        allocated = sum(disk.size for disk in disks if not disk.hidden)
        records.write_space(self.session, self.ref, self.space(), allocated)

    def descriptions(self) -> dict[str, Description]:
        """Uuid -> names, where the medium has them."""
        return {}

    def update(self) -> None:
        """sr_update: the SR's figures."""
        allocated = int(self.session.call("SR.get_virtual_allocation", self.ref))
        records.write_space(self.session, self.ref, self.space(), allocated)

    def vdi(self, uuid: str) -> "CowVDI":
        """The disk of this uuid."""
        return CowVDI(self, uuid)


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
        grown = 0
        if self.sr.exists(self.uuid):
            disk = self.sr.disk(self.uuid)
            if disk.hidden:
                raise VDIDelete("Deleting non-leaf node not permitted")
            self.sr.destroy(disk)
            grown = -disk.size
        self.sr.tracking.deleted(self.uuid)
        self.sr.forget(self.uuid)
        records.forget(self.session, ref)
        locks.remove(self.uuid)
        records.adjust_space(self.session, self.sr.ref, self.sr.space(), grown)

    def attach(self, writable: bool) -> dict[str, object]:
        """vdi_attach: says where the data will be; activation brings it there."""
        disk = self.sr.disk(self.uuid)
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
        """vdi_detach: activation did the work, so deactivation undid it."""

    def activate(self, writable: bool) -> None:
        """vdi_activate: claim the disk, open its images, serve them."""
        ref, session, shared = self.ref, self.session, self.sr.shared
        master = self.sr.request.is_master
        tap.claim(session, self.sr.uuid, ref, writable=writable, master=master, shared=shared)
        try:
            with (
                fist.undone_by(lambda: self._unclaim(ref)),
                self.sr.steady(self.uuid, ref, writable=writable) as disk,
            ):
                self._open(disk, ref, writable=writable)
        finally:
            tap.claimed(session, ref, shared=shared)

    def _open(self, disk: Disk, ref: str, *, writable: bool) -> None:
        server = Server(self.sr.uuid, self.uuid)
        if tap.is_active(self.sr.uuid, self.uuid) and (
            self._is_device(disk) or server.is_running()
        ):
            return  # it was active before: activating twice is once
        with fist.undone_by(lambda: self._close(disk, ref)):
            path = self.sr.open_disk(disk, writable=writable)
            log = self.sr.tracking.opened(disk, ref) if writable and not disk.raw else ""
            # The link comes after the log was marked as open: deactivation goes by that.
            tap.link(self.sr.uuid, self.uuid, path)
            if not self._is_device(disk):
                server.start(Export(self.uuid, path, disk.raw, writable, log))

    def deactivate(self) -> None:
        """vdi_deactivate: the opposite, as far as there is something to undo."""
        ref = self.ref
        with self.sr.steady(self.uuid, ref, writable=False) as disk:
            self._close(disk, ref)
        self.sr.have_room_given_back(disk)
        tap.unclaim(self.session, ref)

    def _unclaim(self, ref: str) -> None:
        """After a failure: other hosts may have the disk, unless it was active here before."""
        if not tap.is_active(self.sr.uuid, self.uuid):
            tap.unclaim(self.session, ref)

    def _refuse_users(self, ref: str, record: Record) -> None:
        if in_use := tap.users(self.session, self.sr.uuid, ref, record):
            raise VDIInUse(f"{self.uuid} is attached to {', '.join(in_use)}")

    def _close(self, disk: Disk, ref: str) -> None:
        tracked = self._writes_log(disk, ref)
        # The image is closed even if its last writes fail, but then the caller hears of it.
        try:
            Server(self.sr.uuid, self.uuid).stop()
        finally:
            if tracked:
                self.sr.tracking.closed(self.uuid)
            self.sr.close_disk(disk)
            # Last: who asks this host whether it has the disk open is told so until here.
            tap.unlink(self.sr.uuid, self.uuid)

    def _writes_log(self, disk: Disk, ref: str) -> bool:
        """Whether this host has the disk's log open: `activate` got that far, for writing."""
        if disk.raw or not os.path.lexists(tap.link_path(self.sr.uuid, self.uuid)):
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
        disk = self.sr.disk(self.uuid)
        if disk.hidden:
            raise VDIUnavailable("hidden VDI")
        if size < disk.size:
            raise VDISize(f"shrinking not allowed: {disk.size} to {size} bytes")
        record = self.session.vdi_record(self.ref)
        self._refuse_users(self.ref, record)
        size = size if disk.raw else valid_size(size)
        if size > disk.size:
            self.sr.tracking.resized(self.uuid, self.ref, size)
            grown = self.sr.grow(disk, size)
            records.refresh(self.session, self.ref, record, grown)
            growth = grown.size - disk.size
            records.adjust_space(self.session, self.sr.ref, self.sr.space(), growth)
        return disk.location

    def enable_cbt(self, on: bool) -> None:
        """vdi_enable_cbt, vdi_disable_cbt."""
        self.sr.require_master()
        disk = self.sr.disk(self.uuid)
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
