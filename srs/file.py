"""FileSR (type `file`): disks are files in a directory.

    Exception
    ├── ConfigLocationMissing 94     device_config has no `location`
    ├── FileSRCreate 61              the directory is there and holds something
    ├── SRUnavailable 47             not attached
    └── SRInUse 16                   it cannot be detached

The SR's directory is `/run/sr-mount/<SR uuid>`, a bind mount of `location`. In it:

    <uuid>.vhd      an image; parents are named relative to the directory
    <uuid>.raw      a raw disk
    <uuid>.cbtlog   which blocks of a disk changed, see srs.tracking
    <name>.new      being written; renamed into place when it is whole
    clone_<uuid>    journal of a split, see srs.file_split
    revert_<uuid>   journal of a revert, see srs.file_replace
    resize_<uuid>   journal of a resize
    .journal-<uuid> undo journal of a resize that moves blocks
"""

import os
from typing import ClassVar, Final

from srs import file_replace, file_split, mounts, paths, recovery
from srs.cbtlogs import FileLogs
from srs.cow import CowSR
from srs.datapath import tap
from srs.errors import (
    ConfigLocationMissing,
    FileSRCreate,
    FileSRDelete,
    SRError,
    SRInUse,
    SRNotEmpty,
    SRUnavailable,
)
from srs.filestore import FileStore
from srs.gc.files import FileMedium
from srs.gc.medium import LEAF
from srs.journal import REVERT, SPLIT, Entry, FileJournal
from srs.protocol import Request
from srs.records import Space
from srs.snapshot import Branch, Plan
from srs.sr import DriverInfo
from srs.vdi import Disk

#: What all drivers that keep VHDs can do.
VHD_CAPABILITIES: Final = (
    "SR_PROBE", "SR_UPDATE", "VDI_CREATE", "VDI_DELETE", "VDI_ATTACH", "VDI_DETACH", "VDI_CLONE",
    "VDI_SNAPSHOT", "VDI_RESIZE", "VDI_UPDATE", "ATOMIC_PAUSE", "VDI_ACTIVATE", "VDI_DEACTIVATE",
    "VDI_REVERT", "VDI_CONFIG_CBT",
)  # fmt: skip


