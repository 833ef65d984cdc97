"""A device-mapper device below a disk, whose table can be switched while the disk is in use.

    sparse file -> /dev/ubdX -> layer -> /dev/loopN -> volume group or file system

Drivers, and LVM's filter, see a loop device as ever. It has no cache of its own, so what the
layer answers is what they get. A layer begins by passing everything through, and does so
again after the host booted again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from srs.devicemapper import Row
from testbed.kernel.base import Kernel, layer_name

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Layer:
    """The layer of one disk; for as long as its kernel runs.

    Attributes:
        kernel: where it is.
        below: the device that holds the bytes, such as /dev/ubdb.
        size: bytes.
    """

    kernel: Kernel
    below: str
    size: int

    @property
    def name(self) -> str:
        """What device-mapper calls it."""
        return layer_name(self.below)

    @property
    def sectors(self) -> int:
        """Its length as tables count it."""
        return self.size // SECTOR

    def switch(self, rows: Iterable[Row]) -> None:
        """Give it another table, at once; requests that are under way end in the old one.

        Raises:
            GuestFault: the kernel refuses the table, and says why on its console.
        """
        self.kernel.call("dm_switch", name=self.name, table=list(rows))

    def target(self, kind: str, parameters: str = "", *, module: str = "") -> None:
        """Switch to one target for all of it. `parameters` follow the device and its offset.

        Args:
            kind: the target's name.
            parameters: what the kernel's text about the target lists after `<dev> <offset>`.
            module: the kernel module that has it, where that is not built in.
        """
        if module:
            self.kernel.require(module)
        self.switch([(0, self.sectors, kind, f"{self.below} 0 {parameters}".rstrip())])

    def pass_through(self) -> None:
        """Be as if it were not there."""
        self.target("linear")

    def message(self, text: str) -> None:
        """Send a message to the target. Raises GuestFault: it does not understand."""
        self.kernel.call("dm_message", name=self.name, text=text)

    def status(self) -> str:
        """What the first target reports about itself."""
        return str(self.kernel.call("dm_status", name=self.name)[0][3])

    def suspend(self) -> None:
        """Hang: requests wait."""
        self.kernel.call("dm_suspend", name=self.name)

    def resume(self) -> None:
        """Let what waits go on."""
        self.kernel.call("dm_resume", name=self.name)
