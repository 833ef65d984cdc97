"""Snapshots, hidden, resize, physical size, reparenting and what query says about it all."""

import errno
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from readers import by_us

from srs import vhd
from srs.vhd.backing import Backing, Buffer

MIB = 1 << 20


def write(path: Path, offset: int, data: bytes) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(offset, data)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A dynamic disk of 4 MiB with data."""
    path = tmp_path / "base.vhd"
    vhd.create(path, 4 * MIB)
    write(path, 0, b"b" * 4096)
    return path


def test_query(base: Path) -> None:
    leaf = base.with_name("leaf.vhd")
    vhd.snapshot(leaf, base, max_size=100 * MIB)
    write(leaf, 0, b"x")
    info = vhd.query(leaf, depth=True, allocated=True)
    assert info == vhd.Info(
        size=4 * MIB,
        physical_size=leaf.stat().st_size,
        parent=str(base),
        stored_parent="./base.vhd",
        hidden=0,
        depth=2,
        allocated=1,
        max_size=100 * MIB,
        disk_type=vhd.DIFFERENCING,
        unique_id=info.unique_id,
    )
    root = vhd.query(base, depth=True, allocated=True)
    assert (root.parent, root.stored_parent, root.depth, root.allocated) == (None, None, 1, 1)
    assert root.disk_type == vhd.DYNAMIC
    assert root.unique_id != info.unique_id
    plain = vhd.query(leaf)
    assert (plain.depth, plain.allocated) == (None, None)


def test_parent_is_only_read_by_a_snapshot(base: Path) -> None:
    before = base.read_bytes()
    vhd.snapshot(base.with_name("leaf.vhd"), base)
    assert base.read_bytes() == before


def test_empty_differencing_ancestors_are_skipped(base: Path) -> None:
    names = [base.with_name(f"{number}.vhd") for number in range(4)]
    vhd.snapshot(names[0], base)
    vhd.snapshot(names[1], names[0], link_empty=True)
    vhd.resize(names[1], 4 * MIB)
    vhd.snapshot(names[2], names[1])
    assert vhd.query(names[2], depth=True).parent == str(base)
    assert vhd.query(names[2], depth=True).depth == 2
    vhd.snapshot(names[3], names[1], link_empty=True)
    assert vhd.query(names[3], depth=True).parent == str(names[1])
    assert vhd.query(names[3], depth=True).depth == 4


def test_parent_with_a_block_is_kept(base: Path) -> None:
    middle, leaf = base.with_name("middle.vhd"), base.with_name("leaf.vhd")
    vhd.snapshot(middle, base)
    write(middle, MIB, b"m")
    vhd.snapshot(leaf, middle)
    assert vhd.query(leaf).parent == str(middle)


def test_dynamic_root_stops_the_walk_even_if_empty(tmp_path: Path) -> None:
    root, middle, leaf = (tmp_path / f"{name}.vhd" for name in ("root", "middle", "leaf"))
    vhd.create(root, 4 * MIB)
    vhd.snapshot(middle, root)
    vhd.snapshot(leaf, middle)
    assert vhd.query(leaf).parent == str(root)


def test_walk_may_end_at_a_raw_image(tmp_path: Path) -> None:
    """The size is the empty parent's, rounded up to 2 MiB because the walk moved."""
    raw, middle, leaf = tmp_path / "base.raw", tmp_path / "middle.vhd", tmp_path / "leaf.vhd"
    raw.write_bytes(b"r" * (9 * MIB))
    vhd.snapshot(middle, raw, raw_parent=True)
    vhd.snapshot(leaf, middle)
    info = vhd.query(leaf, depth=True)
    assert (vhd.query(middle).size, vhd.query(middle).max_size) == (9 * MIB, 10 * MIB)
    assert (info.size, info.parent, info.depth) == (10 * MIB, str(raw), 2)
    assert by_us(leaf) == b"r" * (9 * MIB) + bytes(MIB)


def test_size_of_the_named_parent_counts(base: Path) -> None:
    middle, leaf = base.with_name("middle.vhd"), base.with_name("leaf.vhd")
    vhd.snapshot(middle, base, max_size=8 * MIB)
    vhd.resize(middle, 8 * MIB)
    vhd.snapshot(leaf, middle)
    assert vhd.query(leaf).size == 8 * MIB
    assert by_us(leaf) == b"b" * 4096 + bytes(8 * MIB - 4096)


def test_key_hash_is_inherited(base: Path) -> None:
    raw = bytearray(base.read_bytes())
    raw[2048 + 29] = 1
    raw[2048 + 30 : 2048 + 94] = b"n" * 32 + b"h" * 32
    base.write_bytes(raw)
    leaf = base.with_name("leaf.vhd")
    vhd.snapshot(leaf, base)
    assert (
        leaf.read_bytes()[2048 + 28 : 2048 + 96] == b"\0\1" + raw[2048 + 30 : 2048 + 94] + b"\0\0"
    )


