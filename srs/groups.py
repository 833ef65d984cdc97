"""Volume groups as SRs make and remove them, and the devices below.

Exception
├── ConfigDeviceMissing 90     device_config has no `device`
├── InvalidDev 19              no block device of that name
├── SRInUse 16                 something holds the device open, or has data for LVM on it
├── LVMWrite 54                the device cannot be written
├── LVMGroupCreate 77          LVM refused to make the group
└── LVMDelete 51               LVM refused to remove it
"""

import errno
import os
import stat
from typing import Final

from srs import lvm
from srs.errors import (
    ConfigDeviceMissing,
    InvalidDev,
    LVMDelete,
    LVMGroupCreate,
    LVMWrite,
    SRInUse,
)

#: Room for LVM's metadata at the start of a device, and what is wiped of an old content (MiB).
_METADATA_MIB: Final = 10
_WIPE_PIECE: Final = 1 << 20


def devices_of(device_config: dict[str, str]) -> list[str]:
    """The block devices that device_config names, checked.

    Raises:
        ConfigDeviceMissing: none is named.
        InvalidDev: one does not exist, or is no block device.
    """
    names = [name.strip() for name in device_config.get("device", "").split(",") if name.strip()]
    if not names:
        raise ConfigDeviceMissing()
    for name in names:
        try:
            is_block = stat.S_ISBLK(os.stat(name).st_mode)
        except OSError as error:
            raise InvalidDev(f"{name}: {error.strerror}") from error
        if not is_block:
            raise InvalidDev(f"{name} is no block device")
    return names


def create_group(name: str, devices: list[str]) -> None:
    """Make a volume group on devices that nobody uses; what was on them is lost.

    Raises:
        SRInUse: a device is open, or belongs to another group.
        LVMWrite: a device cannot be written.
        LVMGroupCreate: LVM refused.
    """
    for device in devices:
        owner = lvm.group_of(device)
        if owner:
            raise SRInUse(f"{device} belongs to volume group {owner}")
    for device in devices:
        _wipe(device)
    try:
        lvm.lvm("vgcreate", "-y", "--metadatasize", f"{_METADATA_MIB}M", name, *devices)
        lvm.flush(devices)
    except lvm.LVMError as error:
        raise LVMGroupCreate(error) from error


def _wipe(device: str) -> None:
    """Zero the start of a device, where file systems and partition tables are recognised."""
    try:
        # For a block device O_EXCL means: fail if it is mounted, or part of something else.
        fd = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise SRInUse(device) from error
        raise InvalidDev(f"{device}: {error.strerror}") from error
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        zeros = bytes(_WIPE_PIECE)
        for at in range(0, min(size, _METADATA_MIB * _WIPE_PIECE), _WIPE_PIECE):
            os.pwrite(fd, zeros[: size - at], at)
        os.fsync(fd)
    except OSError as error:
        raise LVMWrite(f"{device}: {error.strerror}") from error
    finally:
        os.close(fd)


def remove_group(name: str, devices: list[str]) -> None:
    """Remove a volume group with all its volumes, and LVM's label from its devices.

    Raises:
        LVMDelete: LVM refused; a volume may be open.
    """
    try:
        lvm.lvm("vgremove", "-f", name)
        lvm.lvm("pvremove", "-y", *devices)
        lvm.flush(devices)
    except lvm.LVMError as error:
        raise LVMDelete(error) from error


def probe(prefix: str, devices: list[str]) -> str:
    """The XML list of SRs on devices: volume groups whose name is `prefix` and a uuid."""
    fields = ("pv_name", "vg_name", "vg_size")
    wanted = {os.path.realpath(device) for device in devices}
    found: dict[str, tuple[int, list[str]]] = {}
    for row in lvm.report("pvs", fields):
        if row["vg_name"].startswith(prefix):
            size, members = found.setdefault(row["vg_name"], (int(row["vg_size"]), []))
            members.append(row["pv_name"])
    lines = ["<?xml version='1.0' ?>", "<SRlist>"]
    for group, (size, members) in sorted(found.items()):
        if wanted & {os.path.realpath(member) for member in members}:
            lines += [
                "  <SR>",
                f"    <UUID>{group.removeprefix(prefix)}</UUID>",
                f"    <Devlist>{','.join(members)}</Devlist>",
                f"    <size>{size}</size>",
                "  </SR>",
            ]
    return "\n".join([*lines, "</SRlist>", ""])
