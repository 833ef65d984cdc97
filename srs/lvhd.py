"""LVHDSR (types `lvhd` and `lvm`): disks are volumes of a volume group.

    Exception
    ├── ConfigDeviceMissing 90 · InvalidDev 19 · SRInUse 16   (srs.groups)
    ├── InvalidArg 1           `allocation` is neither thin nor thick
    ├── SRUnavailable 47       no such volume group
    ├── SRNotEmpty 39          there are still disks
    └── LVMMaster 58           only the SR's master changes volumes

`allocation=thick` (the default) reserves a disk's room when it is made; `thin` when it is
activated for writing, and gives it back afterwards.
"""

from contextlib import suppress
from functools import cached_property
from typing import ClassVar, Final

from srs import fist, groups, lvhd_replace, lvhd_split, records, slave
from srs import lvhd_layout as layout
from srs.cbtlogs import VolumeLogs
from srs.cow import CowSR
from srs.datapath import tap
from srs.errors import InvalidArg, SRError, SRInUse, SRNotEmpty, SRUnavailable, VDIUnavailable
from srs.file import VHD_CAPABILITIES
from srs.gc.medium import LEAF
from srs.gc.volumes import VolumeMedium
from srs.journal import INFLATE, RESIZE, REVERT, SPLIT, ZERO, Entry, VolumeJournal
from srs.lvhd_slave import SlaveVolumes
from srs.lvhd_store import VolumeStore
from srs.lvm import LVMError
from srs.mgt import VOLUME_SIZE, DiskRecord, MetadataVolume, SRRecord
from srs.protocol import Request
from srs.records import Description, Space
from srs.refcount import RefCounts
from srs.session import Failure
from srs.snapshot import Branch, Plan
from srs.sr import DriverInfo
from srs.tracking import is_written
from srs.vdi import Disk
from srs.vhd import VHDError
from srs.volumes import EXTENT, VolumeGroup

#: Kinds of journal entries, in the order in which they are settled; then come reverts.
_ORDER: Final = (INFLATE, ZERO, RESIZE, LEAF, SPLIT)


