"""iSCSI: a target with LUNs (the kernel's own, LIO), and what a host needs to log in there.

    target = Target(machine, chap=Chap("me", "a secret of 12"))
    lun = target.add_lun(8 * GiB)
    target.stop()       # every session breaks, and nobody can log in
    target.start()      # they come back by themselves

The target may run in the host's own kernel, reached over loopback, or in a storage kernel.
Portals are addresses that the machine has; on loopback, all of 127.0.0.0/8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from testbed.devices import lio
from testbed.devices.lio import Fabric, Lun, Step
from testbed.errors import DeviceRefused
from testbed.machine import Machine

PORT: Final = 3260
_PREFIX: Final = "iqn.2026-01.org.sr-testbed"

#: Anybody may log in who knows the secrets, and write; this is a target, not a lesson in access.
_OPEN: Final = {
    "generate_node_acls": "1",
    "cache_dynamic_acls": "1",
    "demo_mode_write_protect": "0",
}

#: A configuration of the guest's own in place of the machine's: nothing logs in by itself.
_PREPARE: Final = """
set -e
mkdir -p /run/iscsi-conf
printf 'node.startup = manual\\n' > /run/iscsi-conf/iscsid.conf
mount --bind /run/iscsi-conf /etc/iscsi
"""


@dataclass(frozen=True, slots=True)
class Chap:
    """A name and its secret (LIO takes any length, other targets want 12 to 16 characters)."""

    user: str
    secret: str


class Target(Fabric):
    """An iSCSI target of a machine.

    Args:
        machine: a machine that runs.
        name: last part of its IQN.
        portals: addresses; by default the machine's own, or loopback.
        port: TCP port.
        chap: who may log in; None: everybody.
        mutual: who the target is to a host that asks.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        name: str = "storage",
        portals: Sequence[str] = (),
        port: int = PORT,
        chap: Chap | None = None,
        mutual: Chap | None = None,
    ) -> None:
        if machine.kernel.kind == "local":
            raise DeviceRefused(
                "this machine's own kernel would be the target", hint="--kernel uml"
            )
        super().__init__(machine)
        self.iqn = f"{_PREFIX}:{name}"
        self.portals = tuple(portals) or (machine.address if machine.nics else "127.0.0.1",)
        self.port = port
        self._chap = chap
        self._mutual = mutual
        self.plug()
        machine.equipment.append(self)

    @property
    def _group(self) -> str:
        return f"iscsi/{self.iqn}/tpgt_1"

    @property
    def groups(self) -> Sequence[str]:
        """See Fabric."""
        return [self._group]

    def plug(self) -> None:
        """See Equipment."""
        self._machine.kernel.require("iscsi_target_mod", *lio.MODULES)
        group = f"target/{self._group}"
        steps: list[Step] = [["make", group]]
        steps += [["make", f"{group}/np/{portal}:{self.port}"] for portal in self.portals]
        steps += [["write", f"{group}/attrib/{key}", text] for key, text in _OPEN.items()]
        steps += self._access() + self.steps_for(*self._luns)
        self.configure([*steps, ["write", f"{group}/enable", "1"]])

    def _access(self) -> list[Step]:
        group = f"target/{self._group}"
        names = {
            "userid": self._chap and self._chap.user,
            "password": self._chap and self._chap.secret,
            "userid_mutual": self._mutual and self._mutual.user,
            "password_mutual": self._mutual and self._mutual.secret,
        }
        return [
            ["write", f"{group}/attrib/authentication", "1" if self._chap else "0"],
            ["write", f"{group}/param/AuthMethod", "CHAP" if self._chap else "CHAP,None"],
            *(["write", f"{group}/auth/{key}", text or "NULL"] for key, text in names.items()),
        ]

    def remove(self) -> None:
        """End its sessions and remove it, with its LUNs."""
        self.stop()
        for lun in list(self._luns):
            self.remove_lun(lun)
        group = f"target/{self._group}"
        steps = [["drop", f"{group}/np/{portal}:{self.port}"] for portal in self.portals]
        self.configure([*steps, ["drop", group], ["drop", group.rpartition("/")[0]]])
        self._machine.equipment.remove(self)

    def device_config(self, lun: Lun) -> dict[str, str]:
        """What an SR on a LUN needs to know, beside secrets."""
        config = {"target": self.portals[0], "targetIQN": self.iqn, "SCSIid": lun.scsi_id}
        return config if self.port == PORT else {**config, "port": str(self.port)}

    def change_access(self, chap: Chap | None, mutual: Chap | None = None) -> None:
        """From now on others may log in; sessions that are there go on."""
        self._chap, self._mutual = chap, mutual
        self.configure(self._access())

    def stop(self) -> None:
        """Break every session, and refuse logins."""
        self.configure([["write", f"target/{self._group}/enable", "0"]])

    def start(self) -> None:
        """The opposite of `stop`."""
        self.configure([["write", f"target/{self._group}/enable", "1"]])


class Initiator:
    """What a host needs to log in anywhere: modules, and room for open-iscsi's files.

    The daemon is started by the driver that needs it first. Kept in `Machine.equipment`.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.iqn = f"{_PREFIX}:{machine.hostname}"
        self.plug()
        machine.equipment.append(self)

    def plug(self) -> None:
        """See Equipment."""
        self._machine.kernel.require("iscsi_tcp", "sd_mod", *lio.MULTIPATH)
        done = self._machine.kernel.run(["sh", "-c", _PREPARE])
        if done.returncode:
            raise DeviceRefused(
                f"/etc/iscsi cannot be replaced: {done.stderr}", hint="apt-get install open-iscsi"
            )


def initiator_of(machine: Machine) -> Initiator:
    """The initiator of a machine, made when it is first wanted."""
    return next((i for i in machine.equipment if isinstance(i, Initiator)), None) or Initiator(
        machine
    )


def target_of(machine: Machine) -> Target:
    """The target that SRs of kind `lvhdoiscsi` stand on, made when it is first wanted."""
    found = (item for item in machine.equipment if isinstance(item, Target))
    name = f"{_PREFIX}:storage"
    return next((target for target in found if target.iqn == name), None) or Target(machine)
