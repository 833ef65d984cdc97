"""LUNs: disks behind the kernel's own SCSI target (LIO), seen through whatever fabric.

    sparse file -> /dev/ubdX -> back end "iblock" -> LUN -> fabric -> /dev/sdX, one per path

The target is set up through configfs by the steps that are listed here, all in one call.
rtslib-fb does the same, but would do it inside: importing it takes a guest 0.15 s before it
has done anything, and it needs pyudev, which needs a udev that no guest has.

Flushes and unmapped blocks reach the disk below. Serial numbers come from the disk's file, so
a LUN has the same SCSI id after a power cut.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from testbed.devices.disk import Disk
from testbed.devices.layer import SECTOR
from testbed.machine import Machine

Step = list[str]

MODULES: Final = ("target_core_iblock", "sd_mod")
#: What a host needs that uses more than one path to a LUN.
MULTIPATH: Final = ("dm-multipath", "dm-round-robin")
_NAA: Final = "6001405"  # type 6, and the number that LIO has as a vendor
_DIGITS: Final = 25


@dataclass(frozen=True, slots=True)
class Lun:
    """A LUN of some target.

    Attributes:
        disk: what it stands on; its size is the LUN's.
        number: LUN number on the target.
        serial: 32 hexadecimal digits, the unit's serial number.
        vendor: of its standard inquiry data, at most 8 characters.
        product: of its standard inquiry data, at most 16 characters.
    """

    disk: Disk
    number: int
    serial: str
    vendor: str = "TESTBED"
    product: str = "LUN"

    @property
    def scsi_id(self) -> str:
        """The SCSI id that hosts find it by: type 3 (NAA), then the identifier."""
        return f"3{_NAA}{self.serial[:_DIGITS]}"

    @property
    def back_end(self) -> str:
        """Its object below the target's root."""
        return f"core/iblock_0/{self.serial}"


def fresh_lun(
    machine: Machine, size: int, number: int, *, layered: bool = False, room: int = 0
) -> Lun:
    """A LUN of `size` bytes on a disk of its own, not behind any target yet.

    Args:
        machine: where the target runs.
        size: bytes of the LUN.
        number: LUN number on the target.
        layered: let faults be put below it, see Machine.layer.
        room: bytes that it can grow to.
    """
    disk = machine.add_disk(max(size, room), layered=layered or bool(room), bare=True)
    lun = Lun(disk, number, hashlib.sha256(str(disk.path).encode()).hexdigest()[:32])
    if room:
        resize(machine, lun, size)
    return lun


def resize(machine: Machine, lun: Lun, size: int) -> None:
    """Give a LUN that was made with room another size; hosts see it when they look again."""
    layer = machine.layer(lun.disk)
    layer.switch([(0, size // SECTOR, "linear", f"{layer.below} 0")])


def build(machine: Machine, lun: Lun) -> list[Step]:
    """Steps that make a LUN's back end."""
    at = f"target/{lun.back_end}"
    device = machine.like(lun.disk).device
    return [
        ["make", at],
        ["write", f"{at}/control", f"udev_path={device}\n"],
        ["write", f"{at}/udev_path", device],
        ["write", f"{at}/wwn/vpd_unit_serial", lun.serial],
        ["write", f"{at}/wwn/vendor_id", lun.vendor],
        ["write", f"{at}/wwn/product_id", lun.product],
        ["write", f"{at}/enable", "1"],
    ]


def tear_down(lun: Lun) -> list[Step]:
    """Steps that remove it; nothing may show it any more."""
    return [["drop", f"target/{lun.back_end}"]]


def show(group: str, lun: Lun) -> list[Step]:
    """Steps that put a LUN behind a fabric's port group (a path below the target's root)."""
    at = f"target/{group}/lun/lun_{lun.number}"
    return [["make", at], ["link", f"{at}/storage", f"target/{lun.back_end}"]]


def hide(group: str, lun: Lun) -> list[Step]:
    """Steps that take it away from there: its paths disappear, or fail."""
    at = f"target/{group}/lun/lun_{lun.number}"
    return [["unlink", f"{at}/storage"], ["drop", at]]


def configure(machine: Machine, steps: list[Step]) -> None:
    """Carry out steps in the machine's kernel.

    Raises:
        GuestFault: the kernel refuses one.
    """
    machine.kernel.call("configure", steps=steps)
