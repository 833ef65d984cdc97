"""Events: clients wait for objects to come, change and go.

event.from works on a token, which is all that the server and a client need to know of each
other: the generation of the database that the client has seen. event.register and event.next,
the older way, keep the same number on the server, for each session. Either way an object is in
an answer once, as it is when the answer is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from xapi.database import Database
from xapi.datamodel import CLASSES
from xapi.datatypes import STRINGS, Basic, Int32, Record, Value
from xapi.errors import XenAPIError, handle_invalid
from xapi.generated import record
from xapi.history import Change, Key
from xapi.message import Call, Message, Param
from xapi.subscription import WATCHED, Subscription, parse_token, token
from xapi.waiters import Waiters

#: Between the first change that a client waits for and the answer: others join it.
_BATCH_SECONDS: Final = 0.02
_LONGEST_WAIT: Final = 24 * 3600.0
_ORDER: Final = {"add": 0, "mod": 1, "del": 2}


@dataclass(slots=True)
class _Registration:
    """What a session has registered for, and what it has seen."""

    texts: tuple[str, ...]
    seen: int


class Events:
    """Answers event.* for all sessions of one server."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiters = Waiters(db)
        self._registrations: dict[str, _Registration] = {}
        self._records: dict[Key, Record] = {}
        self._records_generation = 0

    def close(self) -> None:
        """The server stops: who waits gets what there is."""
        self._waiters.close()

    @property
    def waiting(self) -> int:
        """How many calls are waiting."""
        return len(self._waiters)

    # -- event.from

    def since(self, call: Call, texts: tuple[str, ...], seen: str, timeout: float) -> Record:
        """What happened after the token `seen`, waiting `timeout` seconds where nothing did.

        Raises:
            XenAPIError: EVENT_SUBSCRIPTION_PARSE_FAILURE [text], EVENT_FROM_TOKEN_PARSE_FAILURE
                [token]; EVENTS_LOST where the token is too old to tell; SESSION_INVALID
                [session] where that ends meanwhile.
        """
        subscription = Subscription(texts)
        deadline = time.monotonic() + (min(timeout, _LONGEST_WAIT) if timeout > 0 else 0)
        with self._awaited(
            call.session, lambda: subscription, parse_token(seen), deadline
        ) as changes:
            counts = {cls.lower(): len(self._db.refs(cls)) for cls in subscription.classes}
            return {
                "events": tuple(self._event(call, change, "0.0") for change in changes),
                "valid_ref_counts": {cls: Int32(count) for cls, count in counts.items()},
                "token": token(self._db.history.generation),
            }

    def inject(self, cls: str, ref: str) -> str:
        """Let everybody believe that the object changed; a token from just before that."""
        if cls.lower() not in WATCHED:
            raise handle_invalid(cls, ref)
        return token(self._db.touch(WATCHED[cls.lower()], ref))

    # -- event.register and event.next

    def register(self, session: str, texts: tuple[str, ...]) -> None:
        """From now on event.next of the session tells of these too."""
        Subscription(texts)
        with self._db.lock:
            for other in [other for other in self._registrations if not self._is_open(other)]:
                del self._registrations[other]
            fresh = _Registration((), self._db.history.generation)
            registration = self._registrations.setdefault(session, fresh)
            registration.texts = (*registration.texts, *map(str.lower, texts))
            self._waiters.wake(session)

    def unregister(self, session: str, texts: tuple[str, ...]) -> None:
        """The contrary, for the same texts."""
        dropped = set(map(str.lower, texts))
        with self._db.lock:
            registration = self._registration(session)
            registration.texts = tuple(t for t in registration.texts if t not in dropped)
            if not registration.texts:
                del self._registrations[session]
            self._waiters.wake(session)

    def following(self, call: Call) -> tuple[Record, ...]:
        """What happened since the session last asked; there is no limit to the waiting.

        Raises:
            XenAPIError: SESSION_NOT_REGISTERED [session]; EVENTS_LOST where too much happened:
                the session begins anew by registering again; SESSION_INVALID [session].
        """
        session = call.session
        with self._db.lock:
            seen = self._registration(session).seen
            if not self._db.history.known_since(seen):
                del self._registrations[session]
                raise XenAPIError("EVENTS_LOST")
        with self._awaited(
            session, lambda: Subscription(self._registration(session).texts), seen, None
        ) as changes:
            self._registration(session).seen = self._db.history.generation
            return tuple(self._event(call, change, str(time.time())) for change in changes)

    # -- both

    @contextmanager
    def _awaited(
        self,
        session: str,
        wanted: Callable[[], Subscription],
        seen: int,
        deadline: float | None,
    ) -> Iterator[list[Change]]:
        """What is wanted and happened after `seen`; the block has the lock, so that is all.

        Messages come first; then what came, changed, went; each of these in order of time.
        """
        history = self._db.history
        waiting = True
        while waiting:
            waiting = self._wait(session, wanted, seen, deadline)
            with self._db.lock:
                if not history.known_since(seen):
                    raise XenAPIError("EVENTS_LOST")
                covers = wanted().covers
                changes = [change for change in history.since(seen) if covers(change.key)]
                if changes or not waiting:
                    changes.reverse()
                    changes.sort(key=lambda c: (c.key.cls != "message", _ORDER[c.operation]))
                    yield changes
                    return

    def _wait(
        self,
        session: str,
        wanted: Callable[[], Subscription],
        seen: int,
        deadline: float | None,
    ) -> bool:
        """Wait until something wanted happened, and a moment longer; False: time is over."""
        history = self._db.history
        waited = False
        while True:
            with self._db.lock:
                if self._waiters.closed:
                    return False
                if not self._is_open(session):
                    raise XenAPIError("SESSION_INVALID", (session,))
                covers = wanted().covers
                if not history.known_since(seen) or any(covers(c.key) for c in history.since(seen)):
                    break
                seen = history.generation
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                waiter = self._waiters.add(session, covers)
            self._waiters.wait(waiter, remaining)
            waited = True
        if waited:
            self._waiters.pause(_BATCH_SECONDS)
        return True

    def _event(self, call: Call, change: Change, timestamp: str) -> Record:
        event: dict[str, Value] = {
            "id": str(change.generation),
            "timestamp": timestamp,
            "class": change.key.cls.lower(),
            "operation": change.operation,
            "ref": change.key.ref,
        }
        if change.operation != "del":
            event["snapshot"] = self._record(call, change.key)
        return event

    def _record(self, call: Call, key: Key) -> Record:
        """The record of an object, made once for all who ask within one generation."""
        if self._records_generation != self._db.history.generation:
            self._records = {}
            self._records_generation = self._db.history.generation
        if key not in self._records:
            self._records[key] = record(call.xapi, CLASSES[key.cls], key.ref)
        return self._records[key]

    def _registration(self, session: str) -> _Registration:
        if session not in self._registrations:
            raise XenAPIError("SESSION_NOT_REGISTERED", (session,))
        return self._registrations[session]

    def _is_open(self, session: str) -> bool:
        return self._db.exists("session", session)


