"""LVHDoHBASR (types `lvhdohba` and `lvmohba`): an LVHDSR on a LUN behind a host bus adapter.

    Exception
    ├── ConfigSCSIid 107     device_config has no SCSIid; the LUNs in reach are on stderr
    └── those of srs.lun

The LUN is there without anybody logging in. `device` of old device_configs is replaced by the
SCSI id of what it names, in the PBD too.

    <Devlist>
      <BlockDevice><path/><numpaths/><SCSIid/><vendor/><serial/><size/>
        <adapter/><channel/><id/><lun/><hba/></BlockDevice> ...
      <Adapter><host/><name/><manufacturer/><id/></Adapter> ...
    </Devlist>
"""

from contextlib import suppress
from typing import ClassVar, Final

from srs import scsi
from srs.errors import InvalidDev
from srs.lun import LUN_CAPABILITIES, LunSR
from srs.protocol import Request
from srs.scsi import Path
from srs.sr import DriverInfo

_ADAPTERS: Final = "/sys/class/scsi_host"
#: Seconds for the block device of a LUN that was found on the bus.
_APPEARS: Final = 1.0


class LVHDoHBASR(LunSR):
    """Disks on a LUN of a storage array that the host bus adapters see."""

    info: ClassVar[DriverInfo] = DriverInfo(
        type="lvhdohba",
        name="LVHD over FC",
        description="SR plugin which represents disks as VHDs on Logical Volumes within a "
        "Volume Group created on an HBA LUN, e.g. hardware-based iSCSI or FC support",
        capabilities=LUN_CAPABILITIES,
        configuration={
            "SCSIid": "The scsi_id of the destination LUN",
            "allocation": "thick (default) or thin",
        },
    )

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if "device" in self.config and not self.config.get("SCSIid"):
            self._name_by_id()

    def _name_by_id(self) -> None:
        device = self.config["device"]
        scsi_id = scsi.id_of(device)
        if not scsi_id:
            raise InvalidDev(f"{device} is no SCSI disk")
        self.config = {key: text for key, text in self.config.items() if key != "device"}
        self.config["SCSIid"] = scsi_id
        if self.ref:
            self.change_pbd(SCSIid=scsi_id, device="")

    def connect(self) -> bool:
        """See LunSR. A LUN that was added lately shows after a look at the bus."""
        if not scsi.paths(self.scsi_id):
            scsi.rescan()
            scsi.wait_for(lambda: bool(scsi.paths(self.scsi_id)), seconds=_APPEARS)
        return False

    def describe_units(self) -> str:
        """See LunSR."""
        scsi.rescan()
        units: dict[str, list[Path]] = {}
        for path in scsi.paths():
            units.setdefault(path.scsi_id, []).append(path)
        lines = ["<?xml version='1.0' ?>", "<Devlist>"]
        for found in units.values():
            lines += _block_device(found)
        hosts = {path.host for path in scsi.paths()}
        for host in sorted(hosts):
            lines += _adapter(host)
        return "\n".join([*lines, "</Devlist>", ""])


def _block_device(paths: list[Path]) -> list[str]:
    first = paths[0]
    fields = {
        "path": first.device,
        "numpaths": len(paths),
        "SCSIid": first.scsi_id,
        "vendor": first.vendor,
        "serial": first.serial,
        "size": first.size,
        "adapter": f"host{first.host}",
        "channel": first.channel,
        "id": first.target,
        "lun": first.lun,
        "hba": _attribute(first.host, "proc_name"),
    }
    return scsi.element("BlockDevice", fields)


def _adapter(host: int) -> list[str]:
    name = _attribute(host, "proc_name")
    fields = {"host": f"host{host}", "name": name, "manufacturer": name, "id": host}
    return scsi.element("Adapter", fields)


def _attribute(host: int, name: str) -> str:
    with suppress(OSError), open(f"{_ADAPTERS}/host{host}/{name}", encoding="utf-8") as file:
        return file.read().strip()
    return ""
