"""A host bus adapter: LUNs that are simply there, as on a Fibre Channel fabric (tcm_loop).

Each port is an adapter of the host (`/sys/class/scsi_host/hostN`), and a path to every LUN:

    hba = HBA(machine, ports=2)
    lun = hba.add_lun(8 * GiB)       # /dev/sda and /dev/sdb, one LUN
    hba.fail(0)                      # the first path answers nothing any more
    hba.restore(0)
"""

import itertools
from collections.abc import Sequence

from testbed.devices import lio
from testbed.devices.lio import Fabric, Lun, Step
from testbed.errors import DeviceRefused
from testbed.machine import Machine

#: Names of ports: an NAA identifier with the port's number, for the target's and the host's end.
_TARGET_PORT = "naa.5001405{:09x}"
_HOST_PORT = "naa.5001406{:09x}"

_port_numbers = itertools.count()


class HBA(Fabric):
    """Adapters of one host that see the same LUNs.

    Args:
        machine: a machine that runs.
        ports: paths to each LUN.
    """

    def __init__(self, machine: Machine, *, ports: int = 1) -> None:
        super().__init__(machine)
        self._ports = [next(_port_numbers) for _ in range(ports)]
        self.plug()
        machine.equipment.append(self)

    @property
    def ports(self) -> int:
        """How many there are."""
        return len(self._ports)

    @property
    def groups(self) -> Sequence[str]:
        """See Fabric."""
        return [_group(port) for port in self._ports]

    def plug(self) -> None:
        """See Equipment. All paths work again."""
        self._machine.kernel.require("tcm_loop", *lio.MODULES)
        if self.ports > 1:
            self._machine.kernel.require(*lio.MULTIPATH)
        steps: list[Step] = []
        for port, group in zip(self._ports, self.groups, strict=True):
            steps += [
                ["make", f"target/{group}"],
                ["write", f"target/{group}/nexus", _HOST_PORT.format(port)],
            ]
        self.configure(steps + self.steps_for(*self._luns))

    def remove(self) -> None:
        """Unplug the adapters, and delete their LUNs."""
        for lun in list(self._luns):
            self.remove_lun(lun)
        steps: list[Step] = []
        for group in self.groups:
            steps += [["write", f"target/{group}/nexus", "NULL"], ["drop", f"target/{group}"]]
            steps.append(["drop", f"target/{group.rpartition('/')[0]}"])
        self.configure(steps)
        self._machine.equipment.remove(self)

    def devices(self, lun: Lun) -> list[str]:
        """Block devices of a LUN, in the order of ports."""
        return [f"/dev/{name}" for name in self._machine.kernel.call("unit", scsi_id=lun.scsi_id)]

    def fail(self, port: int) -> None:
        """Cut a path: from now on every request on it fails at once.

        Raises:
            DeviceRefused: there is no such port.
        """
        self._set_transport(port, "offline")

    def restore(self, port: int) -> None:
        """Let a path work again."""
        self._set_transport(port, "online")

    def _set_transport(self, port: int, status: str) -> None:
        if port not in range(self.ports):
            raise DeviceRefused(f"no port {port}; there are {self.ports}")
        group = _group(self._ports[port])
        self.configure([["write", f"target/{group}/transport_status", status]])


def _group(port: int) -> str:
    return f"loopback/{_TARGET_PORT.format(port)}/tpgt_1"


def of(machine: Machine) -> HBA:
    """The adapter that SRs of kind `lvhdohba` stand on; it has one port."""
    for item in machine.equipment:
        if isinstance(item, HBA) and item.ports == 1:
            return item
    return HBA(machine)
