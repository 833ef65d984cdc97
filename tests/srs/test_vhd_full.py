"""A disk of 2040 GiB with every block in its table: whatever is done to it takes 64 MiB at most."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scenarios.bench import disks
from scenarios.fuzz.judge import bounded_memory
from srs import vhd
from srs.vhd import cbt
from srs.vhd.reset import drop_data

GIB = 1 << 30
SIZE = 2040 * GIB


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "full.vhd"
    disks.full(path, SIZE, bitmaps=False)
    yield path
    path.unlink()


def read_and_write(path: Path) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for place in range(0, 2040, 10):
            disk.write((place << 30) - min(place, 1) * 2048, b"w" * 4096)
            assert disk.read(place << 30, 4096)[:2048] == b"w" * 2048


def grow_and_shrink(path: Path) -> None:
    vhd.resize(path, 1000 * GIB, journal=path.with_name("journal"))
    vhd.resize(path, SIZE, journal=path.with_name("journal"))


USES: list[Callable[[Path], object]] = [
    lambda path: vhd.query(path, depth=True, allocated=True),
    vhd.check,
    vhd.repair,
    lambda path: vhd.snapshot(path.with_name("leaf.vhd"), path, max_size=2 << 40),
    read_and_write,
    grow_and_shrink,
    drop_data,
]


def test_memory_of_a_full_disk(full: Path) -> None:
    for use in USES:
        with bounded_memory():
            use(full)
    assert vhd.query(full, allocated=True).allocated == 0


def test_memory_of_a_full_log(tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    with bounded_memory():
        for path in (older, newer):
            cbt.create(path, SIZE)
        cbt.coalesce(older, newer)
        assert not any(cbt.get_bitmap(newer))
        cbt.resize(newer, 2 << 40)
