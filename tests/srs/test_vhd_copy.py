"""A copy has its source's content, holds no more than that does, and is whole or not there."""

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srs import vhd
from srs.vhd.backing import Backing

MIB = 1 << 20
SIZE = 9 * MIB


def content(path: Path, *, raw: bool = False) -> bytes:
    with (vhd.open_raw if raw else vhd.open_chain)(path) as chain:
        return chain.read(0, chain.size)


def scribble(path: Path, chance: random.Random) -> None:
    """Full blocks, long runs, a few crumbs, and in one block very many."""
    with vhd.open_chain(path, writable=True) as disk:
        for _ in range(chance.randrange(4)):
            offset = chance.randrange(0, disk.size, 512)
            length = chance.choice([512, 4096, 100 << 10, 2 * MIB])
            disk.write(offset, chance.randbytes(min(length, disk.size - offset)))
        if chance.random() < 0.3:
            start = chance.randrange(4) * 2 * MIB
            for at in range(0, 200 * 4096, 4096 * chance.choice([1, 2, 9])):
                disk.write(start + at, chance.randbytes(chance.choice([512, 1536])))


def make_chain(directory: Path, chance: random.Random) -> Path:
    """One to four disks, the root dynamic or raw, each written to at random."""
    if chance.random() < 0.3:
        root = directory / "root.raw"
        with root.open("wb") as file:
            file.truncate(SIZE)
            file.seek(chance.randrange(0, SIZE, 512))
            file.write(chance.randbytes(5000))
            file.truncate(SIZE)
        leaf = directory / "0.vhd"
        vhd.snapshot(leaf, root, raw_parent=True)
    else:
        leaf = directory / "0.vhd"
        vhd.create(leaf, SIZE, max_size=chance.choice([0, 1 << 40]))
    scribble(leaf, chance)
    for level in range(1, chance.randrange(1, 4)):
        parent, leaf = leaf, directory / f"{level}.vhd"
        vhd.snapshot(leaf, parent, link_empty=True)
        if chance.random() < 0.3:
            vhd.resize(leaf, SIZE)
        scribble(leaf, chance)
    return leaf


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_every_way_of_copying(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    directory = tmp_path_factory.mktemp("copy")
    leaf = make_chain(directory, random.Random(seed))
    expected, before = content(leaf), hashlib.sha256(leaf.read_bytes()).digest()
    flat, raw, back, same = (directory / name for name in ("flat", "raw", "back", "same"))

    vhd.copy(leaf, flat)
    assert content(flat) == expected
    info = vhd.query(flat)
    assert (info.disk_type, info.parent, info.size) == (vhd.DYNAMIC, None, len(expected))
    assert info.max_size == vhd.query(leaf).max_size

    vhd.copy(leaf, raw, raw_target=True)
    assert raw.read_bytes() == expected

    vhd.copy(raw, back, raw_source=True)
    assert content(back) == expected
    assert vhd.query(back).size == len(expected)

    if vhd.query(leaf).disk_type == vhd.DIFFERENCING:
        vhd.copy(leaf, same, differences=True)
        assert content(same) == expected
        assert vhd.query(same).parent == vhd.query(leaf).parent
        held = vhd.query(leaf, allocated=True).allocated
        assert vhd.query(same, allocated=True).allocated == held
        assert vhd.check(same, parents=True, blocks=True).valid
    for path in (flat, back):
        assert vhd.check(path, blocks=True).valid
        assert path.stat().st_blocks * 512 < len(expected) + 6 * MIB
    assert hashlib.sha256(leaf.read_bytes()).digest() == before
    assert vhd.query(leaf).unique_id != vhd.query(flat).unique_id
    shutil.rmtree(directory)


def test_copy_can_be_written_to(tmp_path: Path) -> None:
    a, b = tmp_path / "a.vhd", tmp_path / "b.vhd"
    vhd.create(a, SIZE)
    with vhd.open_chain(a, writable=True) as disk:
        disk.write(0, b"a" * (3 * MIB))
    vhd.copy(a, b, max_size=1 << 40)
    with vhd.open_chain(b, writable=True) as disk:
        disk.write(2 * MIB, b"b" * (3 * MIB))
    assert content(b) == b"a" * (2 * MIB) + b"b" * (3 * MIB) + bytes(5 * MIB)
    assert vhd.query(b).max_size == 1 << 40
    assert vhd.check(b, blocks=True).valid


def test_sparse_stays_sparse(tmp_path: Path) -> None:
    """Holes of raw images, and holes within allocated blocks, arrive as holes."""
    raw, disk, again = tmp_path / "a.raw", tmp_path / "a.vhd", tmp_path / "b.vhd"
    with raw.open("wb") as file:
        file.truncate(10 << 30)
        file.seek(5 << 30)
        file.write(b"x" * 4096)
    vhd.copy(raw, disk, raw_source=True)
    assert vhd.query(disk, allocated=True).allocated == 1
    with disk.open("r+b") as file:
        start = 512 * int.from_bytes(disk.read_bytes()[1536 + 4 * 2560 :][:4], "big")
        file.seek(start)
        file.write(b"\xff" * 512)
    vhd.copy(disk, again)
    assert vhd.check(again, usage=True).usage[0].written == 4096
    assert again.stat().st_blocks * 512 < MIB
    vhd.copy(again, tmp_path / "b.raw", raw_target=True)
    assert (tmp_path / "b.raw").stat().st_blocks * 512 < MIB
    assert (tmp_path / "b.raw").stat().st_size == 10 << 30
    with vhd.open_chain(again) as chain:
        assert chain.read((5 << 30) - 512, 5120) == bytes(512) + b"x" * 4096 + bytes(512)


def test_where_the_kernel_copies_no_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two file systems, or on an old kernel, data pass through this process."""
    asked: list[int] = []

    def refuse(*arguments: int) -> int:
        asked.append(arguments[2])
        raise OSError(errno.EXDEV, "another file system")

    a, b = tmp_path / "a.vhd", tmp_path / "b.vhd"
    vhd.create(a, SIZE)
    with vhd.open_chain(a, writable=True) as disk:
        disk.write(MIB, random.Random(1).randbytes(5 * MIB))
    monkeypatch.setattr("os.copy_file_range", refuse)
    vhd.copy(a, b)
    assert content(b) == content(a)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [("nowhere", errno.EEXIST), ("itself", errno.EEXIST), ("a.vhd/b.vhd", errno.ENOTDIR)],
)
def test_a_target_that_cannot_be(tmp_path: Path, name: str, number: int) -> None:
    """Links that lead nowhere are kept, and whoever reads the answer gets no traceback."""
    a, target = tmp_path / "a.vhd", tmp_path / name
    vhd.create(a, SIZE)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing" / "b.vhd")
    (tmp_path / "itself").symlink_to("itself")
    with pytest.raises(vhd.StorageFailed) as caught:
        vhd.copy(a, target)
    assert (caught.value.errno, caught.value.path) == (number, str(target))
    assert {path.name for path in tmp_path.iterdir()} == {"a.vhd", "nowhere", "itself"}


def test_refused(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.vhd" for name in "abc")
    vhd.create(a, SIZE)
    vhd.snapshot(b, a)
    with pytest.raises(vhd.StorageFailed) as caught:
        vhd.copy(a, b)
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(vhd.NotDifferencing):
        vhd.copy(a, c, differences=True)
    with pytest.raises(vhd.SizeRefused):
        vhd.copy(a, c, max_size=MIB)
    with pytest.raises(vhd.StorageFailed):
        vhd.copy(tmp_path / "gone.vhd", c)
    a.unlink()
    with pytest.raises(vhd.ParentMissing):
        vhd.copy(b, c)
    assert not c.exists()


def test_damaged_source_leaves_no_copy(tmp_path: Path) -> None:
    a, b = tmp_path / "a.vhd", tmp_path / "b.vhd"
    vhd.create(a, SIZE)
    with vhd.open_chain(a, writable=True) as disk:
        disk.write(0, b"a" * (2 * MIB))
        disk.write(4 * MIB, b"a" * 512)
    os.truncate(a, 2 * MIB)
    with pytest.raises(vhd.Truncated):
        vhd.copy(a, b)
    assert not b.exists()


def test_no_disk_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two writes, a copy does not open, or is complete."""
    a, b, seen = tmp_path / "a.vhd", tmp_path / "b.vhd", 0
    vhd.create(a, SIZE)
    with vhd.open_chain(a, writable=True) as disk:
        disk.write(MIB, random.Random(1).randbytes(5 * MIB))
    expected, write = content(a), Backing.write

    def look(backing: Backing, offset: int, *buffers: bytes) -> None:
        nonlocal seen
        write(backing, offset, *buffers)
        try:
            assert content(b) == expected
            seen += 1
        except vhd.BadFooter:
            assert not seen

    with monkeypatch.context() as patch:
        patch.setattr(Backing, "write", look)
        vhd.copy(a, b)
    assert seen == 2  # Behind the primary footer, and behind the backup.


def test_key_hash_comes_along(tmp_path: Path) -> None:
    a, b = tmp_path / "a.vhd", tmp_path / "b.vhd"
    vhd.create(a, SIZE)
    with a.open("r+b") as file:
        file.seek(2048 + 29)
        file.write(b"\1" + b"n" * 32 + b"h" * 32)
    vhd.copy(a, b)
    assert b.read_bytes()[2048 + 29 :][:65] == b"\1" + b"n" * 32 + b"h" * 32


COPY = """
import resource, sys
from srs import vhd
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vhd.copy(sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_huge_sparse_disk_takes_little_memory(tmp_path: Path) -> None:
    base, leaf, target = (tmp_path / f"{name}.vhd" for name in ("base", "leaf", "target"))
    vhd.create(base, 2040 << 30, max_size=2 << 40)
    vhd.snapshot(leaf, base, max_size=2 << 40, link_empty=True)
    for path, step in ((base, 40), (leaf, 17)):
        with vhd.open_chain(path, writable=True) as disk:
            for place in range(0, 2040, step):
                disk.write(place << 30, b"%d" % step)
    done = subprocess.run(
        [sys.executable, "-c", COPY, str(leaf), str(target)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 64 << 10  # KiB
    assert target.stat().st_blocks * 512 < 16 * MIB
    assert vhd.check(target).valid
    with vhd.open_chain(target) as disk:
        assert disk.read(80 << 30, 2) == b"40"
        assert disk.read(34 << 30, 2) == b"17"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make loop devices of a length, full of stale bytes."""
    made: list[str] = []

    def make(length: int) -> Path:
        file = tmp_path / f"device{len(made)}"
        file.write_bytes(random.Random(len(made)).randbytes(length))
        command = ["losetup", "--find", "--show", str(file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        made.append(done.stdout.strip())
        return Path(made[-1])

    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("loop devices need root and the loop driver")
    yield make
    for name in made:
        subprocess.run(["losetup", "--detach", name], check=True)


@pytest.mark.parametrize("seed", range(6))
def test_devices(tmp_path: Path, device: Callable[[int], Path], seed: int) -> None:
    """Stale bytes of a device never show through, and a device of zeros becomes sparse."""
    leaf = make_chain(tmp_path, random.Random(seed))
    expected = content(leaf)
    lv, raw_lv = device(16 * MIB), device(11 * MIB)
    vhd.copy(leaf, lv)
    assert content(lv) == expected
    assert vhd.check(lv, blocks=True).valid
    vhd.copy(lv, raw_lv, raw_target=True)
    assert content(raw_lv, raw=True)[: len(expected)] == expected
    back = tmp_path / "back.vhd"
    vhd.copy(raw_lv, back, raw_source=True)
    assert content(back)[: len(expected)] == expected
    # Written again over the old copy, which has other blocks.
    vhd.create(tmp_path / "empty.vhd", SIZE)
    vhd.copy(tmp_path / "empty.vhd", lv)
    assert content(lv) == bytes(len(content(lv)))
    vhd.copy(lv, raw_lv, raw_target=True)
    vhd.copy(raw_lv, tmp_path / "sparse.vhd", raw_source=True)
    allocated = vhd.query(tmp_path / "sparse.vhd", allocated=True).allocated
    assert allocated is not None
    assert allocated <= 1  # The stale bytes behind the copy.


def test_device_too_small(tmp_path: Path, device: Callable[[int], Path]) -> None:
    leaf, lv = tmp_path / "a.vhd", device(2 * MIB)
    vhd.create(leaf, SIZE)
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.write(0, b"a" * (2 * MIB))
    with pytest.raises(vhd.NoSpace) as caught:
        vhd.copy(leaf, lv)
    assert caught.value.available == 2 * MIB
    with pytest.raises(vhd.BadFooter):  # What the device held before is gone, the copy not there.
        vhd.open_chain(lv)
    with pytest.raises(vhd.NoSpace):
        vhd.copy(leaf, lv, raw_target=True)
    with pytest.raises(vhd.NoSpace):
        vhd.copy(leaf, device(2048))


def test_onto_itself(tmp_path: Path, device: Callable[[int], Path]) -> None:
    lv, leaf = device(4 * MIB), tmp_path / "leaf.vhd"
    vhd.create(lv, 2 * MIB)
    vhd.snapshot(leaf, lv)
    before = lv.read_bytes()
    for source in (lv, leaf):
        for differences in (False, source == leaf):
            with pytest.raises(vhd.ChainLoop):
                vhd.copy(source, lv, differences=differences)
    assert lv.read_bytes() == before
