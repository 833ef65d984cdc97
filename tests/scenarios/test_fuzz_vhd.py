"""The fuzzer of the VHD engine: its inputs, its judge, and thirty seconds of it."""

import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.fuzz import seeds
from scenarios.fuzz.acts import Finding
from scenarios.fuzz.judge import Judge
from scenarios.fuzz.mutator import mutate
from scenarios.fuzz.picture import Picture
from srs import vhd

MIB = 1 << 20


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory in memory where there is one: every run makes some twenty files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture
def judge(home: Path) -> Judge:
    return Judge(home)


def pictures(judge: Judge) -> list[bytes]:
    """Each seed with the first operation."""
    return [Picture.of(path, 0).pack() for path in seeds.disks(judge.acts.disk.parent)]


def test_picture_is_the_disk(judge: Judge, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in seeds.disks(judge.acts.disk.parent):
        data = Picture.of(path, 3).pack()
        assert len(data) < 8192
        picture = Picture.unpack(data)
        picture.draw(copy)
        assert picture.act == 3
        assert copy.read_bytes() == path.read_bytes()


@given(st.binary(max_size=64))
def test_any_bytes_are_a_picture(data: bytes) -> None:
    picture = Picture.unpack(data)
    assert Picture.unpack(picture.pack()) == picture


def test_whole_disks_pass(judge: Judge) -> None:
    for data in pictures(judge):
        picture = Picture.unpack(data)
        for picture.act in range(len(judge.acts.changes)):
            judge(picture.pack())


def test_mutants_get_past_the_checksums(judge: Judge) -> None:
    originals, outcomes = pictures(judge), []
    for seed in range(300):
        original = originals[seed % len(originals)]
        mutant = mutate(original, 8192, seed)
        assert mutant == mutate(original, 8192, seed)
        Picture.unpack(mutant).draw(judge.acts.disk)
        report = vhd.check(judge.acts.disk)
        outcomes.append(report.findings[0].text if report.findings else "valid")
    assert sum("checksum" in outcome for outcome in outcomes) < 30
    assert sum(outcome == "valid" for outcome in outcomes) < 150
    assert len(set(outcomes)) > 40


def grow(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def dawdle(path: Path) -> None:
    end = time.process_time() + 1.1
    while time.process_time() < end:
        path.stat()


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        (lambda path: 1 // 0, ZeroDivisionError),
        (lambda path: bytearray(100 * MIB), MemoryError),
        (dawdle, Finding),
        (grow, Finding),
        (lambda path: path.with_name("parent.vhd").touch(), Finding),
        (lambda path: path.with_name("stray").touch(), Finding),
    ],
)
def test_judge_sees_broken_promises(
    judge: Judge,
    monkeypatch: pytest.MonkeyPatch,
    flaw: Callable[[Path], object],
    found: type[Exception],
) -> None:
    monkeypatch.setattr(vhd, "set_hidden", lambda path, hidden: flaw(path))
    picture = Picture.unpack(pictures(judge)[1])
    picture.act = 3
    with pytest.raises(found):
        judge(picture.pack())


def test_judge_sees_that_a_reader_writes(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vhd, "query", lambda path, **_: path.touch())
    with pytest.raises(Finding, match=r"disk\.vhd was changed"):
        judge(pictures(judge)[1])


def fuzz(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "scenarios.fuzz", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.fuzz
def test_thirty_seconds(tmp_path: Path) -> None:
    done = fuzz("30", "--seed", "3", "--found", tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert list(tmp_path.iterdir()) == []
    executed = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    assert executed
    assert int(executed[1]) > 100, done.stdout[-4000:]
    print(f"atheris: {executed[1]} disks in 30 s, nothing found")


def test_saved_input_runs_again(judge: Judge, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_bytes(struct.pack(">BQ", 0, 4096))
    done = fuzz(saved, "--found", tmp_path / "found")
    assert done.returncode == 0, done.stdout
    assert f"Running: {saved}" in done.stdout
