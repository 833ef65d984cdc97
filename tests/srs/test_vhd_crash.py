"""Power cuts: whatever subset of the unsynced sectors a medium kept, no sector is garbage.

Every write, truncation and sync that the engine makes is taped. A cut after any of them is
replayed onto the file as it was before: what a sync covered is there, of the rest each sector is
there or not by chance. The disk must open, and each of its sectors must be what the last flush
made durable or something written after it.
"""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from powercut import Tape, device, taping

from srs import vhd

MIB = 1 << 20
SIZE = 6 * MIB
SECTORS = SIZE // 512
DEVICE = 7 * MIB


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: these tests write thousands of images."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def same_sectors(found: bytes, expected: bytearray) -> None:
    """Fail with the first sector that differs, not with megabytes."""
    if found != expected:
        at = next(i for i in range(0, SIZE, 512) if found[i : i + 512] != expected[i : i + 512])
        pytest.fail(f"sector {at // 512}: {found[at : at + 16]!r}, not {expected[at : at + 16]!r}")


class History:
    """What each sector may hold after a cut at a given length of the tape."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._writes: list[tuple[int, int, int, bytes]] = []
        self._flushes = [(0, bytes(content))]

    def wrote(self, before: int, offset: int, data: bytes) -> None:
        """A write that began when the tape had ``before`` events."""
        self.content[offset : offset + len(data)] = data
        self._writes.append((before, len(self._flushes), offset, data))

    def flushed(self, after: int) -> None:
        """A flush that returned when the tape had ``after`` events."""
        self._flushes.append((after, bytes(self.content)))

    def check(self, found: bytes, cut: int) -> None:
        """Fail if a sector of ``found`` is neither durable nor written since."""
        epoch = max(i for i, (after, _) in enumerate(self._flushes) if after <= cut)
        durable = self._flushes[epoch][1]
        allowed: dict[int, set[bytes]] = {}
        for before, flushes, offset, data in self._writes:
            if before <= cut and flushes > epoch:
                for at in range(0, len(data), 512):
                    allowed.setdefault(offset + at, set()).add(data[at : at + 512])
        merged = bytearray(durable)
        for at, choices in allowed.items():
            if found[at : at + 512] in choices:
                merged[at : at + 512] = found[at : at + 512]
        same_sectors(found, merged)


Step = tuple[int, int, int] | None

steps = st.lists(
    st.one_of(
        st.none(),
        st.tuples(
            st.sampled_from([0, 4096, 8192]) | st.integers(0, SECTORS - 1),
            st.sampled_from([1, 1, 2, 7, 40, 4096]),
            st.integers(1, 255),
        ),
    ),
    min_size=1,
    max_size=8,
)


def play(path: Path, tape: Tape, program: list[Step], content: bytes) -> History:
    """Run a program of writes and flushes (None) against a disk and its model."""
    history = History(content)
    with vhd.open_chain(path, writable=True) as disk:
        for step in program:
            if step is None:
                disk.flush()
                history.flushed(len(tape))
                continue
            sector, count, value = step
            data = bytes([value]) * (min(count, SECTORS - sector) * 512)
            history.wrote(len(tape), sector * 512, data)
            disk.write(sector * 512, data)
    history.flushed(len(tape))
    return history


def verify(path: Path, history: History, cut: int) -> None:
    """The disk left by a cut opens, holds what it may, and works on."""
    with vhd.open_chain(path) as disk:
        found = disk.read(0, SIZE)
    history.check(found, cut)
    expected = bytearray(found)
    with vhd.open_chain(path, writable=True) as disk:
        for offset in (512, 3 * MIB, SIZE - 512):
            expected[offset : offset + 512] = b"!" * 512
            disk.write(offset, b"!" * 512)
    with vhd.open_chain(path) as disk:
        same_sectors(disk.read(0, SIZE), expected)


def cut_and_verify(path: Path, tape: Tape, history: History, seed: int) -> None:
    """Cut behind ten of the events, or all if there are fewer."""
    chance = random.Random(seed)
    for at in sorted(chance.sample(range(len(tape) + 1), min(10, len(tape) + 1))):
        tape.cut(at, chance)
        verify(path, history, at)


relaxed = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@relaxed
@given(program=steps, old=steps, seed=st.integers(0, 1 << 32))
def test_file(scratch: Path, program: list[Step], old: list[Step], seed: int) -> None:
    """A leaf in a file system, on top of a parent with data."""
    parent, path = scratch / "parent.vhd", scratch / "leaf.vhd"
    for file in (parent, path):
        file.unlink(missing_ok=True)
    vhd.create(parent, SIZE)
    with vhd.open_chain(parent, writable=True) as disk:
        disk.write(MIB, b"p" * (3 * MIB))
    vhd.snapshot(path, parent)
    with vhd.open_chain(path) as disk:
        content = disk.read(0, SIZE)
    with taping(path) as tape:
        content = bytes(play(path, tape, old, content).content)
    with taping(path) as tape:
        history = play(path, tape, program, content)
    cut_and_verify(path, tape, history, seed)


@relaxed
@given(program=steps, old=steps, seed=st.integers(0, 1 << 32))
def test_device(scratch: Path, program: list[Step], old: list[Step], seed: int) -> None:
    """A disk on a device full of stale bytes; only the test of the file's type is bent."""
    path = scratch / "device"
    path.write_bytes(random.Random(seed).randbytes(DEVICE))
    with device():
        vhd.create(path, SIZE, max_size=64 << 30)
        with taping(path) as tape:
            content = bytes(play(path, tape, old, bytes(SIZE)).content)
        with taping(path) as tape:
            history = play(path, tape, program, content)
        cut_and_verify(path, tape, history, seed)
    assert path.stat().st_size == DEVICE
