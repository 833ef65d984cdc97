"""A pool of hosts: who does what, and what becomes of it when one of them loses its power."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from xapi.errors import XenAPIError
from xapi.server import XapiServer
from xapi.testing import CAPABILITIES, Fault, MemoryHost, Rig, Xe, failure, serve

NULL = "OpaqueRef:NULL"
NO = Fault(47, "The SR is not available")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, hosts=3, patience=0.05) as rig:
        yield rig


def dom0(rig: Rig, host: str) -> str:
    return str(rig.api.host.get_control_domain(host))


def asked(host: MemoryHost) -> list[tuple[str, str]]:
    """What a host's drivers were asked so far, and whether as the master; asks for news only."""
    news = [
        (command, request["device_config"]["SRmaster"])
        for command, request in host.calls
        if command != "sr_get_driver_info"
    ]
    host.calls.clear()
    return news


def commands(host: MemoryHost) -> list[str]:
    return [command for command, _ in asked(host)]


def forget_calls(rig: Rig) -> None:
    for host in rig.hosts:
        host.calls.clear()


# -- records


def test_the_records_of_a_pool(rig: Rig) -> None:
    hosts = rig.api.host.get_all_records()
    assert [host["hostname"] for host in hosts.values()] == ["testhost", "testhost1", "testhost2"]
    assert all(rig.api.host_metrics.get_live(host["metrics"]) for host in hosts.values())
    for ref, host in hosts.items():
        assert rig.api.VM.get_resident_on(host["control_domain"]) == ref
        [pif] = host["PIFs"]
        assert rig.api.PIF.get_host(pif) == ref
    assert len({rig.api.PIF.get_MAC(pif) for pif in rig.api.PIF.get_all()}) == 3
    assert len(rig.api.network.get_all()) == 2
    [pool] = rig.api.pool.get_all()
    assert rig.api.pool.get_master(pool) == next(iter(hosts))


def test_hosts_keep_their_records(tmp_path: Path) -> None:
    master = MemoryHost({"mem": CAPABILITIES}, tmp_path / "xapi")
    backends = [master, master.neighbour("one"), master.neighbour("two")]
    refs = []
    for order in (backends, [backends[0], backends[2], backends[1]]):
        server = XapiServer(*order, state=tmp_path / "state")
        server.start()
        refs.append({member.backend.hostname: member.ref for member in server.xapi.hosts})
        assert len(server.xapi.db.refs("host")) == 3
        server.stop()
    assert refs[0] == refs[1]


def test_a_driver_can_do_what_it_can_do_everywhere(tmp_path: Path) -> None:
    master = MemoryHost({"mem": (*CAPABILITIES, "VDI_REVERT"), "old": ()}, tmp_path / "xapi")
    slave = master.neighbour("slave")
    del slave.capabilities["old"]
    slave.capabilities["mem"] = CAPABILITIES
    server = XapiServer(master, slave)
    server.start()
    try:
        db = server.xapi.db
        [sm] = db.refs("SM")
        assert db.get("SM", sm, "type") == "mem"
        assert "VDI_REVERT" not in db.get("SM", sm, "features")
        assert "VDI_CLONE" in db.get("SM", sm, "features")
    finally:
        server.stop()


# -- SRs


def test_a_shared_sr_is_plugged_in_everywhere(rig: Rig) -> None:
    sr = rig.sr(shared=True)
    pbds = [rig.api.PBD.get_record(pbd) for pbd in rig.api.SR.get_PBDs(sr)]
    assert [pbd["host"] for pbd in pbds] == rig.api.host.get_all()
    assert all(pbd["currently_attached"] for pbd in pbds)
    assert [pbd["device_config"] for pbd in pbds] == [{"device": "/dev/any"}] * 3
    for host, pbd in zip(rig.hosts, pbds, strict=True):
        [attach] = [request for command, request in host.calls if command == "sr_attach"]
        assert attach["host_ref"] == pbd["host"]
    master, *slaves = (asked(host) for host in rig.hosts)
    assert master == [("sr_create", "true"), ("sr_attach", "true"), ("sr_scan", "true")]
    assert slaves == [[("sr_attach", "false")]] * 2


