"""A pool as tests use it: what its hosts share, who loses power, and nothing left of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from scenarios.oracle import BLOCK, Model, awkward_spans, full_block
from scenarios.storage import VDI, Repository
from testbed.devices.disk import GiB
from testbed.errors import DeviceRefused, KernelDied
from testbed.pool import Pool
from testbed.provision import provision
from testbed.sessions import close_session
from testbed.sharing import provision_shared
from testbed.state import base


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, name="test", seed=3, storage=True) as pool:
        yield pool
    assert not list(base().glob("test[01]-*"))


@pytest.fixture(scope="module")
def session(pool: Pool) -> Iterator[Any]:
    session = pool.session()
    yield session
    close_session(session)


def live(pool: Pool, session: Any) -> list[bool]:
    api = session.xenapi
    metrics = [api.host.get_metrics(host.ref) for host in pool.hosts]
    return [api.host_metrics.get_live(ref) for ref in metrics]


def test_a_disk_is_the_same_one_everywhere(pool: Pool) -> None:
    disk = pool.add_disk(GiB)
    one, other = pool.hosts
    one.write(disk.device, (4096, b"written here"))
    assert other.read(disk.device, 4096, 12) == b"written here"
    pool.remove_disk(disk)
    assert not disk.path.exists()
    assert disk.device not in other.census()["loops"]


def test_power(pool: Pool, session: Any) -> None:
    sr = provision_shared(pool, session, "lvhd")
    api = session.xenapi
    master, slave = pool.hosts
    assert (pool.master, pool.slaves) == (master, (slave,))
    master.power_cut()
    assert live(pool, session) == [False, True]
    pool.appoint(slave)
    assert (pool.master, pool.slaves) == (slave, (master,))
    assert api.SR.get_live_hosts(sr.ref) == [host.ref for host in pool.hosts]
    pool.restart(master, session)
    assert live(pool, session) == [True, True]
    assert api.SR.get_live_hosts(sr.ref) == [host.ref for host in pool.hosts]
    api.SR.scan(sr.ref)


def test_a_kernel_that_dies_by_itself(pool: Pool, session: Any) -> None:
    master, slave = pool.master, pool.slaves[0]
    with pytest.raises(KernelDied, match="it panicked"):
        master.kernel.run(["sh", "-c", "echo c > /proc/sysrq-trigger"])
    assert live(pool, session) == [host is slave for host in pool.hosts]
    pool.appoint(slave)
    assert pool.master is slave
    pool.restart(master, session)
    assert live(pool, session) == [True, True]


def test_a_copy_from_one_host_to_another(pool: Pool, session: Any) -> None:
    one, other = (
        Repository(host, session, provision(host, session, kind))
        for host, kind in zip(pool.hosts, ("ext", "lvhd"), strict=True)
    )
    vdi, model = one.create(8 * BLOCK), Model(8 * BLOCK)
    for spans in (awkward_spans("copied", vdi.size), full_block("copied")):
        vdi.write(spans)
        model.write(spans)
    copy = VDI(other, other.api.VDI.copy(vdi.ref, other.ref))
    copy.must_hold(model)
    assert int(copy.record()["virtual_size"]) == vdi.size


def test_what_a_pool_cannot_share(pool: Pool, session: Any) -> None:
    with pytest.raises(DeviceRefused, match="a pool cannot share 'ext'"):
        provision_shared(pool, session, "ext")
    with pytest.raises(DeviceRefused, match="has no layers"):
        provision_shared(pool, session, "lvhd", layered=True)


def test_a_pool_of_nobody() -> None:
    with pytest.raises(DeviceRefused, match="a pool of 0 hosts"):
        Pool(0)
