"""Simulated VMs as scenarios see them: XenAPI calls, and bytes through the VM's own devices."""

from collections.abc import Sequence
from typing import Any

from scenarios.oracle import Content, Model, Span
from scenarios.storage import VDI, Repository
from testbed.member import Member

_BARE_VBD = {
    "bootable": False,
    "empty": False,
    "other_config": {},
    "qos_algorithm_type": "",
    "qos_algorithm_params": {},
}


class Machine:
    """One VM, or a snapshot of one, by reference."""

    def __init__(self, host: Member, api: Any, ref: str) -> None:
        self.host = host
        self.xenapi = api
        self.ref = ref

    @property
    def api(self) -> Any:
        """The XenAPI's VM messages."""
        return self.xenapi.VM

    @property
    def power_state(self) -> str:
        """Halted, Running, Suspended or Paused."""
        return str(self.api.get_power_state(self.ref))

    def connect(self, vdi: VDI, userdevice: str, **fields: object) -> str:
        """Give a disk to the VM; returns the VBD."""
        record = {"VM": self.ref, "VDI": vdi.ref, "userdevice": userdevice}
        kind = {"mode": "RW", "type": "Disk"}
        return str(self.xenapi.VBD.create(_BARE_VBD | kind | record | fields))

    def start(self) -> None:
        """Let it run."""
        self.api.start(self.ref, False, False)

    def halt(self) -> None:
        """Take its power away."""
        self.api.hard_shutdown(self.ref)

    def snapshot(self, name: str = "snapshot") -> "Machine":
        """A snapshot."""
        return Machine(self.host, self.xenapi, self.api.snapshot(self.ref, name))

    def checkpoint(self) -> "Machine":
        """A snapshot with memory."""
        return Machine(self.host, self.xenapi, self.api.checkpoint(self.ref, "checkpoint"))

    def revert(self) -> None:
        """Revert the VM that this snapshot was taken of."""
        self.api.revert(self.ref)

    # --- disks -----------------------------------------------------------------------------

    def vbds(self) -> dict[str, str]:
        """Userdevice -> VBD of its disks."""
        vbds = {vbd: self.xenapi.VBD.get_record(vbd) for vbd in self.api.get_VBDs(self.ref)}
        disks = {record["userdevice"]: vbd for vbd, record in vbds.items() if _is_disk(record)}
        return dict(sorted(disks.items()))

    def disks(self) -> dict[str, str]:
        """Userdevice -> VDI of its disks: what clients keep books about."""
        return {device: self.xenapi.VBD.get_VDI(vbd) for device, vbd in self.vbds().items()}

    def device(self, userdevice: str) -> str:
        """The block device on the host behind a disk of the running VM."""
        properties = self.xenapi.VBD.get_runtime_properties(self.vbds()[userdevice])
        return str(properties["device"])

    def write(self, userdevice: str, spans: Sequence[Span]) -> None:
        """What the guest does when it writes and syncs."""
        self.host.write(self.device(userdevice), *((span.offset, span.data) for span in spans))

    def must_see(self, userdevice: str, model: Model) -> None:
        """Compare every byte that the running VM sees on a disk with the model."""
        found = Content(*self.host.digest(self.device(userdevice)))
        if found != model.content():
            raise AssertionError(
                f"disk {userdevice} of the VM shows {found}, expected {model.content()}"
            )

    def remove(self) -> None:
        """Destroy the record; a memory image goes with it, disks stay."""
        if self.power_state != "Halted":
            self.halt()
        self.api.destroy(self.ref)


class Machines:
    """Makes VMs, and takes all of them and their snapshots away again."""

    def __init__(self, sr: Repository) -> None:
        self._sr = sr
        self._before = set(sr.api.VM.get_all())

    def make(self, *disks: VDI) -> Machine:
        """A halted VM with these disks on userdevice 0, 1, ..."""
        api = self._sr.api
        host = self._sr.host
        wishes = {"suspend_SR": self._sr.ref, "affinity": host.ref}
        machine = Machine(host, api, api.VM.create({"name_label": "machine"} | wishes))
        for number, disk in enumerate(disks):
            machine.connect(disk, str(number))
        return machine

    def clear(self) -> None:
        """Remove every VM that was not there before."""
        for ref in set(self._sr.api.VM.get_all()) - self._before:
            Machine(self._sr.host, self._sr.api, ref).remove()


def _is_disk(record: dict[str, Any]) -> bool:
    return bool(record["type"] == "Disk")
