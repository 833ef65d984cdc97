"""What serves the SR goes away in the middle of a revert, which succeeds or fails: never half."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import XenAPI

from scenarios.oracle import Model
from scenarios.pool.conftest import Shared
from scenarios.storage import Repository
from testbed.devices import iscsi
from testbed.pool import Pool
from testbed.sessions import close_session

#: Seconds that a revert stands still before its commit point. Trouble begins and ends meanwhile,
#: or, with a storage kernel that has to boot, soon afterwards.
_PAUSE = 2


@pytest.fixture(autouse=True)
def served(pool: Pool, sr: Repository) -> None:
    """Only for SRs that the storage kernel serves."""
    if sr.kind not in ("nfs", "nfs-v4", "lvhdoiscsi"):
        pytest.skip("its disks are not behind the storage kernel")


@contextlib.contextmanager
def _in_the_middle(pool: Pool, sr: Repository, disk: Shared) -> Iterator[Callable[[], bool]]:
    """A revert that stands still; call what this gives for its end: whether it succeeded."""
    session = pool.session()
    outcome: list[bool] = []

    def revert() -> None:
        try:
            session.xenapi.VDI.revert(disk.snapshot.ref)
        except XenAPI.Failure:
            outcome.append(False)
        else:
            outcome.append(True)

    def ended() -> bool:
        call.join()
        return outcome[0]

    call = threading.Thread(target=revert)
    with pool.master.fist(sr.revert_points[-1], action=f"sleep {_PAUSE}") as fist:
        call.start()
        assert fist.wait(60)
        try:
            yield ended
        finally:
            call.join()
            close_session(session)


def _must_be_whole(pool: Pool, sr: Repository, disk: Shared, *, reverted: bool) -> None:
    """Old or new, as the call has said; then a revert works."""
    sr.scan()
    model: Model = disk.wanted if reverted else disk.old
    disk.must_hold(model, *pool.hosts)
    disk.revert_and_check(pool)


def test_the_storage_kernel_loses_its_power(pool: Pool, sr: Repository, disk: Shared) -> None:
    """What was not on its disks is gone; the hosts find it again by themselves."""
    with _in_the_middle(pool, sr, disk) as ended:
        pool.storage.power_cut()
        pool.storage.restart()
        reverted = ended()
    _must_be_whole(pool, sr, disk, reverted=reverted)


def test_the_server_restarts(pool: Pool, sr: Repository, disk: Shared) -> None:
    """The NFS server starts anew, or every iSCSI session breaks and logins are refused a while."""
    server = iscsi.target_of(pool.storage) if sr.kind == "lvhdoiscsi" else pool.storage.nfs
    with _in_the_middle(pool, sr, disk) as ended:
        server.stop()
        server.start()
        reverted = ended()
    _must_be_whole(pool, sr, disk, reverted=reverted)


def test_the_network_is_down_for_a_while(pool: Pool, sr: Repository, disk: Shared) -> None:
    """Nobody reaches the storage kernel while the revert stands still, and when it goes on."""
    with _in_the_middle(pool, sr, disk) as ended:
        with pool.network.cut(pool.storage.nic):
            time.sleep(_PAUSE + 0.5)  # how long it is down is what this is about
        reverted = ended()
    _must_be_whole(pool, sr, disk, reverted=reverted)
