"""A scan tells what disks say themselves, and goes on behind a damaged one."""

import errno
import os
import random
import subprocess
from pathlib import Path

import pytest

from srs import vhd
from srs.vhd.backing import Backing
from srs.vhd.scan import volume_name

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A raw image, a base copy on it, two leaves, a fixed disk, and two files that are no disks."""
    (tmp_path / "root.raw").write_bytes(bytes(8 * MIB))
    vhd.snapshot(tmp_path / "base.vhd", tmp_path / "root.raw", raw_parent=True)
    with vhd.open_chain(tmp_path / "base.vhd", writable=True) as disk:
        disk.write(0, b"b" * (2 * MIB))
    for name in ("one", "two"):
        vhd.snapshot(tmp_path / f"{name}.vhd", tmp_path / "base.vhd")
    vhd.set_hidden(tmp_path / "base.vhd", True)
    vhd.create_fixed(tmp_path / "fixed.vhd", 2 * MIB)
    (tmp_path / "text.vhd").write_text("no disk")
    raw = bytearray((tmp_path / "one.vhd").read_bytes())
    raw[512] = 0
    (tmp_path / "broken.vhd").write_bytes(raw)
    return tmp_path


def short(record: vhd.Scanned | vhd.ScanFailed) -> tuple[object, ...]:
    name = os.path.basename(record.path)
    if isinstance(record, vhd.ScanFailed):
        return name, record.text, record.errno
    return name, record.capacity, record.hidden, record.parent


def all_of(tree: Path) -> list[str]:
    return vhd.find_files(f"{tree}/*.vhd")


def test_records(tree: Path) -> None:
    base, root = str(tree / "base.vhd"), str(tree / "root.raw")
    assert list(map(short, vhd.scan(all_of(tree)))) == [
        ("base.vhd", 8 * MIB, 1, root),
        ("broken.vhd", "reading header", errno.EINVAL),
        ("fixed.vhd", 2 * MIB, 0, None),
        ("one.vhd", 8 * MIB, 0, base),
        ("text.vhd", "invalid footer", errno.EINVAL),
        ("two.vhd", 8 * MIB, 0, base),
    ]
    (record,) = vhd.scan([tree / "base.vhd"])
    assert isinstance(record, vhd.Scanned)
    assert record.size == (tree / "base.vhd").stat().st_size
    assert record.unique_id == vhd.query(base).unique_id
    assert record.disk_type == vhd.DIFFERENCING


def test_fast_scan_reads_the_start_only(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: dict[str, int] = {}
    read = Backing.read

    def taped(backing: Backing, offset: int, length: int) -> bytes:
        name = os.path.basename(backing.path)
        ends[name] = max(ends.get(name, 0), offset + length)
        return read(backing, offset, length)

    monkeypatch.setattr(Backing, "read", taped)
    assert list(map(short, vhd.scan(all_of(tree), fast=True))) == [
        ("base.vhd", 8 * MIB, 1, "root.raw"),
        ("broken.vhd", "reading header", errno.EINVAL),
        ("fixed.vhd", 2 * MIB, 0, None),
        ("one.vhd", 8 * MIB, 0, "base.vhd"),
        ("text.vhd", "invalid footer", errno.EINVAL),
        ("two.vhd", 8 * MIB, 0, "base.vhd"),
    ]
    assert {name for name, end in ends.items() if end <= 1536} == {
        *("base.vhd", "broken.vhd", "one.vhd", "text.vhd", "two.vhd")
    }


@pytest.mark.parametrize("fast", [False, True])
def test_ancestors_once_each(tree: Path, fast: bool) -> None:
    leaves = vhd.find_files(f"{tree}/{{one,two}}.vhd")
    assert [short(record)[:3] for record in vhd.scan(leaves, fast=fast, ancestors=True)] == [
        ("one.vhd", 8 * MIB, 0),
        ("two.vhd", 8 * MIB, 0),
        ("base.vhd", 8 * MIB, 1),
        ("root.raw", 8 * MIB, 1),
    ]


def test_missing_parent(tree: Path) -> None:
    (tree / "base.vhd").unlink()
    record, gone = vhd.scan([tree / "one.vhd"], ancestors=True)
    assert short(record) == ("one.vhd", 8 * MIB, 0, "./base.vhd")
    assert short(gone) == ("base.vhd", "opening file", errno.ENOENT)


def test_lost_primary_footer(tree: Path) -> None:
    with (tree / "one.vhd").open("r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(b"\xc7" * 512)
    for fast in (False, True):
        (record,) = vhd.scan([tree / "one.vhd"], fast=fast)
        assert isinstance(record, vhd.Scanned)


def test_markers(tree: Path) -> None:
    with (tree / "base.vhd").open("r+b") as file:
        file.seek(2048 + 28)
        file.write(b"\7\1" + bytes(32) + b"h" * 32)
    for fast in (False, True):
        base, one, fixed = vhd.scan(
            [tree / "base.vhd", tree / "one.vhd", tree / "fixed.vhd"], fast=fast, markers=True
        )
        assert isinstance(base, vhd.Scanned)
        assert isinstance(one, vhd.Scanned)
        assert isinstance(fixed, vhd.Scanned)
        assert (base.marker, base.key_hash) == (7, b"h" * 32)
        assert (one.marker, one.key_hash) == (0, None)
        assert (fixed.marker, fixed.key_hash) == (None, None)


def test_patterns(tree: Path) -> None:
    assert vhd.find_files(f"{tree}/nothing*") == []
    names = [os.path.basename(path) for path in vhd.find_files(f"{tree}/{{t,o}}{{wo,ne,ext}}.vhd")]
    assert names == ["one.vhd", "text.vhd", "two.vhd"]


@pytest.mark.parametrize(
    ("mapped", "name"),
    [
        ("VG_XenStorage--1234-VHD--aaaa", "VHD-aaaa"),
        ("/dev/mapper/VG_XenStorage--1234-LV--b--c", "LV-b-c"),
        ("group---volume", "volume"),
        ("plain", "plain"),
        ("base.vhd", "base.vhd"),
        ("a-b-c", "a-b-c"),
    ],
)
def test_name_of_a_volume(mapped: str, name: str) -> None:
    assert volume_name(mapped) == name


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and the loop driver",
)
def test_volumes_that_are_not_active(tmp_path: Path) -> None:
    """Two disks inside one device, found where their first extents begin."""
    device = tmp_path / "device"
    device.write_bytes(random.Random(1).randbytes(16 * MIB))
    paths = [tmp_path / "group-VHD--base", tmp_path / "group-VHD--leaf"]
    vhd.create(paths[0], 100 * MIB)
    vhd.snapshot(paths[1], paths[0])
    with device.open("r+b") as file:
        for path, at in zip(paths, (4 * MIB, 8 * MIB), strict=True):
            file.seek(at)
            file.write(path.read_bytes())
    command = ["losetup", "--find", "--show", str(device)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    volumes = [
        vhd.Volume("VHD-base", name, 4 * MIB, 4 * MIB),
        vhd.Volume("LV-raw", name, 12 * MIB, 4 * MIB),
        vhd.Volume("VHD-leaf", name, 8 * MIB, 4 * MIB),
        vhd.Volume("VHD-gone", "/dev/gone", 0, 4 * MIB),
    ]
    try:
        assert list(map(short, vhd.scan_volumes(volumes, markers=True))) == [
            ("VHD-base", 100 * MIB, 0, None),
            ("LV-raw", "invalid footer", errno.EINVAL),
            ("VHD-leaf", 100 * MIB, 0, "VHD-base"),
            ("VHD-gone", "reading file", errno.ENOENT),
        ]
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)
