"""One collector per SR: who starts it, who ends it, and what both hold on to.

    Exception
    └── Aborted      the collector was told to end

Locks, as XenServer's storage manager has them: `gc_active` for as long as a collector lives,
`running` for each thing that it does, `sr` where names or links change. The kernel knows who
holds `gc_active`: that process gets SIGUSR1 from whoever needs the SR for himself, and waits for
it to end by waiting for the lock. A file `abort` says the same to a collector that is about
to begin.

A call that leaves work behind starts a collector before it gives the SR's lock back, unless
there is one. That one needs no word: it ends only after it has looked at the SR once more, under
that lock, and found nothing to do.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from srs import paths
from srs.locks import Lock

#: Seconds that a collector waits before it begins, where the host does not say: XenServer's.
_PAUSE: Final = 300.0
#: A signal that comes just before a system call that waits does not end it: the next one does.
_AGAIN: Final = 1.0


class Aborted(Exception):
    """Somebody needs the SR for himself."""


def active(sr_uuid: str) -> Lock:
    """The lock of the SR's collector."""
    return Lock(sr_uuid, "gc_active")


def _flag(sr_uuid: str) -> str:
    return os.path.join(paths.SM_IPC, sr_uuid, "abort")


@contextmanager
def kept_away(sr_uuid: str) -> Iterator[None]:
    """End the SR's collector, and let none begin during the block.

    Raises:
        LockErr: the lock cannot be taken.
    """
    os.makedirs(os.path.dirname(_flag(sr_uuid)), exist_ok=True)
    with open(_flag(sr_uuid), "w", encoding="ascii"):
        pass
    try:
        lock = active(sr_uuid)
        if pid := lock.holder():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        with lock:
            yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(_flag(sr_uuid))


def abort(sr_uuid: str) -> None:
    """End the SR's collector, if there is one; returns when it is gone."""
    with kept_away(sr_uuid):
        return


def is_wanted(sr_uuid: str) -> bool:
    """Whether somebody is taking the SR for himself."""
    return os.path.exists(_flag(sr_uuid))


def pause() -> float | None:
    """Seconds that a collector waits before it begins; None: only those that are called begin."""
    try:
        with open(paths.GC_PAUSE, encoding="ascii") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return _PAUSE
    return None if text == "never" else float(text)


class Watch:
    """The collector's ear: it hears the signal of `abort`."""

    def __init__(self) -> None:
        self.aborted = False
        self._waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.aborted = True
        if self.aborted and self._waiting:
            raise Aborted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals mean something in this block."""
        before = [signal.signal(number, self._hear) for number in (signal.SIGUSR1, signal.SIGALRM)]
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in zip((signal.SIGUSR1, signal.SIGALRM), before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        self._waiting = True
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        try:
            self.check()
            yield
        finally:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def check(self) -> None:
        """Raise Aborted if somebody said so."""
        if self.aborted:
            raise Aborted

    @contextmanager
    def hold(self, lock: Lock) -> Iterator[None]:
        """Wait for a lock, and have it during the block.

        Raises:
            Aborted: told to end while waiting.
            LockErr: it cannot be taken.
        """
        try:
            with self._interruptible():
                lock.acquire()
            yield
        finally:
            if lock.held:
                lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Aborted: told to end meanwhile.
        """
        with self._interruptible():
            select.select([], [], [], seconds)
