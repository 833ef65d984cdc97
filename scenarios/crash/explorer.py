"""All that a power cut can leave of one operation, recovered and checked state by state."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import XenAPI

from scenarios.contents import Known
from scenarios.crash import evidence
from scenarios.crash.bed import Bed, Ledger
from scenarios.crash.cases import Scene
from scenarios.crash.outcome import before, outcome
from scenarios.crash.recording import Recording, Replayer, Rows, record
from scenarios.crash.recovery import verify, without_disks
from scenarios.crash.states import CrashState, Piece, whole
from scenarios.storage import Repository
from testbed.devices.sparse import copy_sparse
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.sessions import close_session

#: Every so many states recover with a database that knows nothing of them, too.
_FRESH_EVERY = 4
#: So many writes of a window are tried to be given back to a state that fails.
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Failure:
    """A state that an SR did not recover from.

    Attributes:
        state: which, with as few lost writes as still make it fail.
        fresh: the database knew nothing of the disks.
        why: what did not hold.
        lost: the writes that did not reach the disk, in words.
        file: where it is kept, to be repeated.
    """

    state: CrashState
    fresh: bool
    why: str
    lost: list[str]
    file: Path | None = None


@dataclass(slots=True)
class Result:
    """What exploring a case came to.

    Attributes:
        kind: of SR.
        case: name of the operation.
        states: how many different ones there were, of disk and database.
        disks: how many different ones were among them.
        fresh: how often an empty database was tried on top.
        recoveries: how often a driver was asked, because something was new to it.
        outcomes: how many different ones they led to.
        flushes: of the operation.
        seconds: in all.
    """

    kind: str
    case: str
    states: int = 0
    disks: int = 0
    fresh: int = 0
    recoveries: int = 0
    outcomes: int = 0
    flushes: int = 0
    seconds: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)
    failures: list[Failure] = field(default_factory=list)


class Judge:
    """Says whether an SR recovers from a disk; looks closely at each outcome once.

    Attributes:
        known: outcomes that were looked at.
    """

    def __init__(self, sr: Repository, scene: Scene, ledger: Ledger) -> None:
        self._scene = scene
        self._ledger = ledger
        self.bed = Bed(sr, ledger)
        self._seen = Known()
        self.known: set[str] = set()

    def why_not(self, image: Path, rows: Rows, *, fresh: bool, over: bool) -> str:
        """Recover from a disk; returns what does not hold, nothing if everything does.

        Args:
            image: the disk.
            rows: the database.
            fresh: which knows nothing of the disks.
            over: the operation had returned before the power went.
        """
        try:
            with self.bed.attached(image, rows) as sr:
                with self._ledger.entry("compare"):
                    found = f"{fresh} {over} {outcome(sr)}"
                if found not in self.known:
                    with self._ledger.entry("verify"):
                        verify(sr, self._scene, self._seen, fresh=fresh, over=over)
                    self.known.add(found)
        except (AssertionError, TestbedError, OSError, ValueError, XenAPI.Failure) as error:
            self.bed.renew()
            return f"{type(error).__name__}: {error}"
        return ""


@contextmanager
def booted(
    name: str, seed: int | None = None, variants: Sequence[Path] = ()
) -> Iterator[tuple[Host, Any]]:
    """A host of its own, and a session of it. Nothing is collected there unless somebody asks."""
    with Host(kernel="uml", name=name, seed=seed, variants=variants, gc_pause=None) as host:
        session = host.session()
        try:
            yield host, session
        finally:
            close_session(session)


class Explorer:
    """One case on one host.

    Args:
        host: it runs, and has no disk.
        session: of it.
        kind: of SR.
        case: name of the operation.
        seed: what is chosen depends on it.
        keep: a directory for evidence of failures.
        driver: another driver than that of the kind.
    """

    def __init__(
        self,
        host: Host,
        session: Any,
        kind: str,
        case: str,
        *,
        seed: int,
        keep: Path | None = None,
        driver: str = "",
    ) -> None:
        self.result = Result(kind, case)
        self._ledger = self.result.ledger
        self._seed = f"{seed} {kind} {case}"
        self._keep = keep
        with self._ledger.entry("record"):
            self.recording: Recording = record(host, session, kind, case, driver=driver)
        self.result.flushes = len(self.recording.windows) - 1
        self._judge = Judge(self.recording.sr, self.recording.scene, self._ledger)
        #: Hashes of what drivers found and have recovered.
        self._recovered: set[str] = set()

    def explore(self, limit: int, *, enough: int = 3) -> Result:
        """Recover from at most about `limit` states; stop after so many failures."""
        begun = time.perf_counter()
        with self._replayer() as (replayer, image):
            with self._ledger.entry("plan"):
                states = replayer.plan(self._seed, limit)
            self.result.disks = len({state.signature for state in states})
            for number, state in enumerate(states):
                self.result.states += 1
                self._look(replayer, image, state, fresh=False)
                if number % _FRESH_EVERY == 0:
                    self.result.fresh += 1
                    self._look(replayer, image, state, fresh=True)
                if len(self.result.failures) >= enough:
                    break
        self.result.outcomes = len(self._judge.known)
        self.result.seconds = time.perf_counter() - begun
        return self.result

    @contextmanager
    def _replayer(self) -> Iterator[tuple[Replayer, Path]]:
        with (
            TemporaryDirectory(dir=self.recording.image.parent) as directory,
            Replayer(self.recording, Path(directory)) as replayer,
        ):
            yield replayer, Path(directory) / "state"

    def _look(self, replayer: Replayer, image: Path, state: CrashState, *, fresh: bool) -> None:
        if why := self._why_not(replayer, image, state, fresh=fresh):
            self.result.failures.append(self._failure(state, why, fresh=fresh))

    def _why_not(self, replayer: Replayer, image: Path, state: CrashState, *, fresh: bool) -> str:
        """Of states that a driver cannot tell apart one is enough."""
        rows, over = self._rows(state, fresh=fresh), self._is_over(state)
        with replayer.disk(state) as disk:
            stored = self._stored(disk, image)
            found = f"{fresh} {over} {before(stored, rows)}"
            if stored and found in self._recovered:
                return ""
            with self._ledger.entry("make"):
                copy_sparse(disk, image)
        self.result.recoveries += 1
        why = self._judge.why_not(image, rows, fresh=fresh, over=over)
        if not why:
            self._recovered.add(found)
        return why

    def _stored(self, disk: Path, image: Path) -> dict[str, Any]:
        """What is on a disk; nothing where only its driver can tell. Uses up the image."""
        if not self.recording.sr.on_volumes:
            with self._ledger.entry("make"):
                copy_sparse(disk, image)
        try:
            with self._ledger.entry("look"):
                return self._judge.bed.stored(disk if self.recording.sr.on_volumes else image)
        except (TestbedError, OSError, ValueError):
            self._judge.bed.renew()
            return {}

    def _is_over(self, state: CrashState) -> bool:
        return state.window == self.result.flushes

    def _rows(self, state: CrashState, *, fresh: bool) -> Rows:
        rows = self.recording.rows[state.mark]
        return without_disks(rows) if fresh else rows

    # --- failures

    def _failure(self, state: CrashState, first: str, *, fresh: bool) -> Failure:
        """Give the disk back what it may have without ceasing to fail, and keep the evidence."""
        with self._replayer() as (replayer, image):
            for write in self.recording.windows[state.window].writes[:_TRIES]:
                pieces = _with(state.pieces, whole(write))
                fuller = replace(state, pieces=pieces)
                if pieces != state.pieces and self._why_not(replayer, image, fuller, fresh=fresh):
                    state = fuller
            why = self._why_not(replayer, image, state, fresh=fresh) or f"not always: {first}"
            with replayer.disk(state) as disk:
                copy_sparse(disk, image)
            lost = self._lost(state)
            return Failure(state, fresh, why, lost, self._saved(state, fresh, why, lost, image))

    def _lost(self, state: CrashState) -> list[str]:
        """What of the window's writes is not there, in words."""
        words = []
        for write in self.recording.windows[state.window].writes:
            kept = [piece for piece in state.pieces if piece.write == write.number]
            if kept != [whole(write)]:
                rest = ", ".join(f"{piece.begin}-{piece.end}" for piece in kept)
                words.append(f"{write}, of which {rest or 'nothing'} is there")
        return words

    def _saved(
        self, state: CrashState, fresh: bool, why: str, lost: list[str], image: Path
    ) -> Path | None:
        if self._keep is None:
            return None
        recording = self.recording
        name = f"{self.result.kind}-{self.result.case}-{len(self.result.failures)}.crash"
        found = evidence.Evidence(
            case=self.result.case,
            why=why,
            lost=lost,
            fresh=fresh,
            over=self._is_over(state),
            scene=recording.scene,
            rows=self._rows(state, fresh=fresh),
            sr=evidence.describe(recording.sr),
        )
        self._keep.mkdir(parents=True, exist_ok=True)
        evidence.save(self._keep / name, found, image)
        return self._keep / name


def _with(pieces: tuple[Piece, ...], more: Piece) -> tuple[Piece, ...]:
    """The pieces, with all of one write, in the order of the writes."""
    others = [piece for piece in pieces if piece.write != more.write]
    return tuple(sorted([*others, more], key=lambda piece: (piece.write, piece.begin)))


def repeat(host: Host, session: Any, file: Path) -> tuple[evidence.Evidence, str]:
    """Recover from a disk that was kept; what it was kept for, and what does not hold now."""
    image = host.state_directory / "replay"
    found = evidence.load(file, image)
    sr, rows = evidence.revive(found, host, session)
    judge = Judge(sr, found.scene, Ledger())
    return found, judge.why_not(image, rows, fresh=found.fresh, over=found.over)