@pytest.mark.parametrize("hidden", [True, False])
def test_hidden_is_in_both_footers(base: Path, hidden: bool) -> None:
    before = by_us(base)
    vhd.set_hidden(base, True)
    vhd.set_hidden(base, hidden)
    raw = base.read_bytes()
    assert raw[:512] == raw[-512:]
    assert raw[85] == hidden == vhd.query(base).hidden
    assert by_us(base) == before


def test_resize(base: Path) -> None:
    path = base.with_name("big.vhd")
    vhd.create(path, 4 * MIB, max_size=40 * MIB)
    write(path, 0, b"x" * (4 * MIB))
    length = path.stat().st_size
    vhd.resize(path, 9 * MIB)
    raw = path.read_bytes()
    assert (vhd.query(path).size, len(raw)) == (10 * MIB, length)
    assert raw[:512] == raw[-512:]
    assert raw[40:48] == (4 * MIB).to_bytes(8, "big")
    write(path, 10 * MIB - 512, b"y" * 512)
    assert by_us(path) == b"x" * (4 * MIB) + bytes(6 * MIB - 512) + b"y" * 512


@pytest.mark.parametrize("size", [2 * MIB, 40 * MIB + 1, 1 << 50])
def test_resize_refused(base: Path, size: int) -> None:
    path = base.with_name("big.vhd")
    vhd.create(path, 4 * MIB, max_size=40 * MIB)
    before = path.read_bytes()
    with pytest.raises(vhd.SizeRefused) as caught:
        vhd.resize(path, size)
    assert (caught.value.minimum, caught.value.maximum) == (4 * MIB, 40 * MIB)
    assert caught.value.errno == errno.EINVAL
    assert path.read_bytes() == before


def test_resize_does_not_revive_stale_map_bits(base: Path) -> None:
    """What lies behind the covered part of a batmap is anybody's; growing covers more of it."""
    path = base.with_name("big.vhd")
    vhd.create(path, 8 << 30, max_size=64 << 30)
    raw = bytearray(path.read_bytes())
    at = 1536 + (32768 * 4) + 512 + 512
    raw[at] = 0x80
    path.write_bytes(raw)
    vhd.resize(path, 16 << 30)
    assert path.read_bytes()[at] == 0
    write(path, 8 << 30, b"x" * 512)
    with vhd.open_chain(path) as disk:
        assert disk.read(8 << 30, 1024) == b"x" * 512 + bytes(512)


def test_footer_of_a_file_without_primary_goes_to_the_end(base: Path) -> None:
    sound = bytearray(base.read_bytes())
    base.write_bytes(sound[:-512] + b"junk" * 5000)
    vhd.set_hidden(base, True)
    assert len(base.read_bytes()) == len(sound)
    assert base.read_bytes()[:512] == base.read_bytes()[-512:]


def test_physical_size(base: Path) -> None:
    before, length = by_us(base), base.stat().st_size
    for size in (8 * MIB, length):
        vhd.set_physical_size(base, size)
        assert base.stat().st_size == size
        assert base.read_bytes()[-512:] == base.read_bytes()[:512]
        assert by_us(base) == before
    for size in (length - 512, length + 1, 0):
        with pytest.raises(vhd.SizeRefused) as caught:
            vhd.set_physical_size(base, size)
        assert caught.value.minimum == length
    assert base.stat().st_size == length


@pytest.fixture
def chain(base: Path) -> Path:
    """A leaf on ``base`` with one sector of its own; ``copies/other.vhd`` is another parent."""
    leaf, copies = base.with_name("leaf.vhd"), base.with_name("copies")
    vhd.snapshot(leaf, base)
    write(leaf, 512, b"l" * 512)
    copies.mkdir()
    vhd.create(copies / "other.vhd", 4 * MIB)
    write(copies / "other.vhd", 0, b"o" * 4096)
    return leaf


def test_set_parent(chain: Path) -> None:
    other = chain.parent / "copies/other.vhd"
    identity = vhd.query(chain).unique_id
    vhd.set_parent(chain, other)
    info = vhd.query(chain)
    assert (info.parent, info.stored_parent) == (str(other), "./copies/other.vhd")
    assert info.unique_id == identity
    write(chain, MIB, b"n" * 512)
    assert by_us(chain)[:1536] == b"o" * 512 + b"l" * 512 + b"o" * 512
    raw = chain.read_bytes()
    windows = ".\\copies\\other.vhd".encode("utf-16-le")
    assert raw[0xE00 : 0xE00 + 512] == raw[0x1000 : 0x1000 + 512] == windows.ljust(512, b"\0")
    assert raw[576:1024].rstrip(b"\0")[-9:] == "r.vhd".encode("utf-16-be")[-9:]


