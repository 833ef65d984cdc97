"""SRs that all hosts of a pool have plugged in: one call from nothing to there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from testbed.devices import hba, iscsi
from testbed.devices.disk import GiB
from testbed.devices.nfs import make_client
from testbed.errors import DeviceRefused
from testbed.machine import Machine
from testbed.pool import Pool
from testbed.provision import RECIPES, Medium, ProvisionedSR, name_initiator


@dataclass(frozen=True, slots=True)
class _NfsClient:
    """What a host must have after each boot to mount exports. See Equipment."""

    machine: Machine

    def plug(self) -> None:
        """Load the modules, start the daemon."""
        make_client(self.machine.kernel)


def _disk(pool: Pool, _session: Any, size: int) -> tuple[Medium, dict[str, str]]:
    """A disk in every host, under the same name."""
    disk = pool.add_disk(size)
    return disk, {"device": disk.device}


def _lun(pool: Pool, _session: Any, size: int) -> tuple[Medium, dict[str, str]]:
    """One disk behind the adapter of every host: a LUN of one SCSI id."""
    path = pool.shelf.add_disk(size)
    luns = [hba.of(host).add_lun_on(host.add_shared_disk(path, bare=True)) for host in pool.hosts]
    return luns[0], {"SCSIid": luns[0].scsi_id}


def _export(pool: Pool, _session: Any, size: int) -> tuple[Medium, dict[str, str]]:
    """An export of the storage kernel."""
    fresh = [_NfsClient(host) for host in pool.hosts if _NfsClient(host) not in host.equipment]
    pool.at_once([client.plug for client in fresh])
    for client in fresh:
        client.machine.equipment.append(client)
    export = pool.storage.add_export(size)
    return export, {"server": export.server, "serverpath": export.path}


def _remote_lun(pool: Pool, session: Any, size: int) -> tuple[Medium, dict[str, str]]:
    """A LUN of the storage kernel's iSCSI target."""
    for host in pool.hosts:
        name_initiator(host, session)
    target = iscsi.target_of(pool.storage)
    lun = target.add_lun(size)
    return lun, target.device_config(lun)


_Maker = Callable[[Pool, Any, int], tuple[Medium, dict[str, str]]]

#: How to make what an SR of a kind stands on, and the device_config that leads there.
_MAKERS: Final[Mapping[str, _Maker]] = {
    "lvhd": _disk,
    "lvhd-thin": _disk,
    "lvhdohba": _lun,
    "lvhdoiscsi": _remote_lun,
    "nfs": _export,
    "nfs-v4": _export,
}
#: Kinds of SR that a pool can share, by the name that `--sr` takes.
KINDS = tuple(_MAKERS)


def provision_shared(
    pool: Pool,
    session: Any,
    kind: str,
    *,
    driver: str = "",
    size: int = 8 * GiB,
    layered: bool = False,
) -> ProvisionedSR:
    """Make devices that all hosts reach, and a shared SR on them through the XenAPI.

    The devices are there until the pool ends.

    Args:
        pool: a pool that runs.
        session: a XenAPI session.
        kind: one of KINDS.
        driver: another driver than the recipe's, for variants of it.
        size: bytes of the disk below; sparse.
        layered: what `provision` can do and a pool cannot.

    Raises:
        DeviceRefused: no such kind, or no layers.
        XenAPI.Failure: a driver refused.
    """
    if kind not in KINDS:
        raise DeviceRefused(f"a pool cannot share {kind!r}", hint=f"kinds: {', '.join(KINDS)}")
    if layered:
        raise DeviceRefused("what a pool shares has no layers", hint="use one host")
    recipe = RECIPES[kind]
    medium, where = _MAKERS[kind](pool, session, size)
    device_config = {**where, **recipe.device_config}
    api = session.xenapi
    ref = api.SR.create(
        pool.master.ref,
        device_config,
        "0",
        f"{kind} SR",
        "made by sr-testbed",
        driver or recipe.driver,
        "user",
        True,
        {},
    )
    return ProvisionedSR(kind, ref, api.SR.get_uuid(ref), medium, device_config)