def test_an_sr_that_a_host_cannot_attach_is_not_made(rig: Rig) -> None:
    rig.hosts[2].faults["sr_attach"] = NO
    before = rig.records()
    host = rig.api.host.get_all()[0]
    config = {"device": "/dev/any"}
    details = failure(rig.api.SR.create, host, config, "0", "s", "", "mem", "user", True, {})
    assert details[0] == "SR_BACKEND_FAILURE_47"
    assert rig.records() == before
    assert rig.host.srs == {}
    assert [host.attached_srs for host in rig.hosts] == [set()] * 3


def test_what_a_host_cannot_let_go_is_destroyed_all_the_same(rig: Rig) -> None:
    rig.hosts[1].faults["sr_detach"] = NO
    rig.hosts[2].faults["sr_attach"] = NO
    host = rig.api.host.get_all()[0]
    details = failure(
        rig.api.SR.create, host, {"device": "x"}, "0", "s", "", "mem", "user", True, {}
    )
    assert details[0] == "SR_BACKEND_FAILURE_47"
    assert rig.host.srs == {}
    assert "sr_delete" in commands(rig.host)


def test_a_host_without_power_is_left_out(rig: Rig) -> None:
    rig.hosts[1].up = False
    lost = rig.api.host.get_all()[1]
    rig.server.host_lost(lost)
    sr = rig.sr(shared=True)
    assert lost not in rig.api.SR.get_live_hosts(sr)
    [pbd] = [pbd for pbd in rig.api.SR.get_PBDs(sr) if rig.api.PBD.get_host(pbd) == lost]
    rig.hosts[1].up = True
    rig.server.host_restarted(lost)
    rig.api.PBD.plug(pbd)
    assert lost in rig.api.SR.get_live_hosts(sr)


