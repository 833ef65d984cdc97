"""Devices that lose, are slow, or have bad spots."""

import pytest
import XenAPI

from scenarios.background import calls
from scenarios.devicefaults.conftest import Disks
from scenarios.images import HEAD, Image
from scenarios.invariants import look
from scenarios.medium import Stored
from scenarios.oracle import BLOCK
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI
from testbed.errors import GuestFault

PAGE = 4096


def test_lost_writes_and_a_power_cut(disks: Disks, repositories: RepositoryCache) -> None:
    """A disk that says done and has written nothing: after the cut it is as before the revert.

    Whether the driver notices is its luck; what is on the disk is whole.
    """
    with disks.sr.faults.lost_writes():
        with calls(disks.sr) as start:
            call = start(lambda own: own.api.VDI.revert(disks.snapshot.ref))
        repositories.cut_the_power()
    assert call.outcome() in ("", "SR_BACKEND_FAILURE_46", "SR_BACKEND_FAILURE_82")
    disks.must_work()


def test_a_slow_disk(disks: Disks) -> None:
    """Every request takes 20 ms more: the same answers, later."""
    with disks.sr.faults.delay(20):
        disks.snapshot.revert_live_disk()
        fresh = disks.disk.snapshot()
    disks.reverted()
    disks.models[fresh.ref] = disks.models[disks.disk.ref].fork()
    disks.must_work()


def test_a_disk_that_hangs(disks: Disks) -> None:
    """A revert waits for its disk and then ends well; calls about nothing on it go on."""
    with calls(disks.sr) as start:
        with disks.sr.faults.hang():
            call = start(lambda own: own.api.VDI.revert(disks.snapshot.ref))
            assert disks.snapshot.record()["is_a_snapshot"]
            assert not call.over
        assert call.answer() == disks.disk.ref
    disks.reverted()
    disks.must_work()


def places(disks: Disks, image: Stored, offset: int, length: int) -> list[tuple[int, int]]:
    """Where bytes of an image lie on the device."""
    group = look(disks.sr).medium.group
    if group is None:
        pytest.skip("which sectors a file has is the file system's secret")
    return list(group.volumes[image.name].places(offset, length))


def image_of(disks: Disks, vdi: VDI) -> Stored:
    """What is stored of a disk."""
    return look(disks.sr).medium.images[vdi.uuid]


def test_bad_sectors_in_data(disks: Disks) -> None:
    """A revert reads no data: it works. Who reads the bad page gets EIO, all others theirs."""
    state = look(disks.sr)
    base = state.medium.chain(disks.snapshot.uuid)[1]
    assert base.head is not None
    block = Image(base.head, state.medium.reader(base)).block_at(2)
    with disks.sr.faults.bad_sectors(places(disks, base, block, PAGE)):
        disks.snapshot.revert_live_disk()
        with disks.disk.plugged("RO") as device:
            with pytest.raises(GuestFault, match="Input/output error"):
                disks.sr.host.read(device, 2 * BLOCK, PAGE)
            found = disks.sr.host.read(device, 2 * BLOCK + PAGE, PAGE)
            model = disks.models[disks.snapshot.ref]
            assert found == model.piece(2 * BLOCK + PAGE, PAGE)
    disks.reverted()
    disks.must_work()


def test_a_bad_header(disks: Disks) -> None:
    """The snapshot's header cannot be read: refused, and all others live on."""
    snapshot = image_of(disks, disks.snapshot)
    with disks.sr.faults.bad_sectors(places(disks, snapshot, 0, HEAD)):
        with pytest.raises(XenAPI.Failure) as caught:
            disks.snapshot.revert_live_disk()
        assert caught.value.details[0] in ("SR_BACKEND_FAILURE_46", "SR_BACKEND_FAILURE_82")
        disks.disk.must_hold(disks.models[disks.disk.ref])
    disks.must_work()


def test_no_place_for_a_new_leaf(disks: Disks) -> None:
    """What is free cannot be written: LVM makes the volume, the image cannot be made."""
    group = look(disks.sr).medium.group
    if group is None:
        pytest.skip("where a file will lie is the file system's secret")
    end = max(at + size for volume in group.volumes.values() for at, size in volume.segments)
    with disks.sr.faults.bad_ranges([(end, 512 << 20)]):
        with pytest.raises(XenAPI.Failure) as caught:
            disks.snapshot.revert_live_disk()
        assert caught.value.details[0] == "SR_BACKEND_FAILURE_82"
        disks.disk.must_hold(disks.models[disks.disk.ref])
    disks.must_work()
