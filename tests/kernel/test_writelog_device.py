"""Logging what is written to a disk: the log, done again, makes the disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.devices.disk import MiB
from testbed.devices.writelog import Flag, WriteLog, recorded, windows
from testbed.errors import DeviceRefused
from testbed.host import Host


@pytest.fixture(scope="module")
def booted() -> Iterator[Host]:
    with Host(kernel="uml", name="log") as host:
        yield host


def test_a_log_makes_the_disk_again(booted: Host) -> None:
    """A file system's life: every byte, and the marks in their places."""
    directory = booted.add_directory(64 * MiB, layered=True)
    image, log_path = (booted.state_directory / name for name in ("image", "log"))
    script = f"for n in 1 2 3; do echo $n > {directory}/$n; sync; done; rm {directory}/2"
    with recorded(booted, directory, image, log_path) as recorder:
        recorder.mark("empty")
        assert booted.kernel.run(["sh", "-c", script]).returncode == 0
        booted.kernel.call("sync")
        recorder.mark("filled, \\ half")
    disk = booted.eject_directory(directory)

    fd = os.open(image, os.O_RDWR)
    with WriteLog(log_path) as log:
        log.replay(log.entries, fd)
        filled = log.entries[log.find("empty") : log.find("filled, \\ half")]
        assert len(windows(filled)) > 3
        assert any(entry.flags & Flag.FLUSH for entry in filled)
    os.close(fd)
    replayed = _recovered(booted, image)
    assert replayed == _recovered(booted, disk.path) == "1\n3\n"


def _recovered(host: Host, path: Path) -> str:
    """The files of a file system on a disk, all of them in one."""
    device = host.kernel.add_disk(path)
    host.kernel.call("mount", source=device, target="/mnt/again", kind="ext4")
    said = host.kernel.run(["sh", "-c", "cat /mnt/again/[0-9]"]).stdout
    host.kernel.call("unmount", target="/mnt/again")
    host.kernel.remove_disk(device)
    return said


def test_every_byte(booted: Host) -> None:
    """What a driver writes twice between two flushes is in the log twice: nothing merges it."""
    disk = booted.add_disk(MiB, layered=True)
    booted.write(disk.device, (0, b"before" * 1000))
    image, log_path = (booted.state_directory / name for name in ("image-2", "log-2"))
    script = (
        f"for n in zero urandom; do dd if=/dev/$n of={disk.device} bs=512 count=1 oflag=direct;done"
    )
    with recorded(booted, disk, image, log_path):
        assert booted.kernel.run(["sh", "-c", script]).returncode == 0
    booted.eject_disk(disk)
    fd = os.open(image, os.O_RDWR)
    with WriteLog(log_path) as log:
        writes = [entry for entry in log.entries if entry.length]
        assert [(entry.offset, entry.length) for entry in writes] == [(0, 512), (0, 512)]
        assert image.read_bytes() != disk.path.read_bytes()
        log.replay(log.entries, fd)
    os.close(fd)
    assert image.read_bytes() == disk.path.read_bytes()


def test_a_disk_without_a_layer_is_refused(booted: Host, tmp_path: Path) -> None:
    disk = booted.add_disk(MiB)
    refused = pytest.raises(DeviceRefused, match="without a layer")
    with refused, recorded(booted, disk, tmp_path / "image", tmp_path / "log"):
        pass
    booted.remove_disk(disk)
