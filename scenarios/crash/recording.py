"""An operation, run once to its end: every write, every flush, and the database meanwhile."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from scenarios.crash.cases import CASES, Scene
from scenarios.crash.states import BEGIN, CrashState, Piece, plan
from scenarios.storage import Repository
from testbed.devices.disk import Disk, MiB
from testbed.devices.sparse import copy_compact, copy_sparse
from testbed.devices.writelog import Recorder, Window, WriteLog, recorded, windows
from testbed.errors import DeviceRefused
from testbed.host import Host
from testbed.provision import ProvisionedSR, provision
from xapi.database import Database
from xapi.history import Key

#: What the toolstack knows of storage; the rest is not touched by an operation on a disk.
STORAGE_CLASSES: Final = ("SR", "PBD", "VDI", "VBD")
#: Large enough for all cases; images are copied for each state, so no larger.
DISK_SIZE: Final = 192 * MiB

#: Bytes at the start of a disk that LVM keeps for itself: srs/groups.py asks for 10 MiB.
_LVM_AREA: Final = 10 * MiB

Rows = Mapping[Key, dict[str, Any]]


def plain(rows: Rows) -> list[Any]:
    """The database, without the operations that went on: they end with the power."""
    return sorted(
        [*key, sorted((name, repr(v)) for name, v in row.items() if name != "current_operations")]
        for key, row in rows.items()
    )


@dataclass(frozen=True, slots=True)
class Recording:
    """What is known of an operation.

    Attributes:
        sr: it went on here; the SR is not plugged in any more.
        scene: the operation, and what may be left of it.
        image: the disk as it was before.
        log: what was written.
        windows: of the log.
        rows: the database at each mark of the log; at BEGIN as it was before.
    """

    sr: Repository
    scene: Scene
    image: Path
    log: Path
    windows: list[Window]
    rows: dict[str, Rows]


def record(host: Host, session: Any, kind: str, case: str, *, driver: str = "") -> Recording:
    """Make an SR and a scene on it, run the operation, and take the SR's disk out again."""
    made = provision(host, session, kind, driver=driver, size=DISK_SIZE, layered=True)
    sr = Repository(host, session, made)
    scene = CASES[case](sr)
    host.kernel.call("sync")
    raw, image, log = (
        host.state_directory / f"{case}-{kind}.{name}" for name in ("raw", "image", "log")
    )
    database = host.xapi.xapi.db
    rows: dict[str, Rows] = {BEGIN: database.copy(STORAGE_CLASSES)}
    if not isinstance(made.medium, Disk | str):
        raise DeviceRefused(f"an SR of kind {kind} has no disk of this host that could be logged")
    with recorded(host, made.medium, raw, log) as recorder, _noted(database, recorder, rows):
        scene.act()
    _take_out(host, sr, made)
    copy_compact(raw, image)
    raw.unlink()
    with WriteLog(log) as read:
        return Recording(sr, scene, image, log, windows(read.entries), rows)


@contextmanager
def _noted(database: Database, recorder: Recorder, rows: dict[str, Rows]) -> Iterator[None]:
    """Mark in the log when the database changes, and keep what it is then."""

    def note(touched: Collection[Key]) -> None:
        if any(key.cls in STORAGE_CLASSES for key in touched):
            now = database.copy(STORAGE_CLASSES)
            same = (mark for mark, then in rows.items() if plain(then) == plain(now))
            mark = next(same, str(len(rows)))
            rows.setdefault(mark, now)
            recorder.mark(mark)

    database.listeners.append(note)
    try:
        yield
    finally:
        database.listeners.remove(note)


def _take_out(host: Host, sr: Repository, made: ProvisionedSR) -> None:
    for pbd in sr.api.SR.get_PBDs(sr.ref):
        sr.api.PBD.unplug(pbd)
    if isinstance(made.medium, str):
        host.remove_directory(made.medium)
    elif isinstance(made.medium, Disk):
        host.remove_disk(made.medium)


class Replayer:
    """Makes the disks of a recording's states, in the order of the log.

    Args:
        recording: whose.
        directory: where its files go.
    """

    def __init__(self, recording: Recording, directory: Path) -> None:
        self._recording = recording
        self._durable = directory / "durable"
        self._log = WriteLog(recording.log)
        copy_sparse(recording.image, self._durable)
        self._fd = os.open(self._durable, os.O_RDWR | os.O_CLOEXEC)
        self._window = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.__exit__()
        os.close(self._fd)
        self._durable.unlink()

    def plan(self, seed: str, limit: int) -> list[CrashState]:
        """The states to look at (see `states.plan`)."""
        sr = self._recording.sr
        return plan(
            self._log,
            self._fd,
            self._recording.windows,
            seed=seed,
            limit=limit,
            ordered=0 if isinstance(sr.provisioned.medium, str) else _LVM_AREA,
        )

    @contextmanager
    def disk(self, state: CrashState) -> Iterator[Path]:
        """The disk of a state, until the block ends; only to be read.

        Raises:
            ValueError: the state is of an earlier window than one before.
        """
        if state.window < self._window:
            raise ValueError(f"window {state.window} is over: {self._window} is next")
        for window in self._recording.windows[self._window : state.window]:
            self._log.replay(window.writes, self._fd)
        self._window = state.window
        undo = [self._put(piece) for piece in state.pieces]
        try:
            yield self._durable
        finally:
            for offset, data in reversed(undo):
                os.pwrite(self._fd, data, offset)

    def _put(self, piece: Piece) -> tuple[int, bytes]:
        """Write it; returns where, and what was there."""
        entry = self._log.entries[piece.write]
        before = os.pread(self._fd, piece.end - piece.begin, piece.begin)
        data = self._log.data(entry)
        begin, end = piece.begin - entry.offset, piece.end - entry.offset
        os.pwrite(self._fd, data[begin:end], piece.begin)
        return piece.begin, before
