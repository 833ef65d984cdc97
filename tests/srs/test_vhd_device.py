"""Disks on block devices: the footer at the end, stale bytes, no room. On real loop devices."""

import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from srs import vhd

MIB = 1 << 20
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and the loop driver",
)


def losetup(*arguments: str) -> str:
    done = subprocess.run(["losetup", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Make devices of a length, full of stale bytes."""
    made: list[str] = []

    def make(length: int) -> str:
        file = tmp_path / f"device{len(made)}"
        file.write_bytes(random.Random(len(made)).randbytes(length))
        made.append(losetup("--find", "--show", str(file)))
        return made[-1]

    yield make
    for name in made:
        losetup("--detach", name)


def resize(name: str, length: int) -> None:
    """Grow or shrink the device, new bytes being stale ones."""
    file = Path(losetup("--noheadings", "--output", "BACK-FILE", name))
    old = file.stat().st_size
    with file.open("r+b") as backing:
        backing.truncate(length)
        backing.seek(old)
        backing.write(os.urandom(max(0, length - old)))
    losetup("--set-capacity", name)


def tail(name: str) -> bytes:
    with open(name, "rb") as file:
        file.seek(-512, os.SEEK_END)
        return file.read()


def test_chain_on_devices(device: Callable[[int], str]) -> None:
    base, leaf = device(16 * MIB), device(12 * MIB)
    vhd.create(base, 6 * MIB, max_size=2 << 40)
    with vhd.open_chain(base, writable=True) as disk:
        assert disk.read(0, 6 * MIB) == bytes(6 * MIB)
        disk.write(MIB, b"b" * (2 * MIB))
    vhd.snapshot(leaf, base, max_size=2 << 40)
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.write(2 * MIB, b"l" * 512)
    expected = bytes(MIB) + b"b" * MIB + b"l" * 512 + b"b" * (MIB - 512) + bytes(3 * MIB)
    with vhd.open_chain(leaf) as disk:
        assert disk.read(0, 6 * MIB) == expected
    for name, blocks in ((base, 2), (leaf, 1)):
        info = vhd.query(name, allocated=True)
        assert info.allocated == blocks
        assert info.physical_size == (8455 + 4104 * (blocks - 1) + 4097) * 512 + 512
        with open(name, "rb") as file:
            assert file.read(512) == tail(name)
    assert vhd.query(leaf).parent == base


def test_no_room_for_the_metadata(device: Callable[[int], str]) -> None:
    base, leaf = device(4329472), device(4329472 - 512)
    vhd.create(base, 100 << 30, max_size=2 << 40)
    with pytest.raises(vhd.NoSpace) as caught:
        vhd.snapshot(leaf, base, max_size=2 << 40)
    assert (caught.value.needed, caught.value.available) == (4329472, 4329472 - 512)
    assert caught.value.errno == errno.ENOSPC


def test_no_room_for_a_block(device: Callable[[int], str]) -> None:
    """The second block would overwrite the footer. Growing the device makes room for it."""
    name = device(4 * MIB)
    vhd.create(name, 8 * MIB)
    with vhd.open_chain(name, writable=True) as disk:
        disk.write(0, b"1" * 512)
        with pytest.raises(vhd.NoSpace):
            disk.write(2 * MIB - 512, b"2" * 1024)
        disk.flush()
        assert disk.read(2 * MIB - 512, 1024) == b"2" * 512 + bytes(512)
    assert vhd.query(name, allocated=True).allocated == 1
    resize(name, 8 * MIB)
    vhd.set_physical_size(name, 8 * MIB)
    with vhd.open_chain(name, writable=True) as disk:
        disk.write(2 * MIB, b"2" * 512)
    with vhd.open_chain(name) as disk:
        assert disk.read(2 * MIB - 512, 1024) == b"2" * 1024


def test_inflate_and_deflate(device: Callable[[int], str]) -> None:
    name = device(8 * MIB)
    vhd.create(name, 4 * MIB, max_size=64 * MIB)
    with vhd.open_chain(name, writable=True) as disk:
        disk.write(0, b"x" * (2 * MIB))
    resize(name, 16 * MIB)
    assert vhd.query(name).size == 4 * MIB
    for wrong in (16 * MIB + 512, vhd.query(name).physical_size - 512):
        with pytest.raises(vhd.SizeRefused):
            vhd.set_physical_size(name, wrong)
    vhd.set_physical_size(name, 16 * MIB)
    vhd.set_hidden(name, True)
    with open(name, "rb") as file:
        assert file.read(512) == tail(name)
    needed = vhd.query(name).physical_size
    vhd.set_physical_size(name, needed)
    resize(name, needed)
    info = vhd.query(name)
    assert (info.hidden, info.physical_size) == (1, needed)
    with vhd.open_chain(name) as disk:
        assert disk.read(0, 4 * MIB) == b"x" * (2 * MIB) + bytes(2 * MIB)


def test_footer_of_a_former_disk_at_the_end_is_not_believed(device: Callable[[int], str]) -> None:
    """An LV that grew over the end of a deleted one shows that one's footer as its last sector."""
    name, other = device(8 * MIB), device(8 * MIB)
    vhd.create(other, 64 << 20)
    vhd.create(name, 4 * MIB)
    with open(name, "r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(tail(other))
    assert vhd.query(name).size == 4 * MIB
    vhd.open_chain(name, writable=True).close()
    with open(name, "rb") as file:
        assert file.read(512) == tail(name)


def test_raw_device(device: Callable[[int], str]) -> None:
    raw, leaf = device(4 * MIB), device(12 * MIB)
    with vhd.open_raw(raw, writable=True) as disk:
        assert disk.size == 4 * MIB
        disk.write(0, b"r" * (4 * MIB))
    vhd.snapshot(leaf, raw, raw_parent=True, max_size=8 * MIB)
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.write(512, b"l" * 512)
        assert disk.read(0, 1536) == b"r" * 512 + b"l" * 512 + b"r" * 512


def test_self_snapshot_through_another_node(device: Callable[[int], str], tmp_path: Path) -> None:
    name = device(8 * MIB)
    vhd.create(name, 4 * MIB)
    node = tmp_path / "node"
    os.mknod(node, 0o600 | 0o060000, os.stat(name).st_rdev)
    with pytest.raises(vhd.ChainLoop):
        vhd.snapshot(node, name)
