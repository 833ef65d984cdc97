"""SRs on LUNs behind host bus adapters: found, grown, lost, and reached on two paths."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import pytest
import XenAPI

from scenarios.oracle import BLOCK, MiB, Model, awkward_spans
from scenarios.plugin import footprint
from scenarios.storage import Repository
from testbed.devices.disk import GiB
from testbed.devices.hba import HBA
from testbed.devices.lio import Lun
from testbed.host import Host
from testbed.provision import ProvisionedSR


@pytest.fixture
def hba(host: Host) -> Iterator[HBA]:
    """An adapter with two ports; gone afterwards with all that stood on it."""
    adapter = HBA(host, ports=2)
    before = footprint(host)
    try:
        yield adapter
    finally:
        adapter.remove()
    assert footprint(host) <= before


@contextmanager
def repository(host: Host, session: Any, lun: Lun, **config: str) -> Iterator[Repository]:
    """An SR on a LUN, destroyed afterwards."""
    api = session.xenapi
    config = config or {"SCSIid": lun.scsi_id}
    ref = create(session, **config)
    made = ProvisionedSR("lvhdohba", ref, api.SR.get_uuid(ref), lun, config)
    sr = Repository(host, session, made)
    try:
        yield sr
    finally:
        sr.clear()
        unplug(sr)
        api.SR.destroy(ref)


def create(session: Any, **config: str) -> str:
    """SR.create on this host."""
    api = session.xenapi
    host = api.session.get_this_host(session.handle)
    return str(api.SR.create(host, config, "0", "hba", "", "lvhdohba", "user", False, {}))


def probe(session: Any, **config: str) -> str:
    """SR.probe on this host."""
    api = session.xenapi
    host = api.session.get_this_host(session.handle)
    return str(api.SR.probe(host, config, "lvhdohba", {}))


def refused(call: Any, *arguments: Any, **keywords: Any) -> list[str]:
    """The ErrorDescription of a call that must fail."""
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments, **keywords)
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


def test_probe(host: Host, xenapi: Any, hba: HBA) -> None:
    """107 with the LUNs in reach; then the SRs on one."""
    lun = hba.add_lun(GiB)
    code, _, _, document = refused(probe, xenapi)
    assert code == "SR_BACKEND_FAILURE_107"
    devices = ElementTree.fromstring(document)
    (unit,) = (unit for unit in devices.iter("BlockDevice") if text(unit, "serial") == lun.serial)
    assert text(unit, "SCSIid") == lun.scsi_id
    assert text(unit, "vendor") == lun.vendor
    assert text(unit, "size") == str(GiB)
    assert text(unit, "numpaths") == "2"
    adapters = {text(adapter, "host") for adapter in devices.iter("Adapter")}
    assert text(unit, "adapter") in adapters

    assert not list(ElementTree.fromstring(probe(xenapi, SCSIid=lun.scsi_id)))
    with repository(host, xenapi, lun) as sr:
        unplug(sr)
        (found,) = ElementTree.fromstring(probe(xenapi, SCSIid=lun.scsi_id))
        assert text(found, "UUID") == sr.uuid
        plug(sr)


def text(element: ElementTree.Element, name: str) -> str:
    """What a child holds."""
    return (element.findtext(name) or "").strip()


def test_a_device_is_named_by_its_scsi_id(host: Host, xenapi: Any, hba: HBA) -> None:
    """A device_config of old changes: names of devices do not last, SCSI ids do."""
    lun = hba.add_lun(GiB)
    with repository(host, xenapi, lun, device=hba.devices(lun)[0]) as sr:
        assert sr.api.PBD.get_device_config(pbd_of(sr)) == {"SCSIid": lun.scsi_id}


def test_a_lun_that_is_missing(host: Host, xenapi: Any, hba: HBA) -> None:
    """19 for a new SR, 47 for one that was there; it comes back with the LUN."""
    lun = hba.add_lun(GiB)
    with repository(host, xenapi, lun) as sr:
        disk = sr.create(4 * BLOCK)
        model = Model(disk.size)
        model.write(awkward_spans("kept", disk.size))
        disk.write(awkward_spans("kept", disk.size))
        unplug(sr)
        hba.unplug_lun(lun)
        before = set(xenapi.xenapi.SR.get_all())
        assert refused(create, xenapi, SCSIid=lun.scsi_id)[0] == "SR_BACKEND_FAILURE_19"
        assert set(xenapi.xenapi.SR.get_all()) == before
        assert refused(plug, sr)[0] == "SR_BACKEND_FAILURE_47"
        hba.plug_lun(lun)
        plug(sr)
        disk.must_hold(model)


def test_a_lun_that_grew(host: Host, xenapi: Any, hba: HBA) -> None:
    """A scan finds the room, on both paths, while the SR is in use."""
    lun = hba.add_lun(GiB, room=2 * GiB)
    with repository(host, xenapi, lun, SCSIid=lun.scsi_id, multipathing="true") as sr:
        disk = sr.create(4 * BLOCK)
        before = int(sr.api.SR.get_physical_size(sr.ref))
        with disk.plugged():
            hba.resize_lun(lun, 2 * GiB)
            sr.scan()
        assert int(sr.api.SR.get_physical_size(sr.ref)) - before == GiB
        sr.create(1536 * MiB)


def test_a_group_on_two_luns(host: Host, xenapi: Any, hba: HBA) -> None:
    """119: an SR has a LUN of its own."""
    lun, other = hba.add_lun(GiB), hba.add_lun(GiB)
    with repository(host, xenapi, lun) as sr:
        unplug(sr)
        group = f"VG_XenStorage-{sr.uuid}"
        links = [f"/dev/disk/by-scsid/{unit.scsi_id}" for unit in (lun, other)]
        devices = [hba.devices(unit)[0] for unit in (lun, other)]
        pairs = list(zip(links, devices, strict=True))
        name = " && ".join(f"mkdir -p {link} && ln -sf {to} {link}/it" for link, to in pairs)
        shell(host, f"{name} && vgextend {group} {links[1]}/it")
        refusal = refused(plug, sr)
        assert refusal[0] == "SR_BACKEND_FAILURE_119"
        assert lun.scsi_id in refusal[2]
        remove = f"vgreduce {group} {links[1]}/it && pvremove {links[1]}/it"
        shell(host, f"{name} && {remove} && rm -r {' '.join(links)}")
        plug(sr)


def shell(host: Host, command: str) -> None:
    """Do something by hand inside."""
    done = host.kernel.run(["sh", "-c", command])
    assert done.returncode == 0, done.stderr


def test_a_path_fails_while_a_disk_is_reverted(host: Host, xenapi: Any, hba: HBA) -> None:
    """Nobody notices; a scan uses the path again."""
    lun = hba.add_lun(GiB)
    with repository(host, xenapi, lun, SCSIid=lun.scsi_id, multipathing="true") as sr:
        disk = sr.create(4 * BLOCK)
        model = Model(disk.size)
        model.write(awkward_spans("snapshot", disk.size))
        disk.write(awkward_spans("snapshot", disk.size))
        snapshot = disk.snapshot()
        for path in range(hba.ports):
            disk.write(awkward_spans(f"lost with path {path}", disk.size))
            hba.fail(path)
            snapshot.revert_live_disk()
            disk.must_hold(model)
            assert working_paths(host, lun) == 1
            hba.restore(path)
            sr.scan()
            assert working_paths(host, lun) == 2


def working_paths(host: Host, lun: Lun) -> int:
    """Paths of a LUN's map that the kernel uses."""
    ((_, _, kind, status),) = host.kernel.call("dm_status", name=lun.scsi_id)
    assert kind == "multipath"
    return str(status).split().count("A") - 1  # the group is active, too


def test_all_paths_fail(host: Host, xenapi: Any, hba: HBA) -> None:
    """A revert fails cleanly, and works again when one path does."""
    lun = hba.add_lun(GiB)
    with repository(host, xenapi, lun, SCSIid=lun.scsi_id, multipathing="true") as sr:
        disk = sr.create(4 * BLOCK)
        model = Model(disk.size)
        model.write(awkward_spans("snapshot", disk.size))
        disk.write(awkward_spans("snapshot", disk.size))
        snapshot = disk.snapshot()
        disk.write(awkward_spans("lost", disk.size))
        hba.fail(0)
        hba.fail(1)
        assert refused(snapshot.revert_live_disk)[0].startswith("SR_BACKEND_FAILURE_")
        hba.restore(1)
        sr.scan()
        snapshot.revert_live_disk()
        disk.must_hold(model)
        hba.restore(0)
