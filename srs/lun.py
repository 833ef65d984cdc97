"""An LVHDSR on one LUN, which is found by its SCSI id: what HBA and iSCSI SRs have in common.

    Exception
    ├── InvalidDev 19      no path leads to a unit with this SCSI id
    ├── SRUnavailable 47   the same, when the SR was there before
    └── PVMultiIDs 119     the volume group lies on other units too

A subclass brings the LUN here (`connect`) and lets it go (`disconnect`). Commands about disks
do neither: they find the volume group as sr_attach has left it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from srs import lvm, multipath, scsi
from srs.errors import ConfigSCSIid, InvalidDev, SRUnavailable
from srs.file import VHD_CAPABILITIES
from srs.lvhd import LVHDSR
from srs.offline import LunVDI
from srs.protocol import Request
from srs.scsierrors import PVMultiIDs
from srs.session import Record

#: What drivers on LUNs can do. XenServer's claim more: SR_METADATA, SR_TRIM, SR_CACHING and
#: VDI_RESET_ON_BOOT; what is not here is not claimed.
LUN_CAPABILITIES: Final = (*VHD_CAPABILITIES, "VDI_GENERATE_CONFIG")

#: A LUN that grew by less is not worth a change of LVM's metadata (bytes).
_WORTH_GROWING: Final = 100 << 20


class LunSR(LVHDSR):
    """Disks in a volume group on one LUN."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        lvm.know("sd")

    # -- what a subclass does

    def connect(self) -> bool:
        """Bring the LUN here; returns whether there is something for disconnect to let go."""
        return False

    def disconnect(self) -> None:
        """Let go what connect brought, unless somebody else uses it."""

    def describe_units(self) -> str:
        """The XML document about the units within reach, for a caller who named none."""
        return ""

    # -- the LUN

    @property
    def scsi_id(self) -> str:
        """The SCSI id that device_config names.

        Raises:
            ConfigSCSIid: it names none; the error carries a list of those in reach.
        """
        scsi_id = self.config.get("SCSIid", "").strip()
        if not scsi_id or "/" in scsi_id:
            raise ConfigSCSIid(stderr=self.describe_units())
        return scsi_id

    def devices(self) -> list[str]:
        """See LVHDSR. The one name that LVM knows the LUN by."""
        link = scsi.published(self.scsi_id)
        if not link:
            raise InvalidDev(f"no unit with SCSI id {self.scsi_id}")
        return [link]

    @contextmanager
    def opened_lun(self, *, keep: bool = True) -> Iterator[None]:
        """Connect, and give LVM a name for the LUN, as long as the block runs or for longer.

        When the block fails, what was done for it is undone; not what was there before, by an
        attach of this SR or of another one that has the LUN.

        Raises:
            InvalidDev: it is not there.
        """
        was_open = bool(scsi.published(self.scsi_id))
        brought = self.connect()
        done = False
        try:
            self._publish()
            yield
            done = True
        finally:
            if not (done and keep):
                if not was_open:
                    self._unpublish()
                if brought:
                    self.disconnect()

    def _publish(self) -> None:
        found = scsi.paths(self.scsi_id)
        if not found:
            raise InvalidDev(f"no unit with SCSI id {self.scsi_id}")
        if self.multipathing:
            scsi.publish(self.scsi_id, multipath.assemble(found), "mapper")
        else:
            scsi.publish(self.scsi_id, found[0].device, found[0].name)

    def _unpublish(self) -> None:
        scsi.withdraw(self.scsi_id)
        multipath.dissolve(self.scsi_id)

    def close_lun(self) -> None:
        """Let the LUN go."""
        self._unpublish()
        self.disconnect()

    @property
    def multipathing(self) -> bool:
        """Whether all paths are used: as configured here, or for the host."""
        if "multipathing" in self.config:
            return self.config["multipathing"] == "true"
        host = self.session.call("host.get_record", self.request.host_ref)
        return bool(host["multipathing"]) or host["other_config"].get("multipathing") == "true"

    def change_pbd(self, **keys: str) -> None:
        """Change this host's device_config of the SR; an empty text takes a key away."""
        for ref, record in self._pbds().items():
            config = {**record["device_config"], **keys}
            config = {key: text for key, text in config.items() if text}
            self.session.call("PBD.set_device_config", ref, config)

    def note_in_pbd(self, key: str, text: str) -> None:
        """Write something into other_config of this host's PBD of the SR."""
        for ref, record in self._pbds().items():
            if record["other_config"].get(key) != text:
                self.session.call("PBD.remove_from_other_config", ref, key)
                self.session.call("PBD.add_to_other_config", ref, key, text)

    def _pbds(self) -> dict[str, Record]:
        where = f'field "SR" = "{self.ref}" and field "host" = "{self.request.host_ref}"'
        found: dict[str, Record] = self.session.call("PBD.get_all_records_where", where)
        return found

    # -- disks

    def vdi(self, uuid: str) -> LunVDI:
        """See CowSR."""
        return LunVDI(self, uuid)

    def offline_config(self) -> dict[str, str]:
        """device_config with what is otherwise read from the database."""
        kept = {key: text for key, text in self.config.items() if key != "SRmaster"}
        return {**kept, "multipathing": str(self.multipathing).lower()}

    # -- the SR

    def is_attached(self) -> bool:
        """Whether sr_attach has made the SR usable on this host."""
        return self.group.exists and self._metadata_is_active()

    def create(self, size: int) -> None:
        """sr_create: the LUN stays connected for the attach that follows."""
        self.require_master()
        with self.opened_lun():
            super().create(size)

    def attach(self) -> None:
        """sr_attach: connect, then as LVHDSR."""
        try:
            with self.opened_lun():
                self._require_one_unit()
                self._follow_size()
                super().attach()
        except InvalidDev as error:
            raise SRUnavailable(error.opterr) from error

    def _require_one_unit(self) -> None:
        if not self.group.exists:
            raise SRUnavailable(f"no volume group {self.group.name} on {self.scsi_id}")
        here = os.path.realpath(scsi.published(self.scsi_id))
        others = {name for name in self.group.devices if os.path.realpath(name) != here}
        if others:
            units = sorted(scsi.id_of(name) or name for name in others)
            raise PVMultiIDs(f"{self.scsi_id} and {', '.join(units)}")

    def _follow_size(self) -> None:
        """Use what the LUN has grown by."""
        found = scsi.paths(self.scsi_id)
        for path in found:
            path.refresh()
        if multipath.exists(self.scsi_id):
            multipath.assemble(scsi.paths(self.scsi_id))
        if not self.request.is_master:
            return
        link = scsi.published(self.scsi_id)
        if _size(link) - self.group.size >= _WORTH_GROWING:
            lvm.lvm("pvresize", link)
            lvm.flush([link])
            self.group.reread()

    def prepare(self) -> None:
        """As LVHDSR; after all paths had failed, those that work again are used again."""
        if multipath.exists(self.scsi_id) and not self.group.exists:
            multipath.assemble(scsi.paths(self.scsi_id))
            self.group.reread()
        super().prepare()

    def detach(self) -> None:
        """sr_detach: as LVHDSR, then let the LUN go."""
        super().detach()
        self.close_lun()

    def delete(self) -> None:
        """sr_delete: the volume group; its PBD is detached afterwards."""
        with self.opened_lun():
            super().delete()
        self.close_lun()

    def scan(self) -> None:
        """sr_scan: use paths that work again and room that came, then as LVHDSR."""
        self.require_master()
        self._follow_size()
        super().scan()

    def probe(self) -> str:
        """sr_probe: the SRs of this type on the LUN."""
        with self.opened_lun(keep=False):
            return super().probe()


def _size(device: str) -> int:
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
