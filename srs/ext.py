"""EXTSR (type `ext`): a FileSR on an ext4 file system of its own, on LVM.

    Exception
    ├── ConfigDeviceMissing 90 · InvalidDev 19 · SRInUse 16   (srs.groups)
    ├── SRExists 42            the SR is mounted already
    ├── LVMFilesystem 57       mkfs.ext4 failed
    ├── SRUnavailable 47       no such volume group
    └── LVMMount 52            the file system cannot be mounted

Volume group `XSLocalEXT-<SR uuid>`, with one volume, `<SR uuid>`, over all of it.
"""

import os
from typing import ClassVar, Final

from srs import groups, mounts
from srs.errors import LVMFilesystem, LVMMount, LVMUnMount, SRExists, SRNoSpace
from srs.file import VHD_CAPABILITIES, FileSR
from srs.lvm import LVMError
from srs.protocol import Request
from srs.run import CommandFailed, run
from srs.sr import DriverInfo
from srs.volumes import EXTENT, VolumeGroup

_PREFIX: Final = "XSLocalEXT-"

# Of the ext4 superblock, which begins at byte 1024 (reference: the kernel's ext4 documentation).
_SUPERBLOCK: Final = 1024
_STATE_AT: Final = 0x3A
_CLEAN, _ERRORS = 1, 2


class EXTSR(FileSR):
    """Disks in a file system on a local block device."""

    info: ClassVar[DriverInfo] = DriverInfo(
        type="ext",
        name="Local EXT3 VHD",
        description="SR plugin which represents disks as VHD files stored on a local EXT "
        "filesystem, created inside an LVM volume",
        capabilities=(*VHD_CAPABILITIES, "SR_SUPPORTS_LOCAL_CACHING", "THIN_PROVISIONING"),
        configuration={"device": "local device path, or several with commas (required)"},
    )

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.group = VolumeGroup(_PREFIX + self.uuid)
        self.device = self.group.path(self.uuid)

    def create(self, size: int) -> None:
        """sr_create: volume group, volume, file system."""
        self.require_master()
        devices = groups.devices_of(self.config)
        if self.is_attached():
            raise SRExists(self.uuid)
        groups.create_group(self.group.name, devices)
        try:
            room = self.group.free // EXTENT * EXTENT
            if room == 0:
                raise SRNoSpace(f"{', '.join(devices)}: no extent is free")
            self.group.create(self.uuid, room)
            self._make_filesystem()
            self.group.deactivate(self.uuid)
        except Exception:
            groups.remove_group(self.group.name, devices)
            raise

    def _make_filesystem(self) -> None:
        # Discarding first would make a sparse image of a disk dense on some devices, and a
        # fresh volume needs no discard.
        try:
            run(["mkfs.ext4", "-F", "-q", "-E", "nodiscard", self.device])
        except CommandFailed as error:
            raise LVMFilesystem(error) from error

    def mount(self) -> None:
        """Activate the volume, repair the file system if it needs it, mount it."""
        self.group.activate(self.uuid, keep=True)
        try:
            if _needs_check(self.device):
                # 1: errors were found and corrected.
                run(["fsck.ext4", "-p", self.device], accept=(0, 1))
            mounts.mount(self.device, self.path, "ext4")
        except (CommandFailed, OSError) as error:
            self.group.deactivate(self.uuid)
            raise LVMMount(error) from error

    def is_attached(self) -> bool:
        """Whether the file system is mounted."""
        return mounts.is_mount_point(self.path)

    def detach(self) -> None:
        """sr_detach: unmount, and deactivate the volume."""
        super().detach()
        try:
            self.group.deactivate(self.uuid)
        except LVMError as error:
            raise LVMUnMount(error) from error

    def delete(self) -> None:
        """sr_delete: the file system, its volume and the group."""
        devices = groups.devices_of(self.config)
        super().delete()
        groups.remove_group(self.group.name, devices)

    def probe(self) -> str:
        """sr_probe: the SRs of this type on the devices."""
        return groups.probe(_PREFIX, groups.devices_of(self.config))


def _needs_check(device: str) -> bool:
    """Whether a file system has recorded errors.

    A journal that a power cut has left is no error: mount(2) replays it.
    """
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.pread(fd, 1024, _SUPERBLOCK)
    finally:
        os.close(fd)
    state = int.from_bytes(block[_STATE_AT : _STATE_AT + 2], "little")
    return not state & _CLEAN or bool(state & _ERRORS)