class LVHDSR(CowSR):
    """Disks in a volume group on local block devices."""

    info: ClassVar[DriverInfo] = DriverInfo(
        type="lvhd",
        name="Local VHD on LVM",
        description="SR plugin which represents disks as VHD disks on Logical Volumes within a "
        "locally-attached Volume Group",
        capabilities=VHD_CAPABILITIES,
        configuration={
            "device": "local device path, or several with commas (required)",
            "allocation": "thick (default) or thin",
        },
    )
    storage_type = "lvm"
    fist_family = "LVM"
    raw_is_device = True

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        #: What this host may have of the SR where it is not its master.
        self.borrowed = None if request.is_master else SlaveVolumes(self.uuid)
        if self.borrowed is None:
            self.group = VolumeGroup(layout.GROUP_PREFIX + self.uuid)
            counts = RefCounts(f"lvm-{self.uuid}")
            self.store = VolumeStore(self.group, counts, self._is_written)
        else:
            self.group, self.store = self.borrowed.group, self.borrowed.store

    def _is_written(self, uuid: str) -> bool:
        """Whether some host has a disk attached for writing."""
        ref = records.find(self.session, uuid)
        return bool(ref) and is_written(self.session.vdi_record(ref))

    def cleanup(self) -> None:
        """Deactivate what only this call needed."""
        if self.borrowed is None:
            self.group.release()
        super().cleanup()

    @cached_property
    def allocation(self) -> str:
        """`thin` or `thick`; what the SR was made with wins over this host's configuration."""
        recorded = self.session.call("SR.get_sm_config", self.ref).get("allocation")
        return str(recorded) if recorded else self._configured_allocation()

    def _configured_allocation(self) -> str:
        allocation = self.config.get("allocation", "thick")
        if allocation not in ("thin", "thick"):
            raise InvalidArg(f"allocation is thin or thick, not {allocation}")
        return allocation

    @property
    def thick(self) -> bool:
        """Whether an ordinary disk's room is reserved when it is made."""
        return self.allocation == "thick"

    # -- the SR

    def devices(self) -> list[str]:
        """The block devices of the volume group.

        Raises:
            ConfigDeviceMissing: device_config names none.
            InvalidDev: one is not there.
        """
        return groups.devices_of(self.config)

    def create(self, size: int) -> None:
        """sr_create: a volume group with a metadata volume."""
        self.require_master()
        devices = self.devices()
        record = self.session.call("SR.get_record", self.ref)
        allocation = record["sm_config"].get("allocation") or self._configured_allocation()
        groups.create_group(self.group.name, devices)
        try:
            self.group.create(layout.METADATA, VOLUME_SIZE)
            about = SRRecord(
                self.uuid, allocation, record["name_label"], record["name_description"]
            )
            MetadataVolume(self.group.path(layout.METADATA)).format(about)
            self.group.deactivate(layout.METADATA)
            for key, value in (("allocation", allocation), ("use_vhd", "true")):
                self.session.call("SR.remove_from_sm_config", self.ref, key)
                self.session.call("SR.add_to_sm_config", self.ref, key, value)
        except Exception:
            groups.remove_group(self.group.name, devices)
            raise

    def attach(self) -> None:
        """sr_attach: mend what a crash left, make the metadata readable, scan."""
        fresh = not self._metadata_is_active()
        if fresh:
            self.store.counts.reset()
        if self.request.is_master:
            self.mend()
        self.metadata  # noqa: B018  # activates the volume, for as long as the SR is attached
        tap.forget_host(self.session, self.uuid, self.ref)
        if self.request.is_master:
            self.scan_attached()

    def scan(self) -> None:
        """sr_scan: and what a crash kept out of the metadata, or in it, is put right in there."""
        super().scan()
        noted = self.metadata.disks()
        for uuid in noted:
            if not self.exists(uuid):
                self.metadata.delete(uuid)
        for record in self.session.vdi_records_of(self.ref).values():
            uuid = record["uuid"]
            if uuid not in noted and self.exists(uuid):
                self.vdi(uuid).update()

    def _metadata_is_active(self) -> bool:
        volume = self.group.volumes.get(layout.METADATA)
        return volume is not None and volume.active

    def detach(self) -> None:
        """sr_detach: deactivate everything."""
        self._deactivate_all()

    def _deactivate_all(self) -> None:
        if not self.group.exists:
            return
        if self.borrowed is not None:
            self.borrowed.close_all()
            return
        # LVM itself would try for twenty seconds, and deactivate the others meanwhile.
        busy = [name for name, volume in self.group.volumes.items() if volume.open]
        if busy:
            raise SRInUse(", ".join(busy))
        try:
            self.group.deactivate(*self.group.volumes)
        except LVMError as error:
            raise SRInUse(error) from error
        self.store.counts.reset()

    def delete(self) -> None:
        """sr_delete: the volume group, which must hold no visible disk."""
        self.require_master()
        devices = self.devices()
        if not self.group.exists:
            raise SRUnavailable(f"no volume group {self.group.name}")
        self.mend()
        if any(not disk.hidden for disk in self.disks()):
            raise SRNotEmpty(self.uuid)
        self._deactivate_all()
        groups.remove_group(self.group.name, devices)
        self.group.reread()

    def probe(self) -> str:
        """sr_probe: the SRs of this type on the devices."""
        return groups.probe(layout.GROUP_PREFIX, self.devices())

    def prepare(self) -> None:
        """Refuse to work without the volume group, and mend it."""
        if not self.group.exists:
            raise SRUnavailable(f"no volume group {self.group.name}")
        super().prepare()

    def space(self) -> Space:
        """Of the volume group."""
        return Space(self.group.size, self.group.size - self.group.free)

    # -- names on the medium

    @cached_property
    def metadata(self) -> MetadataVolume:
        """The metadata volume; it stays active while the SR is attached."""
        if layout.METADATA not in self.group.volumes:
            self.require_master()
            self.group.create(layout.METADATA, VOLUME_SIZE)
            volume = MetadataVolume(self.group.path(layout.METADATA))
            volume.format(SRRecord(self.uuid, self.allocation))
        self.group.activate(layout.METADATA, keep=True)
        return MetadataVolume(self.group.path(layout.METADATA))

    def remember(self, uuid: str, about: Description, disk: Disk) -> None:
        """See CowSR."""
        record = DiskRecord(
            uuid=uuid,
            name_label=about.label,
            name_description=about.description,
            is_a_snapshot=about.is_a_snapshot,
            snapshot_of=about.snapshot_of,
            snapshot_time=about.snapshot_time,
            type=about.type,
            vdi_type=disk.vdi_type,
            read_only=about.read_only,
            managed=not disk.hidden,
            metadata_of_pool=about.metadata_of_pool,
        )
        self.metadata.put(record)

    def forget(self, uuid: str) -> None:
        """See CowSR."""
        self.metadata.delete(uuid)

    def descriptions(self) -> dict[str, Description]:
        """See CowSR."""
        return {
            record.uuid: Description(
                label=record.name_label,
                description=record.name_description,
                type=record.type,
                read_only=record.read_only,
                metadata_of_pool=record.metadata_of_pool,
                is_a_snapshot=record.is_a_snapshot,
                snapshot_time=record.snapshot_time,
                snapshot_of=record.snapshot_of,
            )
            for record in self.metadata.disks().values()
        }

    # -- the disks

    @cached_property
    def logs(self) -> VolumeLogs:
        """See CowSR."""
        return VolumeLogs(self.group)

    def disk(self, uuid: str) -> Disk:
        """See CowSR."""
        return self.store.disk(uuid)

    def disks(self) -> list[Disk]:
        """See CowSR."""
        return self.store.disks()

    def readers(self, base: str) -> list[str]:
        """See CowSR."""
        return self.store.readers(base)

    def exists(self, uuid: str) -> bool:
        """See CowSR."""
        return self.store.exists(uuid)

    def allocate(self, uuid: str, size: int, *, raw: bool) -> Disk:
        """See CowSR."""
        return self.store.allocate(uuid, size, size if raw else self._leaf_size(size), raw=raw)

    def _leaf_size(self, virtual: int, *, full: bool | None = None) -> int:
        full = self.thick if full is None else full
        return layout.full_size(virtual) if full else layout.empty_size()

    def destroy(self, disk: Disk) -> None:
        """See CowSR."""
        self.store.destroy(disk)

    def grow(self, disk: Disk, size: int) -> Disk:
        """See CowSR."""
        if disk.raw:
            return self.store.grow(disk, size, -(-size // EXTENT) * EXTENT)
        return self.store.grow(disk, size, self._leaf_size(size))

    def has_data(self, disk: Disk) -> bool:
        """See CowSR."""
        return self.store.has_data(disk)

    def depth(self, disk: Disk) -> int:
        """See CowSR."""
        return self.store.depth(disk)

    def add_leaf(self, uuid: str, like: Disk) -> Disk:
        """See CowSR. A snapshot stays small until somebody writes to it."""
        full = self.thick and self.request.command != "vdi_snapshot"
        return self.store.add_leaf(uuid, like, self._leaf_size(like.size, full=full))

    def insert_base(self, disk: Disk, base: str, plan: Plan) -> Branch:
        """See CowSR."""
        leaf = self._leaf_size(disk.size, full=plan.leaf_full)
        twin = self._leaf_size(disk.size, full=plan.twin_full)
        return lvhd_split.split(self.store, disk, base, leaf, plan.twin, twin)

    def begin_revert(self, target: Disk, source: Disk) -> None:
        """See CowSR."""
        lvhd_replace.begin(self.store, target, source, self._leaf_size(source.size))

    def replace(self, target: Disk, like: Disk) -> Disk:
        """See CowSR."""
        return lvhd_replace.replace(self.store, target, like)

    def require_room(self, target: Disk, source: Disk, plan: Plan | None) -> None:
        """See CowSR. The old image is only given back at the end."""
        need = self._leaf_size(source.size)
        if plan is not None:
            leaf = self._leaf_size(source.size, full=plan.leaf_full)
            need += lvhd_split.room_needed(self.store, source, [leaf])
        self.store.require_free(need)

    def open_disk(self, disk: Disk, *, writable: bool) -> str:
        """See CowSR."""
        if self.borrowed is not None:
            return self.borrowed.open(disk.uuid)
        if writable and not disk.raw:
            self.store.inflate(disk.uuid, layout.full_size(disk.size))
        self.store.activate_chain(disk, keep=True)
        self.store.recount(attached=disk.uuid)
        return self.store.path(disk.uuid)

    def close_disk(self, uuid: str) -> None:
        """See CowSR."""
        if self.borrowed is not None:
            self.borrowed.close(uuid)
            return
        chain = self.store.readable_chain(uuid)
        self.store.recount(detached=uuid)
        # One that is half done, or cannot be read, stays large: that costs only room.
        with suppress(VDIUnavailable, VHDError):
            if self._is_small_at_rest(self.usable(uuid)):
                self.store.deflate(uuid)
        idle = [each for each in chain if not self.store.counts.get(each).used]
        there = [each for each in idle if self.exists(each)]
        self.group.deactivate(*(self.store.volume_of(each).name for each in there))

    def abandon_disk(self, uuid: str) -> None:
        """See CowSR."""
        (self.borrowed or self.store).abandon(uuid)

    def is_readable(self) -> bool:
        """See CowSR."""
        self.group.reread()
        return self.group.exists

    def _is_small_at_rest(self, disk: Disk) -> bool:
        return not disk.raw and (not self.thick or self._is_snapshot(disk.uuid))

    def _is_snapshot(self, uuid: str) -> bool:
        record = self.metadata.disks().get(uuid)
        return record is not None and record.is_a_snapshot

    def medium(self) -> VolumeMedium:
        """See CowSR."""
        return VolumeMedium(
            self.store, lambda disk: self.thick and not self._is_snapshot(disk.uuid)
        )

    def is_pending(self, uuid: str) -> bool:
        """See CowSR."""
        return self.borrowed is not None and self.borrowed.is_pending(uuid)

    def reread(self) -> None:
        """See CowSR."""
        self.group.reread()

    def lacks_room(self, uuid: str) -> bool:
        """See CowSR."""
        disk = self.disk(uuid)
        return not disk.raw and disk.utilisation < layout.full_size(disk.size)

    def have_room_made(self, uuid: str) -> None:
        """See CowSR: only the master resizes volumes."""
        slave.ask_master(self.session, "lvhd-thin", "attach", self._names(uuid))

    def have_room_given_back(self, disk: Disk) -> None:
        """See CowSR. Where the master cannot, the volume stays large: that costs only room."""
        if self.borrowed is not None and self._is_small_at_rest(disk):
            names = {**self._names(disk.uuid), "asker": self.session.host}
            with suppress(Failure, SRError):
                slave.ask_master(self.session, "lvhd-thin", "detach", names)

    def _names(self, uuid: str) -> dict[str, str]:
        return {"srUuid": self.uuid, "vdiUuid": uuid}

    # -- the journal

    @property
    def journal(self) -> VolumeJournal:
        """See CowSR."""
        return self.store.journal

    def pending(self) -> list[Entry]:
        """See CowSR."""
        entries = self.journal.entries()
        known = [entry for kind in _ORDER for entry in entries if entry.kind == kind]
        return known + lvhd_replace.pending(self.store)

    def settle(self, entry: Entry) -> bool:
        """See CowSR."""
        entry.require_value()
        done = False
        if entry.kind == INFLATE:
            self.store.undo_inflation(entry)
        elif entry.kind == ZERO:
            self.store.undo_base_growth(entry)
        elif entry.kind == RESIZE:
            done = self.store.undo_growth(entry)
        elif entry.kind == REVERT:
            done = lvhd_replace.settle(self.store, entry.id)
        elif entry.kind == SPLIT:
            thick = self.thick and not self._is_snapshot(entry.id)
            done = lvhd_split.settle(self.store, entry, thick=thick)
        else:
            self.medium().end_leaf(entry.id, entry.value)
        self.store.reactivate()
        return done

    def drop(self, entry: Entry) -> None:
        """See CowSR."""
        if entry.kind == REVERT:
            lvhd_replace.drop(self.store, entry.id)
            return
        if entry.kind == SPLIT:
            fist.point("LVHDRT_clone_vdi_before_remove_journal")
        self.journal.remove(entry.kind, entry.id)

    def mend(self) -> None:
        """See CowSR; what a call that died left active is deactivated."""
        super().mend()
        self.store.reactivate()
        self.store.deactivate_unused()

    def sweep(self) -> None:
        """See CowSR."""
        self.store.sweep()
