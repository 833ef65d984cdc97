"""The benchmark of the VHD engine runs, tells what it measured, and measures on true disks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.bench import disks
from scenarios.bench.pairs import Result, Subject, Work, measure
from srs import vhd

MIB, GIB = 1 << 20, 1 << 30


def bench(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "scenarios.bench", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_table_and_file(tmp_path: Path) -> None:
    saved = tmp_path / "times.json"
    done = bench("vhd", "--only", "create", "--rounds", "1", "--dir", tmp_path, "--json", saved)
    assert done.returncode == 0, done.stderr
    assert "create 100 GiB" in done.stdout
    assert "1 targets met" in done.stdout
    assert f"{len(os.sched_getaffinity(0))} CPUs" in done.stdout
    (row,) = json.loads(saved.read_text())["results"]
    assert len(row["ours"]) in (2, 10)
    assert all(0 < seconds < 10 for seconds in row["ours"])
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--only", "nothing"], "there are: coalesce"), (["--dir", "/gone"], "No such file")],
)
def test_what_cannot_run_says_why(arguments: list[str], reason: str) -> None:
    done = bench("vhd", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_both_sides_take_turns(tmp_path: Path) -> None:
    order: list[str] = []
    subject = Subject(lambda: order.append("a"), lambda: order.append("b"))
    result = measure(Work("turns", None, "", lambda _: subject), tmp_path, 1)
    assert "".join(order) == "a" + "abba" * 5
    assert len(result.ours) == len(result.peer) == 10
    assert result.met


def test_missed_target() -> None:
    work = Work("slow", 1.0, "", lambda _: Subject(tuple))
    assert not Result(work, [0.5, 2.0, 2.0], [4.0]).met
    assert Result(work, [0.5, 2.0, 2.0], [4.0]).ratio == 2


@pytest.mark.parametrize("size", [16 * MIB, 100 * GIB, 8 * GIB + 6 * MIB])
def test_full_disk_is_full_and_takes_no_room(tmp_path: Path, size: int) -> None:
    path = tmp_path / "full.vhd"
    disks.full(path, size)
    info = vhd.query(path, allocated=True)
    assert info.allocated == size // vhd.BLOCK
    assert info.physical_size > size > path.stat().st_blocks * 512
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(size - 512, b"x" * 512)
        assert disk.read(size - MIB, MIB) == bytes(MIB - 512) + b"x" * 512
    # Nothing had to be allocated, and both footers were there.
    assert vhd.query(path).physical_size == info.physical_size


def test_chain_is_half_full(tmp_path: Path) -> None:
    leaf = disks.chain(tmp_path, 4 * MIB, 4096)
    assert vhd.query(leaf, depth=True).depth == disks.DEPTH
    with vhd.open_chain(leaf) as disk:
        content = disk.read(0, disk.size)
    held = sum(any(content[at : at + 4096]) for at in range(0, len(content), 4096))
    assert held == 4 * MIB // 4096 // 2
