"""A host bus adapter: LUNs that are simply there, as on a Fibre Channel fabric (tcm_loop).

Each port is an adapter of the host (`/sys/class/scsi_host/hostN`), and a path to every LUN:

    hba = HBA(machine, ports=2)
    lun = hba.add_lun(8 * GiB)       # /dev/sda and /dev/sdb, one LUN
    hba.fail(0)                      # the first path answers nothing any more
    hba.restore(0)
"""

import itertools

from testbed.devices import lio
from testbed.devices.lio import Lun, Step
from testbed.errors import DeviceRefused
from testbed.machine import Machine

#: Names of ports: an NAA identifier with the port's number, for the target's and the host's end.
_TARGET_PORT = "naa.5001405{:09x}"
_HOST_PORT = "naa.5001406{:09x}"

_port_numbers = itertools.count()


class HBA:
    """Adapters of one host that see the same LUNs.

    Args:
        machine: a machine that runs.
        ports: paths to each LUN.
    """

    def __init__(self, machine: Machine, *, ports: int = 1) -> None:
        self._machine = machine
        self._luns: list[Lun] = []
        self._ports = [next(_port_numbers) for _ in range(ports)]
        self.plug()
        machine.equipment.append(self)

    @property
    def ports(self) -> int:
        """How many there are."""
        return len(self._ports)

    def plug(self) -> None:
        """See Equipment. All paths work again."""
        self._machine.kernel.require("tcm_loop", *lio.MODULES)
        if self.ports > 1:
            self._machine.kernel.require(*lio.MULTIPATH)
        steps: list[Step] = []
        for port in self._ports:
            group = _group(port)
            steps += [
                ["make", f"target/{group}"],
                ["write", f"target/{group}/nexus", _HOST_PORT.format(port)],
            ]
        for lun in self._luns:
            steps += lio.build(self._machine, lun) + self._show(lun)
        lio.configure(self._machine, steps)

    def remove(self) -> None:
        """Unplug the adapters, and delete their LUNs."""
        for lun in list(self._luns):
            self.remove_lun(lun)
        steps: list[Step] = []
        for port in self._ports:
            group = f"target/{_group(port)}"
            steps += [["write", f"{group}/nexus", "NULL"], ["drop", group]]
            steps.append(["drop", group.rpartition("/")[0]])
        lio.configure(self._machine, steps)
        self._machine.equipment.remove(self)

    def add_lun(self, size: int, *, layered: bool = False, room: int = 0) -> Lun:
        """A new LUN of `size` bytes, plugged in on every port; see `lio.fresh_lun`."""
        taken = {lun.number for lun in self._luns}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        lun = lio.fresh_lun(self._machine, size, number, layered=layered, room=room)
        lio.configure(self._machine, lio.build(self._machine, lun) + self._show(lun))
        self._luns.append(lun)
        return lun

    def remove_lun(self, lun: Lun) -> None:
        """Pull a LUN out, and delete its disk."""
        lio.configure(self._machine, self._hide(lun) + lio.tear_down(lun))
        self._luns.remove(lun)
        self._machine.remove_disk(self._machine.like(lun.disk))

    def resize_lun(self, lun: Lun, size: int) -> None:
        """Give a LUN that was made with room another size; the host sees it when it looks."""
        lio.resize(self._machine, lun, size)

    def devices(self, lun: Lun) -> list[str]:
        """Block devices of a LUN, in the order of ports."""
        return [f"/dev/{name}" for name in self._machine.kernel.call("unit", scsi_id=lun.scsi_id)]

    def unplug_lun(self, lun: Lun) -> None:
        """Pull a LUN out on every port; its content stays."""
        lio.configure(self._machine, self._hide(lun))

    def plug_lun(self, lun: Lun) -> None:
        """Plug it in again."""
        lio.configure(self._machine, self._show(lun))

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
        lio.configure(self._machine, [["write", f"target/{group}/transport_status", status]])

    def _show(self, lun: Lun) -> list[Step]:
        return [step for port in self._ports for step in lio.show(_group(port), lun)]

    def _hide(self, lun: Lun) -> list[Step]:
        return [step for port in self._ports for step in lio.hide(_group(port), lun)]


def _group(port: int) -> str:
    return f"loopback/{_TARGET_PORT.format(port)}/tpgt_1"


def of(machine: Machine) -> HBA:
    """The adapter that SRs of kind `lvhdohba` stand on; it has one port."""
    for item in machine.equipment:
        if isinstance(item, HBA) and item.ports == 1:
            return item
    return HBA(machine)