def _from(call: Call, classes: tuple[str, ...], seen: str, timeout: float) -> Record:
    return call.xapi.events.since(call, classes, seen, timeout)


def _next(call: Call) -> tuple[Record, ...]:
    return call.xapi.events.following(call)


def _register(call: Call, classes: tuple[str, ...]) -> str:
    call.xapi.events.register(call.session, classes)
    return ""


def _unregister(call: Call, classes: tuple[str, ...]) -> str:
    call.xapi.events.unregister(call.session, classes)
    return ""


def _inject(call: Call, cls: str, ref: str) -> str:
    return call.xapi.events.inject(cls, ref)


def _get_current_id(call: Call) -> int:
    return call.xapi.db.history.generation


def _message(name: str, run: Callable[..., Value], *params: Param) -> Message:
    return Message(f"event.{name}", run, params, asynchronous=False)


_CLASSES = Param("classes", STRINGS)

MESSAGES = (
    _message("from", _from, _CLASSES, Param("token", Basic.STRING), Param("timeout", Basic.FLOAT)),
    _message("inject", _inject, Param("class", Basic.STRING), Param("ref", Basic.STRING)),
    _message("get_current_id", _get_current_id),
    _message("register", _register, _CLASSES),
    _message("unregister", _unregister, _CLASSES),
    _message("next", _next),
)
