"""The SR runs out of room in the middle: refused with 44, and nothing is lost."""

import pytest

from scenarios.background import calls
from scenarios.devicefaults.conftest import Disks
from scenarios.storage import Repository

NO_ROOM = "SR_BACKEND_FAILURE_44"


def fill(sr: Repository) -> None:
    """Take all that is free, past the driver, which is in the middle of something."""
    if sr.on_volumes:
        group = f"VG_XenStorage-{sr.uuid}"
        argv = ["lvcreate", "-qq", "-an", "-Wn", "-Zn", "-l", "100%FREE", "-n", "filler", group]
    else:
        argv = ["sh", "-c", f"dd if=/dev/zero bs=1M of={sr.directory}/filler; true"]
    done = sr.host.kernel.run(argv)
    assert done.returncode == 0, done.stderr


def give_back(sr: Repository) -> None:
    """Undo `fill`."""
    if sr.on_volumes:
        argv = ["lvremove", "-qq", "-f", f"VG_XenStorage-{sr.uuid}/filler"]
    else:
        argv = ["rm", f"{sr.directory}/filler"]
    done = sr.host.kernel.run(argv)
    assert done.returncode == 0, done.stderr


def test_full_in_the_middle_of_a_split(disks: Disks) -> None:
    """A snapshot of a disk with data: the base is there, the leaves find no room."""
    sr = disks.sr
    if not sr.on_volumes:
        pytest.skip("the room of a file SR is not taken by the driver's own steps alone")
    with calls(sr) as start:
        with sr.host.fist("LVHDRT_clone_vdi_after_shrink_parent", "hold") as held:
            call = start(lambda own: own.api.VDI.snapshot(disks.disk.ref))
            assert held.wait(60)
            fill(sr)
        assert call.outcome() == NO_ROOM
    give_back(sr)
    sr.scan()  # what could not be undone for lack of room is undone now
    disks.must_work()


def test_full_when_a_volume_is_inflated(disks: Disks) -> None:
    """A snapshot is attached for writing: its small volume must grow, and cannot."""
    sr = disks.sr
    if not sr.on_volumes:
        pytest.skip("files grow as they are written")
    vbd = sr.create_vbd(disks.snapshot.ref)
    with calls(sr) as start:
        with sr.host.fist("LVHDRT_inflate_after_create_journal", "hold") as held:
            call = start(lambda own: own.api.VBD.plug(vbd))
            assert held.wait(60)
            fill(sr)
        assert call.outcome() == NO_ROOM
    give_back(sr)
    sr.api.VBD.destroy(vbd)
    disks.must_work()
