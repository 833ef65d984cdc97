"""Coalescing: what reaches the parent, what stays as it was, and what is refused."""

import errno
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from powercut import device, taping
from readers import by_us

from srs import vhd

MIB = 1 << 20
SIZE = 6 * MIB


def write(path: Path, *pieces: tuple[int, bytes]) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for offset, data in pieces:
            disk.write(offset, data)


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """A leaf, its parent, and a base, with data that overlap."""
    base, middle, leaf = (tmp_path / f"{name}.vhd" for name in ("base", "middle", "leaf"))
    vhd.create(base, SIZE)
    write(base, (0, b"b" * (3 * MIB)))
    vhd.snapshot(middle, base)
    write(middle, (MIB, b"m" * 4096), (5 * MIB, b"m" * 512))
    vhd.snapshot(leaf, middle)
    write(leaf, (MIB + 512, b"l" * 512), (4 * MIB, b"l" * (2 * MIB)))
    return [leaf, middle, base]


def test_into_the_parent(chain: list[Path]) -> None:
    leaf, middle, base = chain
    expected, child, above = by_us(leaf), leaf.read_bytes(), base.read_bytes()
    before = vhd.query(middle)
    assert vhd.coalesce(leaf) == 1 + 4096
    assert by_us(middle) == by_us(leaf) == expected
    assert (leaf.read_bytes(), base.read_bytes()) == (child, above)
    after = vhd.query(middle)
    assert (after.unique_id, after.size, after.hidden) == (before.unique_id, SIZE, 0)
    assert middle.read_bytes()[:512] == middle.read_bytes()[-512:]
    assert vhd.coalesce(leaf) == 1 + 4096
    assert by_us(middle) == expected


def test_then_the_child_can_be_left_out(chain: list[Path]) -> None:
    leaf, middle, base = chain
    expected = by_us(leaf)
    vhd.coalesce(middle)
    vhd.set_parent(leaf, base)
    middle.unlink()
    assert by_us(leaf) == expected


def test_into_an_ancestor(chain: list[Path]) -> None:
    leaf, middle, base = chain
    expected, between = by_us(leaf), middle.read_bytes()
    assert vhd.coalesce(leaf, ancestor=base) == 7 + 1 + 4096
    assert by_us(base) == by_us(leaf) == expected
    assert middle.read_bytes() == between


def test_what_a_shorter_disk_hides_becomes_zeros(chain: list[Path]) -> None:
    leaf, _, base = chain
    vhd.create(base.with_name("big.vhd"), SIZE, max_size=10 * MIB)
    base.with_name("big.vhd").rename(base)
    vhd.set_parent(chain[1], base)
    vhd.resize(base, 10 * MIB)
    write(base, (7 * MIB, b"hidden" * 1024))
    vhd.snapshot(leaf, chain[1], max_size=10 * MIB)
    vhd.resize(leaf, 8 * MIB)
    write(leaf, (7 * MIB + 512, b"l" * 512))
    expected = by_us(leaf)
    assert expected[7 * MIB : 7 * MIB + 1024] == bytes(512) + b"l" * 512
    vhd.coalesce(leaf, ancestor=base)
    vhd.set_parent(leaf, base)
    assert by_us(leaf) == expected
    assert by_us(base)[: 8 * MIB] == expected


def test_what_a_shorter_child_hides_becomes_zeros(chain: list[Path]) -> None:
    """The parent grew since, and so did the leaf, for which it is zeros behind the middle's end."""
    leaf, middle, base = chain
    vhd.resize(base, 10 * MIB, journal=base.with_name("journal"))
    write(base, (SIZE, b"hidden" * 1024))
    vhd.resize(leaf, 12 * MIB, journal=base.with_name("journal"))
    expected = by_us(leaf)
    assert not any(expected[SIZE:])
    vhd.coalesce(middle)
    assert by_us(leaf) == expected
    vhd.set_parent(leaf, base)
    assert by_us(leaf) == expected


def test_into_a_raw_parent(tmp_path: Path) -> None:
    raw, leaf = tmp_path / "base.raw", tmp_path / "leaf.vhd"
    raw.write_bytes(b"r" * SIZE)
    vhd.snapshot(leaf, raw, raw_parent=True)
    write(leaf, (0, b"l" * 512), (2 * MIB, b"l" * (2 * MIB)))
    expected = by_us(leaf)
    assert vhd.coalesce(leaf) == 1 + 4096
    assert raw.read_bytes() == expected == by_us(leaf)


