"""One SR on every host: what one changes, the others see; what one uses, the others leave alone."""

import pytest
import XenAPI

from scenarios.oracle import Model, Span, noise, one_sector
from scenarios.pool.conftest import Shared
from scenarios.storage import VDI, Repository
from testbed.pool import Pool


def test_what_one_host_writes_the_others_read(pool: Pool, vdi: VDI) -> None:
    """Each host in turn writes a sector of the same block."""
    model = Model(vdi.size)
    for number, host in enumerate(pool.hosts):
        span = [Span(number * 512, noise(f"host {number}", 512))]
        vdi.on(host).write(span)
        model.write(span)
        for reader in pool.hosts:
            vdi.on(reader).must_hold(model)


def test_revert_of_a_disk_that_was_open_elsewhere(pool: Pool, disk: Shared) -> None:
    """Nobody sees stale content: neither who wrote the disk last, nor who read it just before."""
    disk.must_hold(disk.old, *pool.hosts)
    disk.revert_and_check(pool)
    for host in pool.hosts:
        disk.vdi.on(host).write(one_sector(host.hostname, 4096))
        disk.revert_and_check(pool)


def test_snapshot_of_a_disk_that_is_open_elsewhere(pool: Pool, disk: Shared) -> None:
    """The host that has it open goes on writing, into the new leaf."""
    with disk.vdi.plugged() as device:
        disk.vdi.sr.host.write(device, (0, noise("before", 4096)))
        middle = disk.vdi.snapshot()
        disk.vdi.sr.host.write(device, (4096, noise("after", 4096)))
    model = disk.old.fork()
    model.write([Span(0, noise("before", 4096))])
    for host in pool.hosts:
        middle.on(host).must_hold(model)
    middle.revert_live_disk()
    disk.must_hold(model, *pool.hosts)
    disk.revert_and_check(pool)


def test_a_target_that_is_open_on_another_host(pool: Pool, disk: Shared) -> None:
    """VDI_IN_USE, and nothing has changed."""
    records = disk.vdi.sr.api.VDI.get_all_records()
    stored = disk.vdi.sr.on(pool.master).stored()
    for host in pool.slaves:
        with disk.vdi.on(host).plugged() as device:
            marked = disk.vdi.record()
            with pytest.raises(XenAPI.Failure) as refused:
                disk.snapshot.revert_live_disk()
            assert refused.value.details == ["VDI_IN_USE", disk.vdi.ref, "revert_from"]
            assert disk.vdi.record() == marked
            assert host.read(device, 0, 512) == disk.old.piece(0, 512)
    assert disk.vdi.sr.api.VDI.get_all_records() == records
    assert disk.vdi.sr.on(pool.master).stored() == stored
    disk.must_hold(disk.old, *pool.hosts)


def test_a_host_that_was_away(pool: Pool, sr: Repository, disk: Shared) -> None:
    """A PBD is unplugged while the disk is reverted; its host sees the result afterwards."""
    pbd = sr.on(pool.hosts[-1]).pbd()
    sr.api.PBD.unplug(pbd)
    try:
        with pytest.raises(XenAPI.Failure, match="SR_HAS_NO_PBDS"), disk.vdi.plugged():
            pass
        disk.snapshot.revert_live_disk()
    finally:
        sr.api.PBD.plug(pbd)
    disk.must_hold(disk.wanted, *pool.hosts)


def test_a_new_master_in_peace(pool: Pool, sr: Repository, disk: Shared) -> None:
    """Each host is master once, and reverts what the one before has left."""
    for host in (*pool.slaves, pool.master):
        sr.api.pool.designate_new_master(host.ref)
        assert pool.master is host
        disk.vdi.on(pool.hosts[-1]).write(one_sector("changed", 0))
        disk.revert_and_check(pool)
