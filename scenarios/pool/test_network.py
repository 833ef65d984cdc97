"""Trouble on the wire between the hosts and their storage, in the middle of a revert."""

from contextlib import ExitStack

import pytest

from scenarios.background import calls
from scenarios.pool.conftest import Shared
from scenarios.storage import Repository
from testbed.pool import Pool

#: Seconds after which something that must happen counts as not happening.
_PATIENCE = 60


@pytest.fixture(autouse=True)
def over_the_network(sr: Repository) -> None:
    """Only SRs whose disks come over the wire."""
    if sr.kind.startswith("lvhd") and not sr.kind.startswith("lvhdoiscsi"):
        pytest.skip("its disks do not come over the network")


@pytest.mark.parametrize("point", range(3))
def test_the_master_loses_its_storage_for_a_while(
    pool: Pool, sr: Repository, disk: Shared, point: int
) -> None:
    """A revert goes on when the storage is back, or fails; the slave reads on meanwhile."""
    other = sr.create(disk.vdi.size).on(pool.slaves[0])
    with calls(sr) as start, ExitStack() as held:
        fist = held.enter_context(pool.master.fist(sr.revert_points[point], "hold"))
        reverting = start(lambda own: own.api.VDI.revert(disk.snapshot.ref))
        assert fist.wait(_PATIENCE)
        with pool.network.cut(pool.master.nic, pool.storage.nic) as cut:
            held.close()  # the driver goes on, and gets no answer from here on
            assert cut.wait_for_frame(_PATIENCE)
            with other.plugged() as device:
                pool.slaves[0].write(device, (0, b"the slave works on"))
        refused = reverting.outcome()
    if refused:
        sr.scan()
    disk.must_hold(disk.old if refused else disk.wanted, *pool.hosts)
    disk.revert_and_check(pool)


def test_a_slow_and_lossy_network(pool: Pool, disk: Shared) -> None:
    """It takes its time, and nothing else."""
    with pool.network.impaired(delay=0.005, loss=0.01):
        disk.revert_and_check(pool)
    assert sum(machine.nic.counters.lost for machine in pool.machines) > 0