def test_an_sr_of_a_slave_is_its_own(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    sr = rig.sr(host=hosts[1])
    vdi = rig.vdi(sr, b"first")
    snapshot = rig.api.VDI.snapshot(vdi)
    rig.write(vdi, b"later")
    assert rig.api.VDI.revert(snapshot) == vdi
    assert rig.read(vdi) == b"first"
    news = asked(rig.hosts[1])
    assert ("vdi_revert", "true") in news
    assert {master for _, master in news} == {"true"}
    assert commands(rig.hosts[0]) == []
    pbd = rig.api.PBD.create({"host": hosts[2], "SR": sr, "device_config": {"device": "any"}})
    assert failure(rig.api.PBD.plug, pbd) == ["SR_NOT_SHARABLE", sr, hosts[2]]
    rig.api.PBD.destroy(pbd)
    for disk in (vdi, snapshot):
        rig.api.VDI.destroy(disk)
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
    rig.api.SR.destroy(sr)
    assert commands(rig.hosts[0]) == []
    assert rig.host.srs == {}


def test_a_shared_sr_is_destroyed_by_its_master(rig: Rig) -> None:
    sr = rig.sr(shared=True)
    for pbd in rig.api.SR.get_PBDs(sr):
        rig.api.PBD.unplug(pbd)
    forget_calls(rig)
    rig.api.SR.destroy(sr)
    assert asked(rig.host) == [("sr_attach", "true"), ("sr_delete", "true")]
    assert rig.api.PBD.get_all() == []


def test_an_sr_of_many_hosts_stays_shared(rig: Rig) -> None:
    """One that is not shared has the host that plugs it in for its master."""
    sr = rig.sr(shared=True)
    first, *others = rig.api.SR.get_PBDs(sr)
    for pbd in others:
        assert failure(rig.api.SR.set_shared, sr, False) == ["SR_HAS_MULTIPLE_PBDS", sr]
        assert rig.api.SR.get_shared(sr)
        rig.api.PBD.unplug(pbd)
        rig.api.PBD.destroy(pbd)
    rig.api.SR.set_shared(sr, False)
    assert not rig.api.SR.get_shared(sr)
    forget_calls(rig)
    rig.api.SR.scan(sr)
    assert asked(rig.host) == [("sr_scan", "true")]
    assert rig.api.SR.get_PBDs(sr) == [first]


def test_a_slave_alone_does_not_change_a_shared_sr(rig: Rig) -> None:
    """Its master has it unplugged: the slave's driver knows that it is none."""
    sr = rig.sr(shared=True)
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
    assert failure(rig.api.SR.scan, sr)[0] == "SR_BACKEND_FAILURE_58"


# -- disks


def test_a_disk_is_opened_where_it_is_plugged(rig: Rig) -> None:
    slave = rig.api.host.get_all()[1]
    vdi = rig.vdi(rig.sr(shared=True), b"first")
    snapshot = rig.api.VDI.snapshot(vdi)
    forget_calls(rig)
    vbd = rig.vbd(vdi, VM=dom0(rig, slave))
    rig.api.VBD.plug(vbd)
    assert asked(rig.hosts[1]) == [("vdi_attach", "false"), ("vdi_activate", "false")]
    assert list(rig.hosts[1].devices) == [f"/dev/{rig.api.VBD.get_device(vbd)}"]
    assert failure(rig.api.VDI.revert, snapshot) == ["VDI_IN_USE", vdi, "revert_from"]
    assert commands(rig.hosts[0]) == []
    rig.api.VBD.unplug(vbd)
    assert asked(rig.hosts[1]) == [("vdi_deactivate", "false"), ("vdi_detach", "false")]
    rig.api.VDI.revert(snapshot)
    assert asked(rig.hosts[0]) == [("vdi_revert", "true")]
    assert commands(rig.hosts[1]) == []


def test_readers_on_two_hosts_and_a_writer_on_one(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    vdi = rig.vdi(rig.sr(shared=True))
    readers = [rig.vbd(vdi, "RO", VM=dom0(rig, host)) for host in hosts[:2]]
    for reader in readers:
        rig.api.VBD.plug(reader)
    assert [len(host.devices) for host in rig.hosts] == [1, 1, 0]
    writer = rig.vbd(vdi, VM=dom0(rig, hosts[2]))
    assert failure(rig.api.VBD.plug, writer) == ["VDI_IN_USE", vdi, "attach"]
    for reader in readers:
        rig.api.VBD.unplug(reader)
    rig.api.VBD.plug(writer)
    assert [len(host.devices) for host in rig.hosts] == [0, 0, 1]


def test_an_sr_leaves_a_host_that_has_nothing_open(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    sr = rig.sr(shared=True)
    vdi = rig.vdi(sr)
    vbd = rig.vbd(vdi, VM=dom0(rig, hosts[1]))
    rig.api.VBD.plug(vbd)
    master, slave, other = rig.api.SR.get_PBDs(sr)
    rig.api.PBD.unplug(other)
    rig.api.PBD.unplug(master)
    assert failure(rig.api.PBD.unplug, slave) == ["VDI_IN_USE", vdi]
    second = rig.vbd(vdi, VM=dom0(rig, hosts[2]))
    rig.api.VBD.unplug(vbd)
    assert failure(rig.api.VBD.plug, second) == ["SR_HAS_NO_PBDS", sr]


def test_copies_are_made_where_both_srs_are(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    shared, own, other = rig.sr(shared=True), rig.sr(host=hosts[1]), rig.sr(host=hosts[2])
    disk = rig.vdi(own, b"of the slave")
    copy = rig.api.VDI.copy(disk, shared)
    assert rig.read(copy, 12) == b"of the slave"
    assert "vdi_attach" in commands(rig.hosts[1])
    assert "vdi_attach" not in commands(rig.hosts[0])
    assert rig.api.VDI.checksum(disk) == rig.api.VDI.checksum(copy)
    [pbd] = rig.api.SR.get_PBDs(other)
    rig.api.PBD.unplug(pbd)
    assert failure(rig.api.VDI.copy, disk, other) == ["SR_HAS_NO_PBDS", other]
    assert rig.api.SR.get_VDIs(other) == []


def test_copies_between_srs_that_no_host_has_both_of(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    own, other = rig.sr(host=hosts[1]), rig.sr(host=hosts[2])
    disk = rig.vdi(own, b"of the slave", virtual_size=str(4 << 20))
    copy = rig.api.VDI.copy(disk, other)
    assert rig.read(copy, 12) == b"of the slave"
    into = rig.vdi(other, b"x" * (3 << 20), virtual_size=str(4 << 20))
    rig.api.VDI.copy(disk, NULL, NULL, into)
    assert len({rig.api.VDI.checksum(vdi) for vdi in (disk, copy, into)}) == 1
    assert [len(host.devices) for host in rig.hosts] == [0, 0, 0]
    rig.hosts[2].faults["write"] = Fault(0, "no power")
    assert failure(rig.api.VDI.copy, disk, other) == ["HOST_OFFLINE", hosts[2]]
    assert set(rig.api.SR.get_VDIs(other)) == {copy, into}


# -- VMs


def test_a_vm_runs_where_it_was_started(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    sr = rig.sr(shared=True)
    vm = rig.vm(rig.vdi(sr))
    rig.api.VM.set_suspend_SR(vm, sr)
    rig.api.VM.start_on(vm, hosts[1], False, False)
    record = rig.api.VM.get_record(vm)
    assert (record["resident_on"], record["scheduled_to_be_resident_on"]) == (hosts[1], NULL)
    assert [len(host.devices) for host in rig.hosts] == [0, 1, 0]
    rig.api.VM.clean_reboot(vm)
    rig.api.VM.checkpoint(vm, "check")
    assert rig.api.VM.get_resident_on(vm) == hosts[1]
    rig.api.VM.suspend(vm)
    assert [len(host.devices) for host in rig.hosts] == [0, 0, 0]
    rig.api.VM.resume_on(vm, hosts[2], False, False)
    assert [len(host.devices) for host in rig.hosts] == [0, 0, 1]
    rig.api.VM.hard_shutdown(vm)
    assert [len(host.devices) for host in rig.hosts] == [0, 0, 0]


def test_where_a_vm_starts_by_itself(rig: Rig) -> None:
    hosts = rig.api.host.get_all()
    anywhere, bound = rig.vm(rig.vdi(rig.sr(shared=True))), rig.vm(rig.vdi(rig.sr(host=hosts[2])))
    assert rig.api.VM.get_possible_hosts(anywhere) == hosts
    assert rig.api.VM.get_possible_hosts(bound) == [hosts[2]]
    rig.api.VM.set_affinity(bound, hosts[1])
    rig.api.VM.set_affinity(anywhere, hosts[1])
    for vm, host in ((anywhere, hosts[1]), (bound, hosts[2])):
        rig.api.VM.start(vm, False, False)
        assert rig.api.VM.get_resident_on(vm) == host


def test_hosts_that_take_no_vm(rig: Rig) -> None:
    vm, hosts = rig.vm(rig.vdi(rig.sr(shared=True))), rig.api.host.get_all()
    rig.api.host.disable(hosts[1])
    rig.server.host_lost(hosts[2])
    assert rig.api.VM.get_possible_hosts(vm) == [hosts[0]]
    details = failure(rig.api.VM.start_on, vm, hosts[1], False, False)
    assert details == ["HOST_DISABLED", hosts[1]]
    details = failure(rig.api.VM.start_on, vm, hosts[2], False, False)
    assert details == ["HOST_NOT_LIVE", hosts[2]]


def test_hosts_that_are_all_disabled(rig: Rig) -> None:
    vm, hosts = rig.vm(rig.vdi(rig.sr(shared=True))), rig.api.host.get_all()
    for host in hosts:
        rig.api.host.disable(host)
    assert failure(rig.api.VM.start, vm, False, False) == ["HOST_DISABLED", hosts[0]]
    assert rig.api.VM.get_power_state(vm) == "Halted"


def test_a_start_that_fails_leaves_no_plans(rig: Rig) -> None:
    vm, hosts = rig.vm(rig.vdi(rig.sr(shared=True))), rig.api.host.get_all()
    rig.hosts[1].faults["vdi_activate"] = NO
    assert failure(rig.api.VM.start_on, vm, hosts[1], False, False)[0] == "SR_BACKEND_FAILURE_47"
    assert rig.api.VM.get_scheduled_to_be_resident_on(vm) == NULL
    assert not any(disk.attached for disks in rig.host.srs.values() for disk in disks.values())
    rig.api.VM.start(vm, False, False)
    assert rig.api.VM.get_resident_on(vm) == hosts[0]


# -- power


def lose(rig: Rig, number: int) -> str:
    """A host loses its power; returns its reference."""
    ref = str(rig.api.host.get_all()[number])
    rig.hosts[number].up = False
    rig.hosts[number].lose_power()
    rig.server.host_lost(ref)
    return ref


def test_a_slave_that_comes_back(rig: Rig) -> None:
    sr = rig.sr(shared=True)
    vdi = rig.vdi(sr, b"first")
    snapshot = rig.api.VDI.snapshot(vdi)
    vm = rig.vm(vdi)
    rig.api.VM.start_on(vm, rig.api.host.get_all()[1], False, False)
    slave = lose(rig, 1)
    assert not rig.api.host_metrics.get_live(rig.api.host.get_metrics(slave))
    # Who knows whether it still writes?
    assert failure(rig.api.VDI.revert, snapshot) == ["VDI_IN_USE", vdi, "revert_from"]
    rig.hosts[1].up = True
    rig.server.host_restarted(slave)
    assert rig.api.host_metrics.get_live(rig.api.host.get_metrics(slave))
    assert rig.api.VM.get_power_state(vm) == "Halted"
    rig.api.VDI.revert(snapshot)
    assert rig.api.SR.get_live_hosts(sr) == [h for h in rig.api.host.get_all() if h != slave]


def test_a_slave_that_does_not_come_back(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr(shared=True), b"first")
    snapshot = rig.api.VDI.snapshot(vdi)
    slave, other = rig.api.host.get_all()[1:]
    vbd = rig.vbd(vdi, VM=dom0(rig, slave))
    rig.api.VBD.plug(vbd)
    rig.api.VDI.set_sm_config(vdi, {f"host_{slave}": "RW", "kept": "yes"})
    assert failure(rig.api.host.declare_dead, slave) == ["HOST_IS_LIVE", slave]
    assert lose(rig, 1) == slave
    rig.api.host.declare_dead(slave)
    assert rig.api.VDI.get_sm_config(vdi) == {"kept": "yes"}
    assert not rig.api.VBD.get_currently_attached(vbd)
    rig.api.VDI.revert(snapshot)
    rig.api.VBD.plug(rig.vbd(vdi, VM=dom0(rig, other)))


def test_a_vm_of_a_host_without_power_is_halted(rig: Rig) -> None:
    """On record; its disk stays the host's until that is declared dead."""
    vdi = rig.vdi(rig.sr(shared=True))
    vm, slave = rig.vm(vdi), rig.api.host.get_all()[1]
    rig.api.VM.start_on(vm, slave, False, False)
    rig.api.VDI.set_sm_config(vdi, {f"host_{slave}": "RW"})
    lose(rig, 1)
    rig.api.VM.power_state_reset(vm)
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert rig.api.VDI.get_sm_config(vdi) == {f"host_{slave}": "RW"}
    rig.api.host.declare_dead(slave)
    rig.api.VM.start(vm, False, False)


def test_what_others_do_goes_on(rig: Rig) -> None:
    """A host that restarts unplugs what is its own, and nothing else."""
    hosts = rig.api.host.get_all()
    sr = rig.sr(shared=True)
    vbds = [rig.vbd(rig.vdi(sr), VM=dom0(rig, host)) for host in hosts]
    for vbd in vbds:
        rig.api.VBD.plug(vbd)
    lose(rig, 2)
    rig.hosts[2].up = True
    rig.server.host_restarted(hosts[2])
    assert list(map(rig.api.VBD.get_currently_attached, vbds)) == [True, True, False]
    rig.api.VBD.unplug(vbds[0])
    rig.api.VBD.unplug(vbds[1])


# -- masters


def test_another_master(rig: Rig) -> None:
    old, new, _ = rig.api.host.get_all()
    sr = rig.sr(shared=True)
    vdi = rig.vdi(sr)
    forget_calls(rig)
    rig.api.pool.designate_new_master(new)
    assert rig.api.pool.get_master(rig.api.pool.get_all()[0]) == new
    assert asked(rig.hosts[1]) == [("sr_scan", "true")]
    rig.api.VDI.snapshot(vdi)
    assert ("vdi_snapshot", "true") in asked(rig.hosts[1])
    rig.api.VBD.plug(rig.vbd(vdi, VM=dom0(rig, old)))
    assert asked(rig.hosts[0]) == [("vdi_attach", "false"), ("vdi_activate", "false")]
    assert rig.api.session.get_this_host(rig.session()) == new


def test_a_master_that_cannot_scan_is_master(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    new = rig.api.host.get_all()[1]
    rig.sr(shared=True)
    rig.hosts[1].faults["sr_scan"] = NO
    rig.api.pool.designate_new_master(new)
    assert rig.api.pool.get_master(rig.api.pool.get_all()[0]) == new
    assert "the new master cannot scan SR" in caplog.text


def test_a_master_does_not_change_in_the_middle_of_something(rig: Rig) -> None:
    master, new, _ = rig.api.host.get_all()
    sr = rig.sr(shared=True)
    gate = rig.host.gates["vdi_create"] = threading.Event()
    api = rig.login()
    record = {"SR": sr, "virtual_size": "512", "type": "user", "sharable": False}
    record |= {"read_only": False, "other_config": {}}
    creating = threading.Thread(target=api.VDI.create, args=(record,))
    creating.start()
    assert rig.host.reached.wait(10)
    details = failure(rig.api.pool.designate_new_master, new)
    assert details[:2] == ["OTHER_OPERATION_IN_PROGRESS", "SR"]
    gate.set()
    creating.join(10)
    assert rig.api.pool.get_master(rig.api.pool.get_all()[0]) == master
    rig.api.pool.designate_new_master(new)


def test_a_master_does_not_change_while_a_disk_is_opened(rig: Rig) -> None:
    """The driver of the old master has room made for the disk, which the new one would undo."""
    old, new, _ = rig.api.host.get_all()
    vbd = rig.vbd(rig.vdi(rig.sr(shared=True)), VM=dom0(rig, old))
    [pool] = rig.api.pool.get_all()
    gate = rig.host.gates["vdi_activate"] = threading.Event()
    plugging = threading.Thread(target=rig.login().VBD.plug, args=(vbd,))
    plugging.start()
    assert rig.host.reached.wait(10)
    details = failure(rig.api.pool.designate_new_master, new)
    assert details[:2] == ["OTHER_OPERATION_IN_PROGRESS", "SR"]
    assert rig.api.pool.get_master(pool) == old
    gate.set()
    plugging.join(10)
    rig.api.pool.designate_new_master(new)
    assert rig.api.pool.get_master(pool) == new
    rig.api.VBD.unplug(vbd)


def test_nothing_is_opened_while_the_master_changes(rig: Rig) -> None:
    old, new, _ = rig.api.host.get_all()
    vbd = rig.vbd(rig.vdi(rig.sr(shared=True)), VM=dom0(rig, old))
    gate = rig.hosts[1].gates["sr_scan"] = threading.Event()
    changing = threading.Thread(target=rig.login().pool.designate_new_master, args=(new,))
    changing.start()
    assert rig.hosts[1].reached.wait(10)
    assert failure(rig.api.VBD.plug, vbd)[:2] == ["OTHER_OPERATION_IN_PROGRESS", "SR"]
    gate.set()
    changing.join(10)
    rig.api.VBD.plug(vbd)


def test_the_old_master_stops_to_collect(rig: Rig) -> None:
    aborted = []

    def collector(fn: str, arguments: Mapping[str, str]) -> str:
        [pool] = rig.api.pool.get_all()
        aborted.append((fn, dict(arguments), rig.api.pool.get_master(pool)))
        return "True"

    old, new, _ = rig.api.host.get_all()
    sr = rig.api.SR.get_uuid(rig.sr(shared=True))
    rig.sr()
    rig.host.plugins = {"gc": collector}
    rig.login().pool.designate_new_master(new)
    assert aborted == [("abort", {"srUuid": sr}, old)]


def test_there_is_one_master(rig: Rig) -> None:
    """What only lost its storage still believes that it is."""
    old, new, _ = rig.api.host.get_all()
    with pytest.raises(XenAPIError) as refused:
        rig.server.emergency_transition(new)
    assert (refused.value.code, refused.value.params) == ("HOST_IS_LIVE", (old,))
    assert rig.api.pool.get_master(rig.api.pool.get_all()[0]) == old


def test_a_master_that_is_gone(rig: Rig) -> None:
    sr = rig.sr(shared=True)
    new = rig.api.host.get_all()[2]
    master = lose(rig, 0)
    assert failure(rig.api.SR.scan, sr) == ["HOST_OFFLINE", master]
    assert failure(rig.api.pool.designate_new_master, master) == ["HOST_NOT_LIVE", master]
    rig.server.emergency_transition(new)
    forget_calls(rig)
    vdi = rig.vdi(sr)
    assert asked(rig.hosts[2]) == [("vdi_create", "true")]
    rig.hosts[0].up = True
    rig.server.host_restarted(master)
    [pbd] = [pbd for pbd in rig.api.SR.get_PBDs(sr) if rig.api.PBD.get_host(pbd) == master]
    rig.api.PBD.plug(pbd)
    rig.api.VBD.plug(rig.vbd(vdi, VM=dom0(rig, master)))
    assert {word for _, word in asked(rig.hosts[0])} == {"false"}


# -- plugins


def who(host: MemoryHost, fn: str, _arguments: Mapping[str, str]) -> str:
    return f"{fn} {host.hostname}"


def test_a_plugin_runs_on_the_host_that_was_named(rig: Rig) -> None:
    for host in rig.hosts:
        host.plugins = {"who": partial(who, host)}
    hosts = rig.api.host.get_all()
    told = [rig.api.host.call_plugin(host, "who", "is", {}) for host in hosts]
    assert told == ["is testhost", "is testhost1", "is testhost2"]
    assert failure(rig.api.host.call_plugin, "none", "who", "is", {}) == [
        "HANDLE_INVALID",
        "host",
        "none",
    ]


# -- xe


def test_xe_of_a_pool(rig: Rig) -> None:
    run = Xe(rig)
    uuids = [rig.api.host.get_uuid(host) for host in rig.api.host.get_all()]
    assert run("host-list", "--minimal").stdout.strip() == ",".join(uuids)
    made = run("sr-create", "name-label=s", "type=mem", "shared=true", "device-config:device=x")
    sr = made.stdout.strip()
    listed = run("pbd-list", f"sr-uuid={sr}", "params=host-uuid", "--minimal").stdout.strip()
    assert listed == ",".join(uuids)
    vm = run("vm-create", "name-label=vm").stdout.strip()
    assert run("vm-start", f"uuid={vm}", f"on={uuids[1]}").status == 0
    assert rig.api.VM.get_resident_on(rig.api.VM.get_by_uuid(vm)) == rig.api.host.get_all()[1]
    assert run("host-disable", f"uuid={uuids[2]}").status == 0
    refused = run("pool-designate-new-master", f"host-uuid={uuids[2]}")
    assert (refused.status, "The host is disabled." in refused.stderr) == (1, True)
    assert run("host-enable", f"uuid={uuids[2]}").status == 0
    assert run("pool-designate-new-master", f"host-uuid={uuids[2]}").status == 0
    assert run("pool-list", "params=master", "--minimal").stdout.strip() == uuids[2]
    rig.server.host_lost(rig.api.host.get_all()[1])
    assert run("host-declare-dead", f"uuid={uuids[1]}").status == 0
    assert run("vm-list", f"uuid={vm}", "params=power-state", "--minimal").stdout == "halted\n"
