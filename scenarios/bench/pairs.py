"""Timing two ways to do the same work side by side.

A shared machine is fast one second and slow the next. So both sides run in turns, in the order
A B B A that cancels a steady drift, and medians of one run are compared with each other only.
"""

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Action = Callable[[], object]
_QUICK = 0.05
"""Seconds below which a median needs more times to mean something."""


def nothing() -> None:
    """What there is to do where nothing has to be put back."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Work that is ready to be timed; ``reset`` runs before each time and is not counted.

    ``peer`` is None where no program at hand can do it.
    """

    ours: Action
    peer: Action | None = None
    reset: Action = nothing


@dataclass(frozen=True, slots=True)
class Work:
    """A promise: ``prepare`` makes the disks in an empty directory.

    ``target`` is in seconds, None where nothing is promised; ``recorded`` are the milliseconds
    of the field's own tool, taken on another day on a machine of the kind meant by the targets.
    """

    name: str
    target: float | None
    recorded: str
    prepare: Callable[[Path], Subject]


@dataclass(frozen=True, slots=True)
class Result:
    """Each time taken, in seconds, in the order of the rounds."""

    work: Work
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """True if our median keeps the promise, or there is none."""
        return self.work.target is None or statistics.median(self.ours) <= self.work.target

    @property
    def ratio(self) -> float | None:
        """The peer's median as a multiple of ours, None without a peer."""
        if not self.peer:
            return None
        return statistics.median(self.peer) / statistics.median(self.ours)


def measure(work: Work, directory: Path, rounds: int) -> Result:
    """Time a work twice a round, and its peer as often; quick works in five times the rounds.

    A first turn is thrown away: it finds cold caches.
    """
    subject = work.prepare(directory)
    if _seconds(subject.ours, subject) < _QUICK:
        rounds *= 5
    result = Result(work)
    turns = [(subject.ours, result.ours)] * 2
    if subject.peer:
        turns[1:1] = [(subject.peer, result.peer)] * 2
    for _ in range(rounds):
        for action, times in turns:
            times.append(_seconds(action, subject))
    return result


def _seconds(action: Action, subject: Subject) -> float:
    subject.reset()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def program(*arguments: str | Path) -> Action | None:
    """Running a program to its end, None if it is not installed."""
    if not shutil.which(str(arguments[0])):
        return None

    def run() -> None:
        subprocess.run(arguments, check=True, capture_output=True, text=True)

    return run
