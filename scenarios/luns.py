"""SRs on LUNs that a scenario made itself: created, probed, plugged and destroyed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest
import XenAPI

from scenarios.oracle import Model, awkward_spans
from scenarios.storage import VDI, Repository
from testbed.devices.lio import Lun
from testbed.host import Host
from testbed.provision import ProvisionedSR

Config = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Maker:
    """Calls about SRs of one kind on one host.

    Attributes:
        kind: lvhdohba or lvhdoiscsi.
    """

    kind: str
    host: Host
    session: Any

    @property
    def _this_host(self) -> str:
        return str(self.session.xenapi.session.get_this_host(self.session.handle))

    def create(self, config: Config) -> str:
        """SR.create."""
        arguments: tuple[Any, ...] = (
            dict(config),
            "0",
            self.kind,
            "",
            self.kind,
            "user",
            False,
            {},
        )
        return str(self.session.xenapi.SR.create(self._this_host, *arguments))

    def probe(self, config: Config) -> ElementTree.Element:
        """SR.probe."""
        text = self.session.xenapi.SR.probe(self._this_host, dict(config), self.kind, {})
        return ElementTree.fromstring(text)

    def probe_further(self, config: Config) -> tuple[str, ElementTree.Element]:
        """SR.probe with too little to go on: the error's code, and what there is to choose from."""
        code, _, _, document = refused(self.probe, config)
        return code, ElementTree.fromstring(document)

    @contextmanager
    def repository(self, lun: Lun, config: Config) -> Iterator[Repository]:
        """An SR, destroyed afterwards."""
        api = self.session.xenapi
        ref = self.create(config)
        made = ProvisionedSR(self.kind, ref, api.SR.get_uuid(ref), lun, dict(config))
        sr = Repository(self.host, self.session, made)
        try:
            yield sr
        finally:
            sr.clear()
            unplug(sr)
            api.SR.destroy(ref)


def refused(call: Any, *arguments: Any) -> list[str]:
    """The ErrorDescription of a call that must fail."""
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return list(caught.value.details)


def pbd_of(sr: Repository) -> str:
    """Its PBD."""
    (pbd,) = sr.api.SR.get_PBDs(sr.ref)
    return str(pbd)


def unplug(sr: Repository) -> None:
    """Unplug it."""
    sr.api.PBD.unplug(pbd_of(sr))


def plug(sr: Repository) -> None:
    """Plug it in."""
    sr.api.PBD.plug(pbd_of(sr))


def text(element: ElementTree.Element, name: str) -> str:
    """What a child holds."""
    return (element.findtext(name) or "").strip()


def working_paths(host: Host, lun: Lun) -> int:
    """Paths of a LUN's map that the kernel uses."""
    ((_, _, kind, status),) = host.kernel.call("dm_status", name=lun.scsi_id)
    assert kind == "multipath"
    return str(status).split().count("A") - 1  # the group is active, too


def snapshot_to_go_back_to(disk: VDI) -> tuple[VDI, Model]:
    """Write, take a snapshot, write something else; the snapshot, and what it holds."""
    model = Model(disk.size)
    model.write(awkward_spans("wanted", disk.size))
    disk.write(awkward_spans("wanted", disk.size))
    snapshot = disk.snapshot()
    disk.write(awkward_spans("lost", disk.size))
    return snapshot, model