def test_into_a_new_file(chain: list[Path]) -> None:
    leaf, output = chain[0], chain[0].with_name("output.vhd")
    write(leaf, (3 * MIB + 512, bytes(MIB // 2)))
    assert vhd.coalesce(leaf, output=output) == (3 * MIB + 2 * MIB) // 512
    assert by_us(output) == by_us(leaf)
    info = vhd.query(output, allocated=True)
    assert (info.disk_type, info.allocated) == (vhd.DYNAMIC, 3)
    before = output.read_bytes()
    with pytest.raises(vhd.StorageFailed) as caught:
        vhd.coalesce(leaf, output=output)
    assert caught.value.errno == errno.EEXIST
    assert output.read_bytes() == before


def test_output_of_a_disk_on_a_raw_image_is_sparse(tmp_path: Path) -> None:
    raw, leaf, output = tmp_path / "base.raw", tmp_path / "leaf.vhd", tmp_path / "output.vhd"
    raw.write_bytes(bytes(4 * MIB) + b"r" * (2 * MIB))
    vhd.snapshot(leaf, raw, raw_parent=True)
    write(leaf, (0, b"l" * 512))
    vhd.coalesce(leaf, output=output)
    assert by_us(output) == by_us(leaf)
    assert vhd.query(output, allocated=True).allocated == 2


def test_an_output_that_fails_is_removed(chain: list[Path]) -> None:
    leaf, output = chain[0], chain[0].with_name("output.vhd")
    leaf.write_bytes(leaf.read_bytes()[: 3 * MIB])
    with pytest.raises(vhd.Truncated):
        vhd.coalesce(leaf, output=output)
    assert not output.exists()


def test_a_parent_that_is_too_small(chain: list[Path]) -> None:
    """Sectors behind its end are refused before anything was written; without any it is fine."""
    _, middle, _ = chain
    top = middle.with_name("top.vhd")
    vhd.snapshot(top, middle, max_size=10 * MIB)
    vhd.resize(top, 10 * MIB)
    write(top, (0, b"t" * 512))
    assert vhd.coalesce(top) == 1
    before = middle.read_bytes()
    write(top, (512, b"t" * 512), (7 * MIB, b"t" * 1024))
    with pytest.raises(vhd.OutOfRange) as caught:
        vhd.coalesce(top)
    assert (caught.value.size, caught.value.errno) == (SIZE, errno.ERANGE)
    assert middle.read_bytes() == before


def test_refused(chain: list[Path]) -> None:
    leaf, middle, base = chain
    other = leaf.with_name("other.vhd")
    vhd.create(other, SIZE)
    before = [path.read_bytes() for path in chain]
    with pytest.raises(vhd.NotDifferencing):
        vhd.coalesce(base)
    with pytest.raises(vhd.NotAnAncestor):
        vhd.coalesce(leaf, ancestor=other)
    with pytest.raises(vhd.NotAnAncestor):
        vhd.coalesce(leaf, ancestor=leaf)
    with pytest.raises(ValueError, match="ancestors"):
        vhd.coalesce(leaf, ancestor=base, output=other)
    other.rename(middle)
    with pytest.raises(vhd.ParentMismatch):
        vhd.coalesce(leaf)
    middle.write_bytes(before[1])
    assert [path.read_bytes() for path in chain] == before


def test_a_loop_above_the_parent_is_refused(chain: list[Path]) -> None:
    """The base is overwritten by a disk that stands on its own grandchild."""
    leaf, middle, base = chain
    identity = vhd.query(base).unique_id
    vhd.snapshot(leaf.with_name("loop.vhd"), leaf, unique_id=identity)
    leaf.with_name("loop.vhd").rename(base)
    before = middle.read_bytes()
    with pytest.raises(vhd.ChainLoop):
        vhd.coalesce(leaf)
    assert middle.read_bytes() == before


def test_progress(chain: list[Path]) -> None:
    calls: list[tuple[int, int]] = []
    vhd.coalesce(chain[0], progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (3, 3), (3, 3)]


Layer = list[tuple[int, int, int]]

Writes = st.lists(
    st.tuples(
        st.integers(0, SIZE // 512 - 1), st.sampled_from([1, 8, 4096, 6000]), st.integers(1, 255)
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layers=st.lists(Writes, min_size=2, max_size=4), down=st.integers(1, 3), flat=st.booleans())
def test_a_chain_against_a_model(
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[Layer],
    down: int,
    flat: bool,
) -> None:
    """After a coalesce into any ancestor that one reads as the leaf, and the leaf as before."""
    directory = tmp_path_factory.mktemp("chain")
    root = directory / ("base.raw" if flat else "base.vhd")
    if flat:
        root.write_bytes(bytes(SIZE))
    else:
        vhd.create(root, SIZE)
    paths, model = [root], bytearray(SIZE)
    for number, writes in enumerate(layers):
        path = directory / f"{number}.vhd"
        vhd.snapshot(path, paths[-1], raw_parent=flat and number == 0, link_empty=True)
        paths.append(path)
        write(path, *spelled(writes))
        for offset, data in spelled(writes):
            model[offset : offset + len(data)] = data
    target = paths[-1 - min(down, len(layers))]
    vhd.coalesce(paths[-1], ancestor=target)
    assert by_us(paths[-1]) == model
    assert (target.read_bytes() if target.suffix == ".raw" else by_us(target)) == model


@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    below=Writes, above=Writes, kind=st.sampled_from(["file", "raw", "device"]), seed=st.integers()
)
def test_cuts(below: Layer, above: Layer, kind: str, seed: int) -> None:
    """A cut leaves each sector of the parent old or new, and the child reads as it always did.

    At the end all of it is durable. Before, a second run does what the first one began.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        chance, parent, leaf = random.Random(seed), Path(name, "parent"), Path(name, "leaf")
        raw = kind == "raw"
        with device(pretend=kind == "device"):
            if kind != "file":
                parent.write_bytes(chance.randbytes(SIZE if raw else 7 * MIB))
            if not raw:
                vhd.create(parent, SIZE)
                write(parent, *spelled(below))
        old = parent.read_bytes() if raw else by_us(parent)
        vhd.snapshot(leaf, parent, raw_parent=raw)
        write(leaf, *spelled(above))
        new = by_us(leaf)
        with taping(parent) as tape, device(pretend=kind == "device"):
            vhd.coalesce(leaf)
        with device(pretend=kind == "device"):
            for at in sorted({*chance.sample(range(len(tape) + 1), min(8, len(tape))), len(tape)}):
                tape.cut(at, chance)
                found = parent.read_bytes() if raw else by_us(parent)
                assert at < len(tape) or found == new
                assert set(differing(found, old)) <= set(differing(old, new))
                assert set(differing(found, new)) <= set(differing(old, new))
                assert by_us(leaf) == new
                vhd.coalesce(leaf)
                assert (parent.read_bytes() if raw else by_us(parent)) == new


def spelled(layer: Layer) -> list[tuple[int, bytes]]:
    """The writes of a layer as (offset, data)."""
    return [
        (first * 512, bytes([value]) * min(count * 512, SIZE - first * 512))
        for first, count, value in layer
    ]


def differing(one: bytes, other: bytes) -> list[int]:
    """The sectors in which two disks differ."""
    if one == other:
        return []
    return [at for at in range(0, SIZE, 512) if one[at : at + 512] != other[at : at + 512]]


LIMITED = """
import resource, sys
from srs import vhd
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vhd.coalesce(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)
"""


def test_memory_on_a_huge_disk(tmp_path: Path) -> None:
    """A sector in each of 12000 blocks of a 2040 GiB disk: three times what may wait unflushed."""
    base, leaf = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, vhd.MAX_SIZE)
    vhd.snapshot(leaf, base)
    chance = random.Random(1)
    blocks = chance.sample(range(vhd.MAX_SIZE // vhd.BLOCK), 12000)
    write(leaf, *((block * vhd.BLOCK, b"l" * 512) for block in blocks))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(leaf)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) * 1024 < 64 * MIB
    assert vhd.query(base, allocated=True).allocated == 12000
    with vhd.open_chain(base) as disk:
        assert disk.read(blocks[-1] * vhd.BLOCK, 1024) == b"l" * 512 + bytes(512)
