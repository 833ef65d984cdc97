"""Large disks cost little: memory stays bounded, and nothing is done per sector.

The numbers are far above what is needed, to hold on a busy machine; they catch a change of the
order, such as reading a whole table of 4 MiB for each of thirty disks.
"""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from srs import vhd

MIB, TIB = 1 << 20, 1 << 40
SIZE = 2040 << 30


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Thirty disks of 2040 GiB, each with blocks spread over its whole length."""
    path = tmp_path / "0.vhd"
    vhd.create(path, SIZE, max_size=2 * TIB)
    for level in range(30):
        if level:
            path = tmp_path / f"{level}.vhd"
            vhd.snapshot(path, tmp_path / f"{level - 1}.vhd", max_size=2 * TIB)
        with vhd.open_chain(path, writable=True) as disk:
            for place in range(level, 2040, 340):
                disk.write(place << 30, bytes([level + 1]) * 512)
    return path


def test_memory(chain: Path) -> None:
    with memory_below(16 * MIB), vhd.open_chain(chain, writable=True) as disk:
        for place in range(0, 2040, 17):
            expected = bytes([place % 340 + 1 if place % 340 < 30 else 0]) * 512
            assert disk.read(place << 30, 512) == expected
        for place in range(0, 2040, 100):
            disk.write((place << 30) + MIB, b"w" * 512)
    with memory_below(16 * MIB):
        assert vhd.query(chain, depth=True, allocated=True).depth == 30
        vhd.snapshot(chain.with_name("new.vhd"), chain, max_size=2 * TIB)
        vhd.set_parent(chain.with_name("new.vhd"), chain.with_name("7.vhd"))
        vhd.resize(chain, SIZE)


def test_unflushed_writes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, SIZE)
    with memory_below(16 * MIB), vhd.open_chain(path, writable=True) as disk:
        for block in range(5_000):
            disk.write(block * 200 * 2 * MIB, b"x" * 512)
    assert vhd.query(path, allocated=True).allocated == 5_000
    assert path.stat().st_blocks * 512 < 200 * MIB


def test_zeroing_a_huge_hole_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, SIZE)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(TIB, b"x")
        start = time.monotonic()
        disk.zero(TIB - (50 << 30), 100 << 30)
        assert disk.read(TIB, 512) == bytes(512)
    assert time.monotonic() - start < 5
    assert vhd.query(path, allocated=True).allocated == 1
