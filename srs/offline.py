"""Disks on LUNs that a host attaches by itself, while there is no toolstack (HA's statefile).

`vdi_generate_config` answers a complete SMAPIv1 document, which the host keeps; carrying it out
brings the LUN here and the disk up. The host is nobody's master then: it writes no metadata.
"""

import xmlrpc.client
from typing import TYPE_CHECKING

from srs import fist
from srs.cowvdi import CowVDI
from srs.datapath import tap
from srs.datapath.server import Server
from srs.datapath.store import Export
from srs.errors import VDIUnavailable
from srs.vdi import Disk

if TYPE_CHECKING:
    from srs.lun import LunSR


class LunVDI(CowVDI):
    """A disk of an SR on a LUN."""

    def __init__(self, sr: "LunSR", uuid: str) -> None:
        super().__init__(sr, uuid)
        self.lun = sr

    def generate_config(self) -> str:
        """vdi_generate_config. Secrets of device_config are in it."""
        self.sr.disk(self.uuid)
        request = {
            "command": "vdi_attach_from_config",
            "args": [],
            "sr_uuid": self.sr.uuid,
            "vdi_uuid": self.uuid,
            "vdi_location": self.uuid,
            "device_config": {**self.lun.offline_config(), "SRmaster": "false"},
        }
        return xmlrpc.client.dumps((request,), "vdi_attach_from_config")

    def attach_from_config(self) -> dict[str, object]:
        """vdi_attach_from_config.

        Raises:
            VDIUnavailable: the disk's volume would have to grow.
        """
        with self.lun.opened_lun():
            disk = self.sr.disk(self.uuid)
            if not self._is_served(disk):
                self._bring_up(disk)
            return self.attach(True)

    def _bring_up(self, disk: Disk) -> None:
        if self.sr.lacks_room(self.uuid):
            raise VDIUnavailable(f"{self.uuid} has no room reserved for all that it may hold")
        with fist.undone_by(self._let_go):
            path = self.sr.open_disk(disk, writable=True)
            tap.link(self.sr.uuid, self.uuid, path)
            if not self._is_device(disk):
                server = Server(self.sr.uuid, self.uuid)
                server.start(Export(self.uuid, path, disk.raw, True, ""))

    def detach_from_config(self) -> None:
        """vdi_detach_from_config: the disk, and the LUN unless the SR is attached by now."""
        try:
            Server(self.sr.uuid, self.uuid).stop()
        finally:
            self._let_go()
        if not self.lun.is_attached():
            self.lun.close_lun()

    def _let_go(self) -> None:
        self.sr.close_disk(self.uuid)
        tap.unlink(self.sr.uuid, self.uuid)
