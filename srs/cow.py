"""Disks as copy-on-write chains of images: what all VHD drivers do alike.

    Exception
    ├── VDIUnavailable 46    not there, not readable, or its journal cannot be ended
    └── SRUnavailable 47     only the master may end its journal

`CowSR` names what a medium must be able to do; `srs.file` does it with files in a directory,
`srs.lvhd` with volumes in a group. `srs.cowvdi` carries out the SMAPIv1 operations with that.
A visible disk is always a leaf: snapshots put its data into a hidden base copy, below it and
its snapshot.

All of it runs under the SR's lock, which `srs.command` takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from srs import records, recovery, slave, snapshot
from srs.cbtlogs import Logs
from srs.cowvdi import CowVDI
from srs.datapath import tap
from srs.errors import SRScan, SRUnavailable, Unimplemented, VDIUnavailable
from srs.journal import Entry, Journal
from srs.protocol import Request
from srs.records import Description, Space
from srs.session import Record
from srs.sr import SR
from srs.tracking import Tracking
from srs.vdi import Disk

if TYPE_CHECKING:
    from srs.gc.medium import Medium


class CowSR(SR):
    """An SR that keeps disks as chains of images; a subclass knows the medium.

    Attributes:
        thick: whether an ordinary disk's room is reserved when it is made.
        storage_type: what guests are told the disk lies on.
        raw_is_device: whether a raw disk is a block device that needs no server.
        fist_family: how FIST points begin that all media have.
    """

    storage_type: ClassVar[str] = "ext"
    fist_family: ClassVar[str] = "FileSR"
    raw_is_device: ClassVar[bool] = False

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        #: Disks with a journal entry that cannot be ended.
        self._unsettled: dict[str, recovery.Unsettled] = {}

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

    def readers(self, base: str) -> list[str]:
        """What stands on a base copy, less the images whose chains cannot be read."""
        raise Unimplemented("readers")

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

        Leaves the entry SPLIT of the disk in the journal, for the caller to drop.
        """
        raise Unimplemented("insert_base")

    def begin_revert(self, target: Disk, source: Disk) -> None:
        """Make the entry REVERT: `target` is about to read as its snapshot `source` does."""
        raise Unimplemented("begin_revert")

    def replace(self, target: Disk, like: Disk) -> Disk:
        """Make `target` read as `like` does, which holds no data of its own.

        Leaves the entry REVERT in the journal, for the caller to drop.
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

    def close_disk(self, uuid: str) -> None:
        """Undo open_disk, of an image that cannot be read any more as far as that goes."""
        raise Unimplemented("close_disk")

    def abandon_disk(self, uuid: str) -> None:
        """As close_disk, while the SR cannot be read."""

    def is_readable(self) -> bool:
        """Whether the medium answers at all, looked at anew."""
        raise Unimplemented("is_readable")

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

    @property
    def journal(self) -> Journal:
        """What is being done."""
        raise Unimplemented("journal")

    def pending(self) -> list[Entry]:
        """What a crash interrupted, in the order in which it is to be settled."""
        raise Unimplemented("pending")

    def settle(self, entry: Entry) -> bool:
        """End on the medium what a crash interrupted: undo it before its commit point.

        The entry stays. May be called again, and after a crash of its own.

        Returns:
            Whether it was done, behind its commit point.

        Raises:
            SRError, VHDError, LVMError, OSError: it cannot be ended.
        """
        raise Unimplemented("settle")

    def drop(self, entry: Entry) -> None:
        """Drop an entry: medium and database agree about it."""
        raise Unimplemented("drop")

    def sweep(self) -> None:
        """Remove what was being made when a call died."""

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
            yield self.usable(uuid)
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
        """Recover; what cannot be recovered is refused from here on, the rest is not."""
        self.sweep()
        self._unsettled = recovery.mend(self)
        tap.resume_forgotten(self.session, self.uuid, but=self._unsettled)

    @contextmanager
    def paused(self, uuid: str, ref: str) -> Iterator[Record]:
        """A disk that holds still, on every host, while it is changed; gives its record.

        After a change that can be neither undone nor finished it stays so: what was written to
        a leaf that recovery removes would be lost.
        """

        def final() -> bool:
            return recovery.is_final(self, uuid)

        with tap.paused(self.session, self.uuid, uuid, ref, final=final) as record:
            yield record

    def require_settled(self, uuid: str, *, but: str = "") -> None:
        """Refuse a disk that a call has left half done.

        Args:
            uuid: the disk.
            but: entries of this kind do not matter.

        Raises:
            VDIUnavailable: its journal entry cannot be ended.
            SRUnavailable: only the master may end it, and this host is not.
        """
        if self.request.is_master:
            found = self._unsettled.get(uuid)
            if found and found.entry.kind != but:
                raise VDIUnavailable(f"journal {found.entry.kind} is pending: {found.error}")
        elif self.is_pending(uuid):
            raise SRUnavailable(recovery.CRITICAL)

    def usable(self, uuid: str) -> Disk:
        """A disk that no call has left half done; raises as `disk` and `require_settled`."""
        self.require_settled(uuid)
        return self.disk(uuid)

    def scan(self) -> None:
        """sr_scan: the medium is right, the database follows."""
        self.require_master()
        disks = self.disks()
        known = self.session.vdi_records_of(self.ref)
        tap.resume(self.session, self.uuid, known, but=self._unsettled)
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

    def scan_attached(self) -> None:
        """What each attach ends with on the master, which has mended the SR before.

        An image that is lost does not take the others with it: whoever scans is told. What was
        interrupted with disks that the toolstack did not know yet can be ended now.
        """
        with suppress(SRScan, VDIUnavailable):
            self.scan()
        if self._unsettled:
            self.mend()

    def descriptions(self) -> dict[str, Description]:
        """Uuid -> names, where the medium has them."""
        return {}

    def update(self) -> None:
        """sr_update: the SR's figures."""
        allocated = int(self.session.call("SR.get_virtual_allocation", self.ref))
        records.write_space(self.session, self.ref, self.space(), allocated)

    def vdi(self, uuid: str) -> CowVDI:
        """The disk of this uuid."""
        return CowVDI(self, uuid)