def test_set_raw_parent(chain: Path) -> None:
    raw = chain.with_name("flat.raw")
    raw.write_bytes(b"f" * (4 * MIB))
    vhd.set_parent(chain, raw, raw_parent=True)
    assert by_us(chain)[:1536] == b"f" * 512 + b"l" * 512 + b"f" * 512
    vhd.set_parent(chain, chain.with_name("base.vhd"))
    assert by_us(chain)[:1536] == b"b" * 512 + b"l" * 512 + b"b" * 512


def test_set_parent_refused(chain: Path) -> None:
    base = chain.with_name("base.vhd")
    top = chain.with_name("top.vhd")
    vhd.snapshot(top, chain)
    far = chain.parent / ("d" * 200) / ("e" * 200)
    far.mkdir(parents=True)
    vhd.create(far / "p.vhd", 4 * MIB)
    before = chain.read_bytes(), base.read_bytes()
    for path, parent, error in (
        (base, chain, vhd.NotDifferencing),
        (chain, chain, vhd.ChainLoop),
        (chain, top, vhd.ChainLoop),
        (chain, far / "p.vhd", vhd.ParentPathRefused),
        (chain, chain.with_name("gone.vhd"), vhd.StorageFailed),
    ):
        with pytest.raises(error):
            vhd.set_parent(path, parent)
    assert (chain.read_bytes(), base.read_bytes()) == before


class Cut(Exception):
    """The power went."""


@contextmanager
def cut_after(count: int, seed: int) -> Iterator[None]:
    """Let ``count`` sectors through, not in order within one sync, then raise Cut."""
    budget = count
    chance = random.Random(seed)
    write = Backing.write
    waiting: list[tuple[Backing, int, bytes]] = []

    def late(self: Backing, offset: int, *buffers: Buffer) -> None:
        data = b"".join(buffers)
        for at in range(0, len(data), 512):
            waiting.append((self, offset + at, data[at : at + 512]))

    def drain(self: Backing) -> None:
        nonlocal budget
        chance.shuffle(waiting)
        for backing, offset, data in waiting:
            if budget == 0:
                raise Cut
            budget -= 1
            write(backing, offset, data)
        waiting.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backing, "write", late)
        patch.setattr(Backing, "sync", drain)
        yield


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["copies/other.vhd", "othr.vhd", "o.vhd"])
def test_cut_during_set_parent(chain: Path, seed: int, name: str) -> None:
    """At each moment the disk is on its old or on its new parent, and says so consistently.

    A new path as long as the old one makes locators that are whole before the header is, and
    changes one sector of the header only. Otherwise its two sectors count as one write here: the
    format has no copy of it.
    """
    other = chain.parent / name
    if not other.exists():
        (chain.parent / "copies/other.vhd").rename(other)
    before = chain.read_bytes()
    old = b"b" * 512 + b"l" * 512 + b"b" * 512
    new = b"o" * 512 + b"l" * 512 + b"o" * 512
    seen = set()
    for count in itertools.count():
        chain.write_bytes(before)
        try:
            with cut_after(count, seed):
                vhd.set_parent(chain, other)
        except Cut:
            if not whole_header(chain):
                assert len(name) != len("base.vhd")
                continue
        else:
            break
        with vhd.open_chain(chain, writable=True) as disk:
            found = disk.read(0, 1536)
        assert found in (old, new)
        assert os.path.basename(vhd.query(chain).stored_parent or "") == (
            "base.vhd" if found == old else other.name
        )
        seen.add(found)
        vhd.set_parent(chain, other)
        assert by_us(chain)[:1536] == new
    assert by_us(chain)[:1536] == new
    assert seen == {old, new}


def whole_header(path: Path) -> bool:
    raw = path.read_bytes()[512:1536]
    stored = int.from_bytes(raw[36:40], "big")
    return stored == ~(sum(raw) - sum(raw[36:40])) & 0xFFFFFFFF


@pytest.mark.parametrize("seed", range(4))
def test_cut_during_a_change_of_the_footer(chain: Path, seed: int) -> None:
    before, data = chain.read_bytes(), by_us(chain)
    for count in itertools.count():
        chain.write_bytes(before)
        try:
            with cut_after(count, seed):
                vhd.set_hidden(chain, True)
        except Cut:
            assert vhd.query(chain).hidden in (0, 1)
            assert by_us(chain) == data
            vhd.set_hidden(chain, True)
        else:
            break
    assert vhd.query(chain).hidden == 1
    assert count == 2
