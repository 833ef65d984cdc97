"""Storage repositories on devices of their own: one call from nothing to a plugged SR."""

from dataclasses import dataclass, field
from typing import Any

from testbed.devices import hba, iscsi, lio
from testbed.devices.disk import Disk, GiB, MiB
from testbed.devices.lio import Lun
from testbed.devices.nfs import Export
from testbed.errors import DeviceRefused
from testbed.member import Member

#: What an SR stands on: a disk, a LUN, an export, or the path of a directory.
Medium = Disk | Lun | Export | str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make an SR of one kind.

    Attributes:
        driver: the SR type.
        medium: "directory" (an ext4 file system for device_config location), "disk", "hba"
            (a LUN, for device_config SCSIid), "iscsi" (a LUN of a target on the host itself),
            or "export" (an ext4 file system that the host's own NFS server exports).
        device_config: what the driver is told beside that.
        shared: whether several hosts may plug the SR.
        memory: bytes that a host needs beyond the usual, if it is to have some SRs of the kind.
    """

    driver: str
    medium: str
    device_config: dict[str, str] = field(default_factory=dict)
    shared: bool = False
    memory: int = 0


#: Kinds of SR that the testbed can make, by the name that `--sr` takes.
RECIPES = {
    "file": Recipe("file", "directory"),
    "ext": Recipe("ext", "disk"),
    "lvhd": Recipe("lvhd", "disk"),
    "lvhd-thin": Recipe("lvhd", "disk", {"allocation": "thin"}),
    "lvhdohba": Recipe("lvhdohba", "hba", shared=True, memory=8 * MiB),
    "nfs": Recipe("nfs", "export", shared=True, memory=8 * MiB),
    "nfs-v4": Recipe("nfs", "export", {"nfsversion": "4"}, shared=True, memory=8 * MiB),
    "lvhdoiscsi": Recipe("lvhdoiscsi", "iscsi", shared=True, memory=24 * MiB),
}


@dataclass(frozen=True, slots=True)
class ProvisionedSR:
    """An SR, plugged, with what it stands on and the device_config that it was made with."""

    kind: str
    ref: str
    uuid: str
    medium: Medium
    device_config: dict[str, str]


def provision(
    host: Member,
    session: Any,
    kind: str,
    *,
    driver: str = "",
    size: int = 8 * GiB,
    label: str = "",
    layered: bool = False,
) -> ProvisionedSR:
    """Make devices and an SR on them through the XenAPI.

    Args:
        host: a host that runs.
        session: a XenAPI session.
        kind: a key of RECIPES.
        driver: another driver than the recipe's, for variants of it.
        size: bytes of the disk below; sparse.
        label: the SR's name_label.
        layered: let faults be put below its device (`Host.layer` of the medium).

    Raises:
        DeviceRefused: no such kind.
        XenAPI.Failure: the driver refused; the devices are gone again.
    """
    recipe = RECIPES.get(kind)
    if recipe is None:
        raise DeviceRefused(f"no SR kind {kind!r}", hint=f"kinds: {', '.join(RECIPES)}")
    medium: Medium
    if recipe.medium == "directory":
        medium = host.add_directory(size, layered=layered)
        location = f"{medium}/sr"
        host.kernel.call("make_directory", path=location)
        device_config = {"location": location, **recipe.device_config}
    elif recipe.medium == "hba":
        medium = hba.of(host).add_lun(size, layered=layered)
        device_config = {"SCSIid": medium.scsi_id, **recipe.device_config}
    elif recipe.medium == "export":
        medium = host.add_export(size, layered=layered)
        where = {"server": medium.server, "serverpath": medium.path}
        device_config = {**where, **recipe.device_config}
    elif recipe.medium == "iscsi":
        target = iscsi.target_of(host)
        name_initiator(host, session)
        medium = target.add_lun(size, layered=layered)
        device_config = {**target.device_config(medium), **recipe.device_config}
    else:
        medium = host.add_disk(size, layered=layered)
        device_config = {"device": medium.device, **recipe.device_config}
    api = session.xenapi
    try:
        ref = api.SR.create(
            host.ref,
            device_config,
            "0",
            label or f"{kind} SR",
            "made by sr-testbed",
            driver or recipe.driver,
            "user",
            recipe.shared,
            {},
        )
    except BaseException:
        release_medium(host, medium)
        raise
    return ProvisionedSR(kind, ref, api.SR.get_uuid(ref), medium, device_config)


def name_initiator(host: Member, session: Any) -> None:
    """Let a host log in to iSCSI targets, under a name that its record has."""
    name = iscsi.initiator_of(host).iqn
    api = session.xenapi
    if "iscsi_iqn" not in api.host.get_other_config(host.ref):
        api.host.add_to_other_config(host.ref, "iscsi_iqn", name)


def release_medium(host: Member, medium: Medium) -> None:
    """Remove the devices that an SR stood on."""
    if isinstance(medium, Lun):
        lio.fabric_of(host, medium).remove_lun(medium)
    elif isinstance(medium, Disk):
        host.remove_disk(medium)
    elif isinstance(medium, Export):
        host.remove_export(medium)
    else:
        host.remove_directory(medium)


def retire(host: Member, session: Any, sr: ProvisionedSR) -> None:
    """Unplug, destroy on disk, and remove the devices of an SR. It must hold no VDI."""
    api = session.xenapi
    for pbd in api.SR.get_PBDs(sr.ref):
        api.PBD.unplug(pbd)
    api.SR.destroy(sr.ref)
    release_medium(host, sr.medium)
