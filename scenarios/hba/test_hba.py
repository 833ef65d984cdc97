"""SRs on LUNs behind host bus adapters: found, grown, lost, and reached on two paths."""

from collections.abc import Iterator
from typing import Any

import pytest

from scenarios.luns import (
    Maker,
    pbd_of,
    plug,
    refused,
    snapshot_to_go_back_to,
    text,
    unplug,
    working_paths,
)
from scenarios.oracle import BLOCK, MiB, awkward_spans
from scenarios.plugin import footprint
from testbed.devices.disk import GiB
from testbed.devices.hba import HBA
from testbed.devices.lio import Lun
from testbed.host import Host


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


@pytest.fixture
def maker(host: Host, xenapi: Any) -> Maker:
    """Makes SRs of kind lvhdohba."""
    return Maker("lvhdohba", host, xenapi)


def named(lun: Lun) -> dict[str, str]:
    """device_config for one path."""
    return {"SCSIid": lun.scsi_id}


def on_all_paths(lun: Lun) -> dict[str, str]:
    """device_config for all paths."""
    return {"SCSIid": lun.scsi_id, "multipathing": "true"}


def test_probe(maker: Maker, hba: HBA) -> None:
    """107 with the LUNs in reach; then the SRs on one."""
    lun = hba.add_lun(GiB)
    code, devices = maker.probe_further({})
    assert code == "SR_BACKEND_FAILURE_107"
    (unit,) = (unit for unit in devices.iter("BlockDevice") if text(unit, "serial") == lun.serial)
    assert text(unit, "SCSIid") == lun.scsi_id
    assert text(unit, "vendor") == lun.vendor
    assert text(unit, "size") == str(GiB)
    assert text(unit, "numpaths") == "2"
    assert text(unit, "adapter") in {text(found, "host") for found in devices.iter("Adapter")}

    assert not list(maker.probe(named(lun)))
    with maker.repository(lun, named(lun)) as sr:
        for _ in ("plugged", "unplugged"):
            (found,) = maker.probe(named(lun))
            assert text(found, "UUID") == sr.uuid
            unplug(sr)
        plug(sr)


def test_a_device_is_named_by_its_scsi_id(maker: Maker, hba: HBA) -> None:
    """A device_config of old changes: names of devices do not last, SCSI ids do."""
    lun = hba.add_lun(GiB)
    with maker.repository(lun, {"device": hba.devices(lun)[0]}) as sr:
        assert sr.api.PBD.get_device_config(pbd_of(sr)) == named(lun)


def test_a_lun_that_is_missing(maker: Maker, hba: HBA) -> None:
    """19 for a new SR, 47 for one that was there; it comes back with the LUN."""
    lun = hba.add_lun(GiB)
    with maker.repository(lun, named(lun)) as sr:
        disk = sr.create(4 * BLOCK)
        snapshot, model = snapshot_to_go_back_to(disk)
        unplug(sr)
        hba.unplug_lun(lun)
        before = set(sr.api.SR.get_all())
        assert refused(maker.create, named(lun))[0] == "SR_BACKEND_FAILURE_19"
        assert set(sr.api.SR.get_all()) == before
        assert refused(plug, sr)[0] == "SR_BACKEND_FAILURE_47"
        hba.plug_lun(lun)
        plug(sr)
        snapshot.revert_live_disk()
        disk.must_hold(model)


def test_a_lun_that_grew(maker: Maker, hba: HBA) -> None:
    """A scan finds the room, on both paths, while the SR is in use."""
    lun = hba.add_lun(GiB, room=2 * GiB)
    with maker.repository(lun, on_all_paths(lun)) as sr:
        disk = sr.create(2 * BLOCK)
        before = int(sr.api.SR.get_physical_size(sr.ref))
        with disk.plugged():
            hba.resize_lun(lun, 2 * GiB)
            sr.scan()
        assert int(sr.api.SR.get_physical_size(sr.ref)) - before == GiB
        sr.create(1536 * MiB)


def test_a_host_is_told_that_a_lun_grew(host: Host, maker: Maker, hba: HBA) -> None:
    """Plugin on-slave: until then its kernel goes by the old size."""
    lun = hba.add_lun(GiB, room=2 * GiB)
    with maker.repository(lun, named(lun)) as sr:
        device = hba.devices(lun)[0]
        hba.resize_lun(lun, 2 * GiB)
        assert size_of(host, device) == GiB
        this = sr.api.session.get_this_host(sr.session.handle)
        scsi_id = {"SCSIid": lun.scsi_id}
        said = sr.api.host.call_plugin(this, "on-slave", "refresh_lun_size_by_SCSIid", scsi_id)
        assert said == "True"
        assert size_of(host, device) == 2 * GiB


def size_of(host: Host, device: str) -> int:
    """Bytes of a device, as the host's kernel has it."""
    return int(host.kernel.run(["blockdev", "--getsize64", device]).stdout)


def test_a_group_on_two_luns(host: Host, maker: Maker, hba: HBA) -> None:
    """119: an SR has a LUN of its own."""
    lun, other = hba.add_lun(GiB), hba.add_lun(GiB)
    with maker.repository(lun, named(lun)) as sr:
        unplug(sr)
        group = f"VG_XenStorage-{sr.uuid}"
        links = [f"/dev/disk/by-scsid/{unit.scsi_id}" for unit in (lun, other)]
        devices = [hba.devices(unit)[0] for unit in (lun, other)]
        pairs = list(zip(links, devices, strict=True))
        name = " && ".join(f"mkdir -p {link} && ln -sf {to} {link}/it" for link, to in pairs)
        shell(host, f"{name} && vgextend {group} {links[1]}/it && rm -r {links[0]}")
        code, _, message, *_ = refused(plug, sr)
        assert code == "SR_BACKEND_FAILURE_119"
        assert lun.scsi_id in message
        assert other.scsi_id in message
        remove = f"vgreduce {group} {links[1]}/it && pvremove {links[1]}/it"
        shell(host, f"{name} && {remove} && rm -r {' '.join(links)}")
        plug(sr)


def shell(host: Host, command: str) -> None:
    """Do something by hand inside."""
    done = host.kernel.run(["sh", "-c", command])
    assert done.returncode == 0, done.stderr


def test_a_path_fails_while_a_disk_is_reverted(host: Host, maker: Maker, hba: HBA) -> None:
    """Nobody notices; a scan uses the path again."""
    lun = hba.add_lun(GiB)
    with maker.repository(lun, on_all_paths(lun)) as sr:
        disk = sr.create(4 * BLOCK)
        snapshot, model = snapshot_to_go_back_to(disk)
        for path in range(hba.ports):
            disk.write(awkward_spans(f"lost with path {path}", disk.size))
            hba.fail(path)
            snapshot.revert_live_disk()
            disk.must_hold(model)
            assert working_paths(host, lun) == 1
            hba.restore(path)
            sr.scan()
            assert working_paths(host, lun) == 2


def test_all_paths_fail(maker: Maker, hba: HBA) -> None:
    """A revert fails cleanly, and works again when one path does."""
    lun = hba.add_lun(GiB)
    with maker.repository(lun, on_all_paths(lun)) as sr:
        disk = sr.create(4 * BLOCK)
        snapshot, model = snapshot_to_go_back_to(disk)
        hba.fail(0)
        hba.fail(1)
        assert refused(snapshot.revert_live_disk)[0].startswith("SR_BACKEND_FAILURE_")
        hba.restore(1)
        sr.scan()
        snapshot.revert_live_disk()
        disk.must_hold(model)
        hba.restore(0)