class FileSR(CowSR):
    """Disks in a directory of this host."""

    info: ClassVar[DriverInfo] = DriverInfo(
        type="file",
        name="Local Path VHD",
        description="SR plugin which represents disks as VHD files stored on a local path",
        capabilities=(*VHD_CAPABILITIES, "THIN_PROVISIONING"),
        configuration={"location": "directory that holds the disks (required)"},
    )

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.path = os.path.join(paths.SR_MOUNT, self.uuid)
        self.store = FileStore(self.path)
        self._logs = FileLogs(self.path)

    # -- the SR

    @property
    def location(self) -> str:
        """The directory behind the mount point."""
        location = self.config.get("location", "")
        if not location:
            raise ConfigLocationMissing()
        return location

    def create(self, size: int) -> None:
        """sr_create: an empty directory."""
        self.require_master()
        location = self.location
        try:
            os.makedirs(location, mode=0o700, exist_ok=True)
            if os.listdir(location):
                raise FileSRCreate(f"{location} is not empty")
        except OSError as error:
            raise FileSRCreate(f"{location}: {error.strerror}") from error

    def attach(self) -> None:
        """sr_attach: mount the directory, mend what a crash left, scan."""
        if not self.is_attached():
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self.mount()
        self.after_attach()

    def mount(self) -> None:
        """Put the disks' directory on the mount point."""
        try:
            mounts.mount(self.location, self.path, flags=mounts.MS_BIND)
        except OSError as error:
            raise SRUnavailable(f"mounting {self.location}: {error.strerror}") from error

    def after_attach(self) -> None:
        """What every attach of a directory ends with."""
        tap.forget_host(self.session, self.uuid, self.ref)
        if self.request.is_master:
            self.mend()
            self.scan_attached()

    def is_attached(self) -> bool:
        """Whether the mount point shows the disks' directory."""
        return mounts.same_directory(self.path, self.location)

    def detach(self) -> None:
        """sr_detach: unmount the directory."""
        if not self.is_attached():
            return
        try:
            mounts.unmount(self.path)
            os.rmdir(self.path)
        except OSError as error:
            raise SRInUse(f"{self.path}: {error.strerror}") from error

    def delete(self) -> None:
        """sr_delete: remove what is left, which must be no visible disk."""
        self.require_master()
        was_attached = self.is_attached()
        if not was_attached:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self.mount()
        try:
            self._empty()
        except SRError:
            if not was_attached:
                self.detach()
            raise
        self.detach()

    def _empty(self) -> None:
        self.mend()
        if any(not disk.hidden for disk in self.store.disks()):
            raise SRNotEmpty(self.uuid)
        for name in os.listdir(self.path):
            if name == "lost+found":
                continue
            try:
                os.unlink(os.path.join(self.path, name))
            except OSError as error:
                raise FileSRDelete(f"{name}: {error.strerror}") from error

    def prepare(self) -> None:
        """Refuse to work on a directory that is not mounted, and mend it."""
        if not self.is_attached():
            raise SRUnavailable(f"{self.path} is not mounted")
        super().prepare()

    def is_readable(self) -> bool:
        """See CowSR."""
        try:
            self.space()
        except OSError:
            return False
        return True

    def space(self) -> Space:
        """Of the file system that the directory is on."""
        status = os.statvfs(self.path)
        size = status.f_blocks * status.f_frsize
        return Space(size, size - status.f_bfree * status.f_frsize)

    # -- the disks

    @property
    def logs(self) -> FileLogs:
        """See CowSR."""
        return self._logs

    def disk(self, uuid: str) -> Disk:
        """See CowSR."""
        return self.store.disk(uuid)

    def disks(self) -> list[Disk]:
        """See CowSR."""
        return self.store.disks()

    def exists(self, uuid: str) -> bool:
        """See CowSR."""
        return self.store.exists(uuid)

    def allocate(self, uuid: str, size: int, *, raw: bool) -> Disk:
        """See CowSR."""
        return self.store.allocate(uuid, size, raw=raw)

    def destroy(self, disk: Disk) -> None:
        """See CowSR."""
        self.store.destroy(disk)

    def grow(self, disk: Disk, size: int) -> Disk:
        """See CowSR."""
        return self.store.grow(disk, size)

    def has_data(self, disk: Disk) -> bool:
        """See CowSR."""
        return self.store.has_data(disk)

    def depth(self, disk: Disk) -> int:
        """See CowSR."""
        return self.store.depth(disk)

    def add_leaf(self, uuid: str, like: Disk) -> Disk:
        """See CowSR."""
        return self.store.put_leaf(uuid, like)

    def insert_base(self, disk: Disk, base: str, plan: Plan) -> Branch:
        """See CowSR."""
        return file_split.split(self.store, disk, base, plan.twin)

    def begin_revert(self, target: Disk, source: Disk) -> None:
        """See CowSR."""
        file_replace.begin(self.store, target, source)

    def replace(self, target: Disk, like: Disk) -> Disk:
        """See CowSR."""
        return file_replace.replace(self.store, target, like)

    def open_disk(self, disk: Disk, *, writable: bool) -> str:
        """See CowSR: files need no opening."""
        return self.store.path_of(disk)

    def close_disk(self, uuid: str) -> None:
        """See CowSR."""

    def medium(self) -> FileMedium:
        """See CowSR."""
        return FileMedium(self.store)

    def is_pending(self, uuid: str) -> bool:
        """See CowSR."""
        return any(uuid in recovery.disks_of(entry) for entry in self.pending())

    # -- the journal

    @property
    def journal(self) -> FileJournal:
        """See CowSR."""
        return self.store.journal

    def pending(self) -> list[Entry]:
        """See CowSR."""
        return self.store.pending()

    def settle(self, entry: Entry) -> bool:
        """See CowSR."""
        entry.require_value()
        if entry.kind == SPLIT:
            return file_split.settle(self.store, entry)
        if entry.kind == REVERT:
            return file_replace.settle(self.store, entry)
        if entry.kind == LEAF:
            self.medium().end_leaf(entry.id, entry.value)
            return True
        return self.store.undo_growth(entry)

    def drop(self, entry: Entry) -> None:
        """See CowSR."""
        self.store.drop(entry)

    def sweep(self) -> None:
        """See CowSR."""
        self.store.sweep()
