"""A host dies in the middle of a revert, or with a disk open: old content or new, never mixed."""

import re
from typing import Any

import pytest
import XenAPI

from scenarios.machine import Machines
from scenarios.pool.conftest import Shared
from scenarios.storage import Repository
from testbed.pool import Pool

_PENDING = "The SR is not available [opterr=Critical journals are pending. A scan is required.]"


def _die_in_a_revert(pool: Pool, sr: Repository, disk: Shared, point: int) -> None:
    """The master's power goes at one of the points of a revert."""
    master = pool.master
    with (
        master.fist(sr.revert_points[point], action="power-cut") as fist,
        pytest.raises(XenAPI.Failure) as failed,
    ):
        disk.snapshot.revert_live_disk()
    assert fist.reached
    assert failed.value.details == ["HOST_OFFLINE", master.ref]


@pytest.mark.parametrize("point", range(3))
def test_the_master_dies_and_comes_back(
    pool: Pool, sr: Repository, disk: Shared, xenapi: Any, point: int
) -> None:
    """Its driver mends what it left, at the first call."""
    _die_in_a_revert(pool, sr, disk, point)
    pool.restart(pool.master, xenapi)
    sr.scan()
    disk.must_hold(disk.old, *pool.hosts)
    disk.revert_and_check(pool)


def test_the_master_dies_and_another_takes_its_place(
    pool: Pool, sr: Repository, disk: Shared, xenapi: Any
) -> None:
    """The new master mends it; the old one comes back as a slave."""
    old, new = pool.master, pool.slaves[0]
    _die_in_a_revert(pool, sr, disk, 2)
    pool.appoint(new)
    sr.scan()
    disk.must_hold(disk.old, *pool.slaves[1:], new)
    disk.snapshot.revert_live_disk()
    disk.must_hold(disk.wanted, *pool.slaves[1:], new)
    pool.restart(old, xenapi)
    assert pool.master is new
    disk.must_hold(disk.wanted, *pool.hosts)


def test_a_slave_waits_for_the_master_to_mend(
    pool: Pool, sr: Repository, disk: Shared, machines: Machines
) -> None:
    """A disk that a revert has left in pieces opens nowhere before the master has seen to it."""
    with pool.master.fist(sr.revert_points[2], "error"), pytest.raises(XenAPI.Failure) as failed:
        disk.snapshot.revert_live_disk()
    assert failed.value.details[0] == "SR_BACKEND_FAILURE_203"
    for host in pool.slaves:
        with pytest.raises(XenAPI.Failure) as refused, disk.vdi.on(host).plugged():
            pass
        assert refused.value.details[:3] == ["SR_BACKEND_FAILURE_47", "", _PENDING]
    machine = machines.make(disk.vdi)
    with pytest.raises(XenAPI.Failure, match=re.escape(_PENDING)):
        machine.api.start_on(machine.ref, pool.slaves[0].ref, False, False)
    sr.scan()
    disk.must_hold(disk.old, *pool.hosts)
    machine.api.start_on(machine.ref, pool.slaves[0].ref, False, False)
    machine.halt()
    disk.revert_and_check(pool)


def test_a_slave_dies_with_the_disk_open(
    pool: Pool, sr: Repository, disk: Shared, xenapi: Any
) -> None:
    """Nobody may have the disk until it is certain that the slave does not write any more."""
    slave = pool.slaves[-1]
    there = disk.vdi.on(slave)
    vbd = there.sr.create_vbd(there.ref)
    sr.api.VBD.plug(vbd)
    slave.power_cut()
    with pytest.raises(XenAPI.Failure) as refused:
        disk.snapshot.revert_live_disk()
    assert refused.value.details == ["VDI_IN_USE", disk.vdi.ref, "revert_from"]
    sr.api.host.declare_dead(slave.ref)
    disk.snapshot.revert_live_disk()
    disk.must_hold(disk.wanted, pool.master)
    pool.restart(slave, xenapi)
    disk.must_hold(disk.wanted, *pool.hosts)


def test_a_slave_dies_and_comes_back(pool: Pool, sr: Repository, disk: Shared, xenapi: Any) -> None:
    """What it had open is closed."""
    slave = pool.slaves[-1]
    there = disk.vdi.on(slave)
    sr.api.VBD.plug(there.sr.create_vbd(there.ref))
    slave.power_cut()
    pool.restart(slave, xenapi)
    disk.revert_and_check(pool)
