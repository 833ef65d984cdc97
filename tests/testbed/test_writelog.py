"""The log of writes: reading it, doing it again, cutting it at its flushes."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.devices.sparse import copy_sparse, extents
from testbed.devices.writelog import BadLog, Flag, WriteLog, windows

SECTORS = 24
MAGIC = 0x6A736677736872


@dataclass(frozen=True)
class Act:
    """Something that a kernel logs: a write of bytes of one value, a discard, a mark, a flush."""

    sector: int
    sectors: int
    flags: int
    value: int = 0


def pack(acts: list[Act], sector: int) -> bytes:
    """The log as a kernel writes it."""
    log = bytearray(struct.pack("<QQQI", MAGIC, 1, len(acts), sector).ljust(sector, b"\0"))
    for number, act in enumerate(acts):
        text = f"mark {number}".encode() if act.flags & Flag.MARK else b""
        header = struct.pack("<QQQQ", act.sector, act.sectors, act.flags, len(text)) + text
        log += header.ljust(sector, b"\0")
        if not act.flags & Flag.DISCARD:
            log += bytes([act.value]) * (act.sectors * sector)
    return bytes(log)


@st.composite
def acts(draw: st.DrawFn) -> Act:
    if draw(st.booleans()):
        return Act(0, 0, draw(st.sampled_from([Flag.FLUSH, Flag.MARK])))
    first = draw(st.integers(0, SECTORS - 1))
    count = draw(st.integers(1, SECTORS - first))
    flags = draw(st.sampled_from([0, Flag.DISCARD, Flag.FLUSH, Flag.FUA, Flag.METADATA]))
    return Act(first, count, flags, draw(st.integers(1, 255)))


def model(done: list[Act], sector: int) -> bytes:
    """What a disk holds after that."""
    disk = bytearray(SECTORS * sector)
    for act in done:
        value = 0 if act.flags & Flag.DISCARD else act.value
        begin, length = act.sector * sector, act.sectors * sector
        disk[begin : begin + length] = bytes([value]) * length
    return bytes(disk)


@given(st.lists(acts(), max_size=30), st.sampled_from([512, 4096]), st.integers(0, 30))
def test_a_part_of_a_log_done_again(
    tmp_path_factory: pytest.TempPathFactory, made: list[Act], sector: int, count: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    (directory / "log").write_bytes(pack(made, sector))
    image = os.open(directory / "image", os.O_RDWR | os.O_CREAT)
    os.ftruncate(image, SECTORS * sector)
    with WriteLog(directory / "log") as log:
        log.replay(log.entries[:count], image)
        assert os.pread(image, SECTORS * sector, 0) == model(made[:count], sector)
        marks = [entry.text for entry in log.entries if entry.flags & Flag.MARK]
        assert all(log.entries[log.find(mark)].text == mark for mark in marks)
    os.close(image)


@given(st.lists(acts(), max_size=30))
def test_windows(tmp_path_factory: pytest.TempPathFactory, made: list[Act]) -> None:
    """No write gets lost, none changes its place, and a flush separates what it separated."""
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(pack(made, 512))
    with WriteLog(path) as log:
        cut = windows(log.entries)
        writes = [write.number for window in cut for write in window.writes]
        assert writes == [entry.number for entry in log.entries if entry.length]
        for number, window in enumerate(cut):
            for write in window.writes:
                # Its own flush, if it is one, came before its data.
                flushes = [act for act in made[: write.number + 1] if act.flags & Flag.FLUSH]
                assert len(flushes) == number


def test_what_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"", b"nothing of the kind".ljust(4096)):
        path.write_bytes(content)
        with pytest.raises(BadLog, match="no log of writes"):
            WriteLog(path)


def test_a_log_that_ends_too_early(tmp_path: Path) -> None:
    """In a header, or in the data of the last entry."""
    whole = pack([Act(0, 2, 0, 7)], 512)
    path = tmp_path / "log"
    for length in (600, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadLog):
            WriteLog(path)


def test_a_mark_that_was_not_made(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack([Act(0, 0, Flag.MARK)], 512))
    with WriteLog(path) as log, pytest.raises(LookupError, match="other"):
        log.find("other")


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=9000)), max_size=5))
def test_a_copy_has_every_byte_and_its_holes(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("sparse")
    size = 60 * 4096
    with (directory / "source").open("wb") as file:
        file.truncate(size)
        for page, data in spans:
            file.seek(page * 4096)
            file.write(data)
    source, copy = directory / "source", directory / "copy"
    copy.write_bytes(b"what was there before" * 1000)
    copy_sparse(source, copy)
    assert copy.read_bytes() == source.read_bytes()
    assert _data(copy) == _data(source)


def _data(path: Path) -> list[tuple[int, int]]:
    with path.open("rb") as file:
        return list(extents(file.fileno()))
