"""FIST points: each action does what it says, from outside and as upstream's tests do it."""

import threading

import pytest
import XenAPI

from scenarios.oracle import Model, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository
from testbed.errors import DeviceRefused
from testbed.sessions import close_session


def dest(sr: Repository) -> str:
    """The last point of a revert before its commit point."""
    family = "LVM" if sr.kind.startswith("lvhd") else "FileSR"
    return f"{family}_revert_create_dest"


@pytest.fixture
def snapshot(vdi: VDI) -> VDI:
    """A snapshot of `vdi`, which has been written to since."""
    vdi.write(one_sector("wanted", 0))
    snapshot = vdi.snapshot()
    vdi.write(one_sector("lost", 0))
    return snapshot


@pytest.fixture
def lost(vdi: VDI) -> Model:
    """What `vdi` holds before the revert."""
    model = Model(vdi.size)
    model.write(one_sector("lost", 0))
    return model


def test_error_as_upstream_asks_for_it(
    sr: Repository, vdi: VDI, snapshot: VDI, lost: Model
) -> None:
    """An empty file and LVHDRT_exit: fault 203, and the disk holds what it held."""
    (host,) = sr.api.host.get_all()

    def switch(active: str) -> None:
        for name in (dest(sr), "LVHDRT_exit"):
            arguments = {"fistPoint": name, "active": active}
            sr.api.host.call_plugin(host, "testing-hooks", "setFistPoint", arguments)

    switch("True")
    try:
        with pytest.raises(XenAPI.Failure, match="SR_BACKEND_FAILURE_203"):
            snapshot.revert_live_disk()
    finally:
        switch("False")
    assert dest(sr) not in sr.api.SR.get_other_config(sr.ref)
    vdi.must_hold(lost)


def test_sleep(sr: Repository, snapshot: VDI, vdi: VDI) -> None:
    """The call waits, the SR says so, the call goes on."""
    session = sr.host.session()
    with sr.host.fist(dest(sr), action="sleep 1") as fist:
        call = threading.Thread(target=sr.api.VDI.revert, args=(snapshot.ref,))
        call.start()
        assert fist.wait(60)
        assert session.xenapi.SR.get_other_config(sr.ref)[dest(sr)] == "active"
        call.join()
    close_session(session)
    assert dest(sr) not in sr.api.SR.get_other_config(sr.ref)
    model = Model(vdi.size)
    model.write(one_sector("wanted", 0))
    vdi.must_hold(model)


def test_kill(sr: Repository, snapshot: VDI, vdi: VDI, lost: Model) -> None:
    """The process of the call is gone, the host goes on."""
    with sr.host.fist(dest(sr), action="kill") as fist, pytest.raises(XenAPI.Failure):
        snapshot.revert_live_disk()
    assert fist.reached
    vdi.must_hold(lost)


def test_power_cut(
    sr: Repository, snapshot: VDI, vdi: VDI, lost: Model, repositories: RepositoryCache
) -> None:
    """The kernel is gone at just this point."""
    with sr.host.fist(dest(sr), action="power-cut") as fist, pytest.raises(XenAPI.Failure):
        snapshot.revert_live_disk()
    assert fist.reached
    assert not sr.host.kernel.running
    repositories.restart()
    vdi.must_hold(lost)


def test_points_that_are_not_reached_or_not_there(sr: Repository, snapshot: VDI) -> None:
    """Leaving the block switches the point off; a wrong name or action is refused."""
    with sr.host.fist("LVM_journaler_none") as fist:
        with pytest.raises(DeviceRefused, match="is on already"), sr.host.fist(fist.name):
            pass
        assert not fist.reached
    with pytest.raises(DeviceRefused, match="FIST point 'LVM_jour'"), sr.host.fist("LVM_jour"):
        pass
    with pytest.raises(DeviceRefused, match="'explode'"), sr.host.fist(dest(sr), "explode"):
        pass
    with sr.host.fist(dest(sr), "error"):
        pass
    snapshot.revert_live_disk()
