"""Who may do what to an object while something else is going on.

An operation marks the objects that it uses: an entry {task: operation} in current_operations,
which clients can see. Before a mark is made, the object's policy is asked; it answers with the
error that forbids the operation, or with nothing. Of these errors only
OTHER_OPERATION_IN_PROGRESS passes by itself: it is waited out, up to a limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from xapi import policy_sr, policy_vbd, policy_vdi, policy_vm
from xapi.database import Database
from xapi.errors import XenAPIError
from xapi.message import now
from xapi.task import check_cancelled

_T = TypeVar("_T")
#: Raises the error that forbids an operation on an object.
_Check = Callable[[Database, str, str], None]

_CHECKS: Mapping[str, _Check] = {
    "SR": policy_sr.check,
    "VDI": policy_vdi.check,
    "VBD": policy_vbd.check,
    "VM": policy_vm.check,
}
_OFFERED: Mapping[str, tuple[str, ...]] = {
    "SR": policy_sr.OFFERED,
    "VDI": policy_vdi.OFFERED,
    "VBD": policy_vbd.OFFERED,
    "VM": policy_vm.OFFERED,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """One operation on one object, as current_operations will show it.

    `leaving_out`: VBDs that may be attached, since the operation itself is going to detach
    them first. They are those of one VM; a mark on one of these VBDs is a step of that VM's own.
    """

    cls: str
    ref: str
    operation: str
    leaving_out: frozenset[str] = frozenset()


class Policy:
    """The gate before every operation. `patience`: how many seconds it waits for others."""

    def __init__(self, db: Database, patience: float) -> None:
        self._db = db
        self._patience = patience
        self._changed = db.changed
        self._closed = False

    def operation(self, task: str, name: str, *marks: Mark) -> AbstractContextManager[None]:
        """Check and mark the objects, all or none, for the time of the block.

        Raises:
            XenAPIError: what the policy of an object has against its operation, the first
                object's word first; OTHER_OPERATION_IN_PROGRESS only when patience ran out.
        """
        return self.operation_on(task, name, lambda: marks)

    @contextmanager
    def operation_on(
        self, task: str, name: str, find: Callable[[], Iterable[Mark]]
    ) -> Iterator[None]:
        """`operation` on objects that are looked up, anew after each wait, under the lock."""
        # Marks end with the server at the latest: a file system without room must not keep them.
        with self._changed:
            marks = self._wait_until_allowed(task, lambda: self._allowed(find()))
            with self._db.transaction(lasting=False):
                owns_task = not self._db.exists("task", task)
                if owns_task:
                    self._db.create_as("task", task, name_label=name, created=now(), served=True)
                for mark in marks:
                    self._write(mark, {task: mark.operation})
        try:
            yield
        finally:
            with self._db.transaction(lasting=False):
                for mark in reversed(marks):
                    if self._db.exists(mark.cls, mark.ref):
                        self._write(mark, {}, without=task)
                if owns_task and self._db.exists("task", task):
                    self._db.destroy("task", task)
                self._changed.notify_all()

    def once_allowed(self, task: str, act: Callable[[], None]) -> None:
        """Do something under the lock, once it does not raise OTHER_OPERATION_IN_PROGRESS.

        Raises:
            XenAPIError: what it raises; OTHER_OPERATION_IN_PROGRESS only when patience ran out.
        """
        with self._changed:
            self._wait_until_allowed(task, act)

    def allowed(self, cls: str, ref: str) -> tuple[str, ...]:
        """The operations that a client could start on the object now."""
        with self._db.lock:
            return tuple(op for op in _OFFERED.get(cls, ()) if self._permits(cls, ref, op))

    def assert_allowed(self, *marks: Mark) -> None:
        """Raise what forbids one of the operations just now; nothing is marked."""
        with self._db.lock:
            for mark in marks:
                self._check(mark)

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds; it is looked at whenever an operation ends."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def close(self) -> None:
        """The server stops: nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_until_allowed(self, task: str, attempt: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return attempt()
            except XenAPIError as error:
                remaining = deadline - time.monotonic()
                if error.code != "OTHER_OPERATION_IN_PROGRESS" or remaining <= 0 or self._closed:
                    raise
                self._changed.wait(remaining)
                check_cancelled(self._db, task)

    def _allowed(self, found: Iterable[Mark]) -> tuple[Mark, ...]:
        marks = tuple(found)
        for mark in marks:
            self._check(mark)
        return marks

    def _check(self, mark: Mark) -> None:
        if mark.leaving_out:
            check = policy_vbd.check if mark.cls == "VBD" else policy_vdi.check
            check(self._db, mark.ref, mark.operation, mark.leaving_out)
        else:
            _CHECKS[mark.cls](self._db, mark.ref, mark.operation)

    def _permits(self, cls: str, ref: str, operation: str) -> bool:
        try:
            _CHECKS[cls](self._db, ref, operation)
        except XenAPIError:
            return False
        return True

    def _write(self, mark: Mark, added: Mapping[str, str], without: str = "") -> None:
        current: Mapping[str, str] = self._db.get(mark.cls, mark.ref, "current_operations")
        kept = {task: op for task, op in current.items() if task != without}
        self._db.put(mark.cls, mark.ref, current_operations={**kept, **added})
