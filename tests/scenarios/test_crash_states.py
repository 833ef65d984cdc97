"""States after a power cut, against a plain model of a disk with a cache."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.crash.states import SECTOR, CrashState, plan
from testbed.devices.writelog import Flag, WriteLog, windows

SECTORS = 12
LIMIT = 60
#: sector, sectors, flags, value
Act = tuple[int, int, int, int]


@st.composite
def acts(draw: st.DrawFn) -> Act:
    if draw(st.integers(0, 3)) == 0:
        return 0, 0, draw(st.sampled_from([Flag.FLUSH, Flag.MARK])), 0
    first = draw(st.integers(0, SECTORS - 1))
    count = draw(st.integers(1, SECTORS - first))
    return first, count, draw(st.sampled_from([0, 0, 0, Flag.FUA])), draw(st.integers(0, 3))


def write_log(path: Path, made: list[Act]) -> None:
    log = bytearray(struct.pack("<QQQI", 0x6A736677736872, 1, len(made), SECTOR))
    log += bytes(SECTOR - len(log))
    for number, (sector, sectors, flags, value) in enumerate(made):
        text = str(number).encode() if flags & Flag.MARK else b""
        log += (struct.pack("<QQQQ", sector, sectors, flags, len(text)) + text).ljust(SECTOR, b"\0")
        log += bytes([value]) * (sectors * SECTOR)
    path.write_bytes(log)


def disk_of(log: WriteLog, state: CrashState) -> bytes:
    disk = bytearray(SECTORS * SECTOR)
    cut = windows(log.entries)
    for window in cut[: state.window]:
        for write in window.writes:
            disk[write.offset : write.end] = log.data(write)
    for piece in state.pieces:
        entry = log.entries[piece.write]
        data = log.data(entry)[piece.begin - entry.offset : piece.end - entry.offset]
        disk[piece.begin : piece.end] = data
    return bytes(disk)


def states_of(
    directory: Path, made: list[Act], **options: int
) -> tuple[WriteLog, list[CrashState]]:
    write_log(directory / "log", made)
    fd = os.open(directory / "image", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SECTORS * SECTOR)
    log = WriteLog(directory / "log")
    try:
        return log, plan(log, fd, windows(log.entries), seed="test", limit=LIMIT, **options)
    finally:
        os.close(fd)


@settings(deadline=None, max_examples=60)
@given(st.lists(acts(), max_size=14))
def test_every_state_is_possible_and_is_another_disk(
    tmp_path_factory: pytest.TempPathFactory, made: list[Act]
) -> None:
    """Each sector holds what was durable, or something that was written to it since."""
    log, states = states_of(tmp_path_factory.mktemp("states"), made)
    with log:
        cut = windows(log.entries)
        seen: dict[tuple[int, str], bytes] = {}
        for state in states:
            disk = disk_of(log, state)
            durable = disk_of(log, CrashState(state.window, (), "", 0))
            for at in range(0, len(disk), SECTOR):
                possible = {durable[at : at + SECTOR]} | {
                    log.data(write)[at - write.offset :][:SECTOR]
                    for write in cut[state.window].writes
                    if write.offset <= at < write.end
                }
                assert disk[at : at + SECTOR] in possible
            assert seen.setdefault((state.signature, state.mark), disk) == disk
        assert len(seen) == len(states)
        assert len(states) <= 2 * LIMIT + len(cut)
        disks = {disk_of(log, state) for state in states}
        assert len(disks) == len({state.signature for state in states})


@settings(deadline=None, max_examples=60)
@given(st.lists(acts(), max_size=14))
def test_every_flush_is_a_state(tmp_path_factory: pytest.TempPathFactory, made: list[Act]) -> None:
    log, states = states_of(tmp_path_factory.mktemp("states"), made)
    with log:
        disks = {disk_of(log, state) for state in states}
        for number in range(len(windows(log.entries))):
            assert disk_of(log, CrashState(number, (), "", 0)) in disks


def test_a_write_with_fua_is_there_before_the_next_one(tmp_path: Path) -> None:
    made = [(0, 1, Flag.FUA, 1), (1, 1, Flag.FUA, 2), (2, 1, 0, 3)]
    log, states = states_of(tmp_path, made)
    with log:
        found = {disk_of(log, state)[::SECTOR][:3] for state in states}
    assert found == {
        bytes(values)
        for values in [(0, 0, 0), (1, 0, 0), (1, 2, 0), (0, 0, 3), (1, 0, 3), (1, 2, 3)]
    }


def test_an_ordered_part_is_written_in_order(tmp_path: Path) -> None:
    made = [(0, 1, 0, 1), (1, 1, 0, 2), (8, 1, 0, 3)]
    log, states = states_of(tmp_path, made, ordered=4 * SECTOR)
    with log:
        found = {disk_of(log, state)[::SECTOR] for state in states}
    assert {disk[:2] for disk in found} == {bytes(v) for v in [(0, 0), (1, 0), (1, 2)]}
    assert len(found) == 6
