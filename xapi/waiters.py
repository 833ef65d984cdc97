"""Calls that wait until objects change.

Each waits for an event of its own, so that a change wakes those whom it concerns and nobody
else: a hundred clients that watch other things cost those who write nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from xapi.database import Database
from xapi.history import Key


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One call that waits: for an object that it wants, or for the end of its session."""

    session: str
    wants: Callable[[Key], bool]
    woken: threading.Event = field(default_factory=threading.Event)


class Waiters:
    """All calls of one server that wait."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiters: set[Waiter] = set()
        self._closed = threading.Event()
        db.listeners.append(self._heard)

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def closed(self) -> bool:
        """Whether nobody shall wait any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """The server stops."""
        with self._db.lock:
            self._closed.set()
            self._wake(lambda _waiter: True)

    def add(self, session: str, wants: Callable[[Key], bool]) -> Waiter:
        """A new waiter. Called with the database's lock held, so that it misses nothing."""
        waiter = Waiter(session, wants)
        self._waiters.add(waiter)
        return waiter

    def wait(self, waiter: Waiter, seconds: float | None) -> None:
        """Until the waiter is woken or time is over. Called without the lock."""
        waiter.woken.wait(seconds)
        with self._db.lock:
            self._waiters.discard(waiter)

    def pause(self, seconds: float) -> None:
        """Let a moment pass, if the server does not stop."""
        self._closed.wait(seconds)

    def wake(self, session: str) -> None:
        """Let the calls of a session look again what they wait for."""
        with self._db.lock:
            self._wake(lambda waiter: waiter.session == session)

    def _heard(self, touched: Collection[Key]) -> None:
        """A transaction touched these objects."""
        self._wake(
            lambda waiter: any(waiter.wants(key) or key.ref == waiter.session for key in touched)
        )

    def _wake(self, concerned: Callable[[Waiter], bool]) -> None:
        for waiter in self._waiters:
            if not waiter.woken.is_set() and concerned(waiter):
                waiter.woken.set()
