"""Fixed disks: made, read, written, stood upon; and they stay what they are."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from srs import vhd

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "fixed.vhd"
    vhd.create_fixed(path, 3 * MIB)
    return path


def test_layout(disk: Path) -> None:
    raw = disk.read_bytes()
    assert len(raw) == 4 * MIB + 512
    assert raw[: 4 * MIB] == bytes(4 * MIB)
    footer = raw[4 * MIB :]
    assert footer[:24] == b"conectix" + bytes([0, 0, 0, 2, 0, 1, 0, 0]) + b"\xff" * 8
    assert footer[60:64] == b"\0\0\0\2"
    assert disk.stat().st_blocks * 512 >= 4 * MIB
    info = vhd.query(disk)
    assert (info.disk_type, info.size, info.physical_size) == (vhd.FIXED, 4 * MIB, len(raw))
    assert vhd.check(disk).valid


def test_read_and_write(disk: Path) -> None:
    footer = disk.read_bytes()[-512:]
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(0, b"a" * 100)
        chain.write(4 * MIB - 700, b"z" * 700)
        chain.zero(4 * MIB - 100, 100)
        with pytest.raises(vhd.OutOfRange):
            chain.write(4 * MIB - 1, b"zz")
    expected = b"a" * 100 + bytes(4 * MIB - 800) + b"z" * 600 + bytes(100)
    assert disk.read_bytes() == expected + footer
    with vhd.open_chain(disk) as chain:
        assert chain.read(0, 4 * MIB) == expected
        assert chain.depth == 1


def test_copies(disk: Path) -> None:
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(3 * MIB, b"x" * 600)
    dynamic, raw = disk.with_name("dynamic.vhd"), disk.with_name("disk.raw")
    vhd.copy(disk, dynamic)
    vhd.copy(dynamic, raw, raw_target=True)
    assert raw.read_bytes() == disk.read_bytes()[:-512]
    assert vhd.query(dynamic).disk_type == vhd.DYNAMIC


def test_shorter_than_it_says(disk: Path) -> None:
    raw = disk.read_bytes()
    disk.write_bytes(raw[:MIB] + raw[-512:])
    for writable in (False, True):
        with pytest.raises(vhd.Truncated):
            vhd.open_chain(disk, writable=writable)
    assert disk.read_bytes() == raw[:MIB] + raw[-512:]


def test_refused(tmp_path: Path) -> None:
    for size in (0, -1, (2040 << 30) + 1):
        with pytest.raises(vhd.SizeRefused):
            vhd.create_fixed(tmp_path / "new.vhd", size)
    free = shutil.disk_usage(tmp_path).free
    if free < 2040 << 30:
        with pytest.raises((vhd.NoSpace, vhd.StorageFailed)):
            vhd.create_fixed(tmp_path / "new.vhd", 2040 << 30)
    assert list(tmp_path.iterdir()) == []


def test_qemu_reads_what_we_write_and_the_other_way_round(disk: Path) -> None:
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(3 * MIB, b"x" * 600)
    raw, again = disk.with_name("disk.raw"), disk.with_name("again.vhd")
    options = f"driver=vpc,force_size_calc=current_size,file.filename={disk}"
    command = ["qemu-img", "convert", "--image-opts", options, "-O", "raw", str(raw)]
    subprocess.run(command, check=True)
    assert raw.read_bytes() == disk.read_bytes()[:-512]
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size"]
    subprocess.run([*convert, str(raw), str(again)], check=True)
    with vhd.open_chain(again) as chain:
        assert chain.read(0, chain.size) == raw.read_bytes()


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and the loop driver",
)
def test_device(tmp_path: Path) -> None:
    file = tmp_path / "device"
    file.write_bytes(os.urandom(5 * MIB))
    command = ["losetup", "--find", "--show", str(file)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        with pytest.raises(vhd.NoSpace) as caught:
            vhd.create_fixed(name, 6 * MIB)
        assert caught.value.errno == errno.ENOSPC
        vhd.create_fixed(name, 4 * MIB)
        with vhd.open_chain(name, writable=True) as chain:
            assert chain.read(0, 4 * MIB) == bytes(4 * MIB)
            chain.write(MIB, b"x")
        assert vhd.check(name).valid
        assert vhd.query(name).size == 4 * MIB
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)
