"""LUNs: disks behind the kernel's own SCSI target (LIO), seen through whatever fabric.

    sparse file -> /dev/ubdX -> back end "iblock" -> LUN -> fabric -> /dev/sdX, one per path

The target is set up through configfs by the steps that are listed here, all in one call.
rtslib-fb does the same, but would do it inside: importing it takes a guest 0.15 s before it
has done anything, and it needs pyudev, which needs a udev that no guest has.

Flushes and unmapped blocks reach the disk below. Serial numbers come from the disk's file, so
a LUN has the same SCSI id after a power cut.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
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


class Fabric(ABC):
    """A way to LUNs: adapters that see them, or a target that offers them.

    Args:
        machine: a machine that runs.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._luns: list[Lun] = []

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """Port groups (below the target's root) that show each LUN."""

    def add_lun(self, size: int, *, layered: bool = False, room: int = 0) -> Lun:
        """A new LUN on a disk of its own, shown by every port.

        Args:
            size: bytes of the LUN.
            layered: let faults be put below it, see Machine.layer.
            room: bytes that it can grow to.
        """
        disk = self._machine.add_disk(max(size, room), layered=layered or bool(room), bare=True)
        if room:
            self._resize(disk, size)
        return self.add_lun_on(disk)

    def add_lun_on(self, disk: Disk) -> Lun:
        """A LUN on a bare disk, such as one of a shelf that other machines show, too."""
        taken = {lun.number for lun in self._luns}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        lun = Lun(disk, number, hashlib.sha256(str(disk.path).encode()).hexdigest()[:32])
        self.configure(self.steps_for(lun))
        self._luns.append(lun)
        return lun

    def remove_lun(self, lun: Lun) -> None:
        """Take a LUN away, and delete its disk."""
        self.eject_lun(lun)
        lun.disk.path.unlink()

    def eject_lun(self, lun: Lun) -> None:
        """Take a LUN away, and unplug its disk, whose file stays."""
        self.unplug_lun(lun)
        self.configure([["drop", f"target/{lun.back_end}"]])
        self._luns.remove(lun)
        self._machine.eject_disk(self._machine.like(lun.disk))

    def resize_lun(self, lun: Lun, size: int) -> None:
        """Give a LUN that was made with room another size; hosts see it when they look again."""
        self._resize(lun.disk, size)

    def _resize(self, disk: Disk, size: int) -> None:
        layer = self._machine.layer(disk)
        layer.switch([(0, size // SECTOR, "linear", f"{layer.below} 0")])

    def unplug_lun(self, lun: Lun) -> None:
        """Show a LUN no more: its paths go away, or fail."""
        self.configure([step for group in self.groups for step in _hide(group, lun)])

    def plug_lun(self, lun: Lun) -> None:
        """Show it again."""
        self.configure([step for group in self.groups for step in _show(group, lun)])

    def has(self, lun: Lun) -> bool:
        """Whether the LUN is one of these."""
        return lun in self._luns

    def steps_for(self, *luns: Lun) -> list[Step]:
        """Steps that make LUNs' back ends and show them."""
        steps: list[Step] = []
        for lun in luns:
            steps += _build(lun, self._machine.like(lun.disk).device)
            steps += (step for group in self.groups for step in _show(group, lun))
        return steps

    def configure(self, steps: list[Step]) -> None:
        """Carry out steps in the machine's kernel.

        Raises:
            GuestFault: the kernel refuses one.
        """
        self._machine.kernel.call("configure", steps=steps)


def fabric_of(machine: Machine, lun: Lun) -> Fabric:
    """What shows a LUN."""
    found = (item for item in machine.equipment if isinstance(item, Fabric))
    return next(fabric for fabric in found if fabric.has(lun))


def _build(lun: Lun, device: str) -> list[Step]:
    at = f"target/{lun.back_end}"
    return [
        ["make", at],
        ["write", f"{at}/control", f"udev_path={device}\n"],
        ["write", f"{at}/udev_path", device],
        ["write", f"{at}/wwn/vpd_unit_serial", lun.serial],
        ["write", f"{at}/wwn/vendor_id", lun.vendor],
        ["write", f"{at}/wwn/product_id", lun.product],
        ["write", f"{at}/enable", "1"],
    ]


def _show(group: str, lun: Lun) -> list[Step]:
    at = f"target/{group}/lun/lun_{lun.number}"
    return [["make", at], ["link", f"{at}/storage", f"target/{lun.back_end}"]]


def _hide(group: str, lun: Lun) -> list[Step]:
    at = f"target/{group}/lun/lun_{lun.number}"
    return [["unlink", f"{at}/storage"], ["drop", at]]
