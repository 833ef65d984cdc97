"""Changed block logs, byte for byte, and everything that can be wrong with one."""

import errno
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srs import vhd
from srs.vhd import cbt
from srs.vhd.backing import Backing

MIB = 1 << 20
A, B = UUID(int=0xA << 100), UUID(int=0xB << 100)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "disk.cbtlog"
    cbt.create(path, 20 * MIB)
    return path


def test_golden(log: Path) -> None:
    assert log.read_bytes() == bytes(40) + (20 * MIB).to_bytes(8, "little") + bytes(40)
    cbt.set_fields(log, parent=A, child=B, consistent=1)
    assert log.read_bytes()[:40] == A.bytes + B.bytes + b"\1\0\0\0" + bytes(4)
    assert cbt.get(log) == cbt.CBTLog(20 * MIB, A, B, 1)


@pytest.mark.parametrize(
    ("size", "length"),
    [(1, 49), (64 << 10, 49), (512 << 10, 49), ((512 << 10) + 1, 50), (2040 << 30, 4177968)],
)
def test_lengths(tmp_path: Path, size: int, length: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100)
    cbt.create(path, size)
    assert path.stat().st_size == cbt.log_length(size) == length
    assert cbt.get_bitmap(path) == bytes(length - 48)


def test_fields_are_changed_one_by_one(log: Path) -> None:
    cbt.set_fields(log, child=B)
    cbt.set_fields(log, consistent=-1)
    cbt.set_fields(log)
    assert cbt.get(log) == cbt.CBTLog(20 * MIB, child=B, consistent=-1)


def test_resize_keeps_bits_and_zeroes_new_ones(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(48)
        file.write(b"\xff" * 40 + b"stale bytes of a volume")
    cbt.resize(log, 40 * MIB)
    assert cbt.get_bitmap(log) == b"\xff" * 40 + bytes(40)
    with pytest.raises(vhd.SizeRefused) as caught:
        cbt.resize(log, 40 * MIB - 1)
    assert caught.value.minimum == 40 * MIB
    assert cbt.get(log).size == 40 * MIB


@pytest.mark.parametrize("size", [0, -1, (2 << 40) + 1])
def test_size_of_no_disk(tmp_path: Path, size: int) -> None:
    with pytest.raises(vhd.SizeRefused):
        cbt.create(tmp_path / "log", size)
    assert not (tmp_path / "log").exists()


@given(
    st.lists(st.integers(0, 399), max_size=40),
    st.lists(st.integers(0, 399), max_size=40),
    st.integers(200, 400),
)
def test_coalesce_is_the_union(
    tmp_path_factory: pytest.TempPathFactory, old: list[int], new: list[int], pieces: int
) -> None:
    directory = tmp_path_factory.getbasetemp()
    parent, child = directory / "parent", directory / "child"
    old = [piece for piece in old if piece < pieces]
    for path, count, touched in ((parent, pieces, old), (child, 400, new)):
        cbt.create(path, count * cbt.PIECE)
        bits = sum(1 << piece for piece in set(touched))
        with path.open("r+b") as file:
            file.seek(48)
            file.write(bits.to_bytes(-(-count // 8), "little"))
    before = parent.read_bytes()
    for _ in range(2):
        cbt.coalesce(parent, child)
        bits = int.from_bytes(cbt.get_bitmap(child), "little")
        assert {piece for piece in range(400) if bits >> piece & 1} == {*old, *new}
    assert parent.read_bytes() == before
    exported = int.from_bytes(cbt.changed(cbt.get_bitmap(child)), "big")
    assert {piece for piece in range(400) if exported >> (399 - piece) & 1} == {*old, *new}


def test_coalesce_of_whole_terabytes(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    chance = random.Random(1)
    bits = [chance.randbytes(cbt.bitmap_length(2040 << 30)) for _ in range(2)]
    for path, bitmap in zip((parent, child), bits, strict=True):
        cbt.create(path, 2040 << 30)
        with path.open("r+b") as file:
            file.seek(48)
            file.write(bitmap)
    cbt.coalesce(parent, child)
    union = bytes(old | new for old, new in zip(*bits, strict=True))
    assert cbt.get_bitmap(child) == union
    assert cbt.get_bitmap(parent) == bits[0]


def test_coalesce_refuses_a_larger_parent(log: Path) -> None:
    child = log.with_name("child")
    cbt.create(child, 20 * MIB - 1)
    before = child.read_bytes()
    with pytest.raises(vhd.SizeRefused) as caught:
        cbt.coalesce(log, child)
    assert caught.value.errno == errno.EINVAL
    assert child.read_bytes() == before


SHAPED = st.builds(
    lambda head, size, bits: head + size.to_bytes(8, "little") + bits,
    st.binary(min_size=40, max_size=40),
    st.one_of(st.integers(0, 200 * cbt.PIECE), st.integers(0, (1 << 64) - 1)),
    st.binary(max_size=30),
)


@given(st.one_of(SHAPED, st.binary(max_size=60)))
def test_any_bytes_are_a_log_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(raw)
    size = int.from_bytes(raw[40:48], "little") if len(raw) >= 48 else 1 << 64
    if size <= 200 * cbt.PIECE and cbt.log_length(size) <= len(raw):
        assert cbt.get(path).size == size
        assert cbt.get_bitmap(path) == raw[48:][: cbt.bitmap_length(size)]
    else:
        for use in (cbt.get, cbt.set_fields, cbt.get_bitmap):
            with pytest.raises(vhd.BadLog) as caught:
                use(path)
            assert caught.value.errno == errno.EIO
        with pytest.raises(vhd.BadLog):
            cbt.coalesce(path, path)
    assert path.read_bytes() == raw


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: raw[:47], "only 47 bytes"),
        (lambda raw: raw[:87], "ends before byte 88"),
        (lambda raw: raw[:40] + b"\xff" * 8 + raw[48:], "a disk of 18446744073709551615 bytes"),
    ],
)
def test_bad_logs(log: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    log.write_bytes(change(log.read_bytes()))
    with pytest.raises(vhd.BadLog, match=reason):
        cbt.get(log)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(vhd.StorageFailed) as caught:
        cbt.get(tmp_path / "gone")
    assert caught.value.errno == errno.ENOENT


def test_new_bits_are_durable_before_the_size_says_so(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write, sync = Backing.write, Backing.sync

    def taped_write(backing: Backing, offset: int, *buffers: bytes) -> None:
        done.append(f"write {offset}")
        write(backing, offset, *buffers)

    def taped_sync(backing: Backing) -> None:
        done.append("sync")
        sync(backing)

    monkeypatch.setattr(Backing, "write", taped_write)
    monkeypatch.setattr(Backing, "sync", taped_sync)
    cbt.resize(log, 40 * MIB)
    assert done == ["write 88", "sync", "write 0", "sync"]


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and the loop driver",
)
def test_log_on_a_volume(tmp_path: Path) -> None:
    file = tmp_path / "device"
    file.write_bytes(os.urandom(8192))
    command = ["losetup", "--find", "--show", str(file)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        cbt.create(name, 20 * MIB)
        assert cbt.get_bitmap(name) == bytes(40)
        cbt.resize(name, 1 << 30)
        assert cbt.get_bitmap(name) == bytes(2048)
        for refused in (cbt.resize, cbt.create):
            with pytest.raises(vhd.NoSpace):
                refused(name, 8 << 30)
        assert cbt.get(name).size == 1 << 30
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)
