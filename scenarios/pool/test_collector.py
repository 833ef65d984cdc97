"""The master collects garbage below disks that other hosts have open."""

from typing import Any

import pytest

from scenarios.oracle import BLOCK, Model, Span, full_block, noise, one_sector
from scenarios.storage import VDI, Repository
from testbed.pool import Pool
from xapi.backend import PluginFailed


def test_below_a_disk_that_another_host_writes_to(pool: Pool, sr: Repository, vdi: VDI) -> None:
    """Coalesce and leaf-coalesce: the slave closes its images, and opens what is there then."""
    slave = pool.slaves[-1]
    model = Model(vdi.size)
    for number in range(3):
        spans = [*full_block(f"level {number}"), *one_sector(f"level {number}", number * BLOCK)]
        model.write(spans)
        vdi.write(spans)
        vdi.snapshot().destroy()
    with vdi.on(slave).plugged() as device:
        slave.write(device, (4096, noise("before", 4096)))
        done = sr.collect()
        assert (len(done.coalesced), done.leaves, done.failed) == (2, (vdi.uuid,), {})
        slave.write(device, (8192, noise("after", 4096)))
    model.write([Span(4096, noise("before", 4096)), Span(8192, noise("after", 4096))])
    for host in pool.hosts:
        vdi.on(host).must_hold(model)
    assert len(sr.on(pool.master).images()) == 1


def test_a_slave_collects_nothing(pool: Pool, sr: Repository, vdi: VDI) -> None:
    """Only the master changes what others stand on."""
    vdi.write(one_sector("below", 0))
    vdi.snapshot().destroy()
    with pytest.raises(PluginFailed, match="master"):
        pool.slaves[0].gc(sr.uuid)
    assert sr.collect().leaves == (vdi.uuid,)


def test_a_host_that_cannot_be_asked(pool: Pool, sr: Repository, vdi: VDI, xenapi: Any) -> None:
    """A disk that a dead host may still have open is left alone until it is declared dead."""
    slave, model = pool.slaves[-1], Model(vdi.size)
    model.write(one_sector("below", 0))
    vdi.write(one_sector("below", 0))
    vdi.snapshot().destroy()
    sr.api.VBD.plug(sr.on(slave).create_vbd(vdi.ref))
    slave.power_cut()

    assert list(sr.collect().failed) == [vdi.uuid]

    sr.api.host.declare_dead(slave.ref)
    assert sr.collect().leaves == (vdi.uuid,)
    vdi.on(pool.master).must_hold(model)
    pool.restart(slave, xenapi)
    vdi.must_hold(model)
