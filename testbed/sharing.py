"""SRs that all hosts of a pool have plugged in: one call from nothing to there."""

from dataclasses import dataclass
from typing import Any

from testbed.devices.disk import Disk, GiB
from testbed.devices.nfs import Export, make_client
from testbed.errors import DeviceRefused
from testbed.machine import Machine
from testbed.pool import Pool
from testbed.provision import RECIPES, Medium, ProvisionedSR

#: Kinds of SR that a pool can share, by the name that `--sr` takes.
KINDS = ("lvhd", "lvhd-thin", "nfs", "nfs-v4")


@dataclass(frozen=True, slots=True)
class _NfsClient:
    """What a host must have after each boot to mount exports. See Equipment."""

    machine: Machine

    def plug(self) -> None:
        """Load the modules, start the daemon."""
        make_client(self.machine.kernel)


def _make_clients(pool: Pool) -> None:
    fresh = [_NfsClient(host) for host in pool.hosts if _NfsClient(host) not in host.equipment]
    pool.at_once([client.plug for client in fresh])
    for client in fresh:
        client.machine.equipment.append(client)


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

    A disk is plugged into every host, an export is the storage kernel's.

    Args:
        pool: a pool that runs.
        session: a XenAPI session.
        kind: one of KINDS.
        driver: another driver than the recipe's, for variants of it.
        size: bytes of the disk below; sparse.
        layered: let faults be put below an export (`Machine.layer` of the storage kernel).

    Raises:
        DeviceRefused: no such kind, or no layer.
        XenAPI.Failure: a driver refused; the devices are gone again.
    """
    if kind not in KINDS:
        raise DeviceRefused(f"a pool cannot share {kind!r}", hint=f"kinds: {', '.join(KINDS)}")
    recipe = RECIPES[kind]
    medium: Medium
    if recipe.medium == "export":
        _make_clients(pool)
        medium = pool.storage.add_export(size, layered=layered)
        device_config = {"server": medium.server, "serverpath": medium.path}
    else:
        if layered:
            raise DeviceRefused("shared disks have no layers", hint="use one host")
        medium = pool.add_disk(size)
        device_config = {"device": medium.device}
    device_config |= recipe.device_config
    api = session.xenapi
    try:
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
    except BaseException:
        _release(pool, medium)
        raise
    return ProvisionedSR(kind, ref, api.SR.get_uuid(ref), medium, device_config)


def retire_shared(pool: Pool, session: Any, sr: ProvisionedSR) -> None:
    """Unplug, destroy on disk, and remove the devices of a shared SR. It must hold no VDI."""
    api = session.xenapi
    for pbd in api.SR.get_PBDs(sr.ref):
        api.PBD.unplug(pbd)
    api.SR.destroy(sr.ref)
    _release(pool, sr.medium)


def _release(pool: Pool, medium: Medium) -> None:
    if isinstance(medium, Export):
        pool.storage.remove_export(medium)
    elif isinstance(medium, Disk):
        pool.remove_disk(medium)
