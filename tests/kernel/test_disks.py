"""Disks: hot plug, sizes that cost nothing, and what a power cut leaves on them."""

from pathlib import Path

import pytest

from testbed.devices.disk import GiB, MiB, TiB, create_file
from testbed.errors import DeviceRefused
from testbed.kernel.uml import UmlKernel
from testbed.state import StateDirectory, base


def space(path: Path) -> int:
    """Bytes that a file takes on this machine."""
    return path.stat().st_blocks * 512


def test_a_huge_disk_costs_nothing(guest: UmlKernel) -> None:
    path = create_file(guest.state.path / "huge", 2 * TiB)
    device = guest.add_disk(path)
    assert device.startswith("/dev/loop")
    assert guest.call("size", path=device) == 2 * TiB
    guest.call("write", blob=b"end", path=device, spans=[(2 * TiB - 4096, 3)], sync=True)
    answer = guest.exchange("read", {"path": device, "offset": 2 * TiB - 4096, "length": 3})
    assert answer.blob == b"end"
    assert space(path) < MiB
    guest.remove_disk(device)


def test_plugging_and_unplugging(guest: UmlKernel) -> None:
    """A slot is free again after a disk was taken out."""
    before = guest.call("census", roots=[])["loops"]
    for number in range(20):
        path = create_file(guest.state.path / f"disk-{number}", MiB)
        device = guest.add_disk(path)
        assert guest.call("size", path=device) == MiB
        guest.remove_disk(device)
    assert guest.call("census", roots=[])["loops"] == before


def test_refusals(guest: UmlKernel, tmp_path: Path) -> None:
    with pytest.raises(DeviceRefused, match="no file"):
        guest.add_disk(guest.state.path / "nothing")
    with pytest.raises(DeviceRefused, match="no disk"):
        guest.remove_disk("/dev/loop99")
    with pytest.raises(DeviceRefused, match="multiple of 512"):
        create_file(guest.state.path / "odd", 1000)
    with pytest.raises(DeviceRefused, match="cannot write it"):
        guest.add_disk(create_file(tmp_path / "elsewhere", MiB))
    taken = create_file(guest.state.path / "taken", MiB)
    with pytest.raises(DeviceRefused, match="File exists"):
        create_file(taken, MiB)


def test_a_disk_in_use_stays(guest: UmlKernel) -> None:
    path = create_file(guest.state.path / "used", 64 * MiB)
    device = guest.add_disk(path)
    assert guest.run(["mkfs.ext4", "-q", "-F", device]).returncode == 0
    guest.call("mount", source=device, target="/mnt/used", kind="ext4")
    with pytest.raises(DeviceRefused, match="in use"):
        guest.remove_disk(device)
    guest.call("unmount", target="/mnt/used")
    guest.remove_disk(device)


def test_a_power_cut_loses_what_was_not_flushed() -> None:
    """And only that: what was synced to the disk is there after the next boot."""
    state = StateDirectory(base(), "disks")
    path = create_file(state.path / "disk", GiB)
    first = UmlKernel(state, "first")
    first.boot()
    device = first.add_disk(path)
    assert first.run(["mkfs.ext4", "-q", "-F", device]).returncode == 0
    first.call("mount", source=device, target="/mnt/d", kind="ext4")
    first.run(["sh", "-c", "echo synced > /mnt/d/synced; sync /mnt/d/synced"])
    first.run(["sh", "-c", "echo held back > /mnt/d/held"])
    first.power_cut()

    second = UmlKernel(state, "second")
    second.boot()
    device = second.add_disk(path)
    second.call("mount", source=device, target="/mnt/d", kind="ext4")
    done = second.run(["sh", "-c", "cat /mnt/d/synced; cat /mnt/d/held"])
    assert done.stdout == "synced\n"
    assert "recovery complete" in second.console(200)
    second.power_off()
    state.close()
