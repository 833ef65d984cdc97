"""Tasks: what is going on, and how far it has come.

A task is made by a client, which then reports on it itself, or by the server for a call that
it was asked to run in the background (Async.*). Its life:

    pending ──▶ success              result: the XML-RPC value element of what the call gave
       │   └──▶ failure              error_info: [code, parameters...]
       └─▶ cancelling ──▶ cancelled  error_info: [TASK_CANCELLED, task]
                     └──▶ success, failure, where the work came to its end all the same
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from operator import itemgetter

from xapi import wire
from xapi.database import Database
from xapi.datamodel_session import TASK_STATUS
from xapi.datatypes import STRINGS, Basic, Ref, Type, Value
from xapi.errors import XenAPIError, not_allowed
from xapi.message import Call, Message, Param, now
from xapi.store import StateError

_log = logging.getLogger(__name__)

#: How long tasks are kept: one that has ended, one that nobody reports on, and how many.
_KEPT_ENDED = timedelta(minutes=65)
_KEPT_PENDING = timedelta(hours=24)
_KEPT = 200
_ENDED = ("success", "failure", "cancelled")


# -- for whoever does the work


def begin(db: Database, host: str, label: str, description: str = "", *, served: bool) -> str:
    """A new task. `served`: the server works on it, so it cannot vanish before it has ended."""
    with db.transaction():
        collect(db, now())
        return db.create(
            "task",
            name_label=label,
            name_description=description,
            created=now(),
            resident_on=host,
            allowed_operations=("cancel",),
            type="<none/>",
            backtrace="()",
            served=served,
        )


def succeed(db: Database, task: str, value: Value) -> None:
    """The task has ended well; `value` is what its call returns."""
    _conclude(db, task, status="success", progress=1.0, result=wire.element(value))


def fail(db: Database, task: str, error: XenAPIError) -> None:
    """The task has failed, or stopped because it was cancelled."""
    status = "cancelled" if error.code == "TASK_CANCELLED" else "failure"
    _conclude(db, task, status=status, error_info=tuple(error.description))


def check_cancelled(db: Database, task: str) -> None:
    """Call this wherever work can be given up.

    Raises:
        XenAPIError: TASK_CANCELLED [task].
    """
    with db.lock:
        if db.exists("task", task) and db.get("task", task, "status") == "cancelling":
            raise XenAPIError("TASK_CANCELLED", (task,))


def report(db: Database, task: str, progress: float) -> None:
    """How much of the task is done, between 0 and 1."""
    with db.transaction(lasting=False):
        if db.exists("task", task):
            db.put("task", task, progress=progress)


def insist(db: Database, task: str) -> None:
    """From here on the task can no longer be cancelled.

    Raises:
        XenAPIError: TASK_CANCELLED [task], it was cancelled just before.
    """
    with db.transaction():
        check_cancelled(db, task)
        if db.exists("task", task):
            db.put("task", task, allowed_operations=())


def collect(db: Database, moment: datetime) -> None:
    """Remove tasks that nobody will ask for any more."""
    with db.lock:
        ended = []
        # The youngest first: of those that ended in the same second they stay the longest.
        for task in reversed(db.refs("task")):
            if db.get("task", task, "status") in _ENDED:
                ended.append((db.get("task", task, "finished"), task))
            elif _is_forgotten(db, task, moment):
                db.destroy("task", task)
        ended.sort(key=itemgetter(0), reverse=True)
        for index, (finished, task) in enumerate(ended):
            if index >= _KEPT or moment - finished > _KEPT_ENDED:
                db.destroy("task", task)


def _is_forgotten(db: Database, task: str, moment: datetime) -> bool:
    age: timedelta = moment - db.get("task", task, "created")
    return age > _KEPT_PENDING and not db.get("task", task, "served")


def _conclude(db: Database, task: str, **fields: Value) -> None:
    """End a task that the server worked on: whoever waits hears of it, room in the file or not."""
    try:
        _end(db, task, **fields)
    except StateError as error:
        _log.warning("the next server will not know how a task has ended: %s", error)
        with db.transaction(lasting=False):
            _end(db, task, **fields)


def _end(db: Database, task: str, **fields: Value) -> None:
    with db.transaction():
        if not db.exists("task", task):
            return
        db.put("task", task, finished=now(), allowed_operations=(), **fields)
        if db.get("task", task, "unwanted"):
            db.destroy("task", task)


# -- the calls on tasks


def create(call: Call, label: str, description: str) -> str:
    """A task of the client's own, for it to report progress on."""
    return begin(call.xapi.db, call.xapi.host, label, description, served=False)


def destroy(call: Call, self: str) -> str:
    """Remove a task; one that the server works on goes when it has ended."""
    db = call.xapi.db
    with db.transaction():
        if db.get("task", self, "served") and db.get("task", self, "status") not in _ENDED:
            db.put("task", self, unwanted=True)
        else:
            db.destroy("task", self)
    return ""


def cancel(call: Call, task: str) -> str:
    """Ask whoever works on the task to stop."""
    db = call.xapi.db
    with db.transaction():
        if "cancel" not in db.get("task", task, "allowed_operations"):
            raise not_allowed("The task cannot be cancelled.")
        db.put("task", task, status="cancelling", allowed_operations=())
    return ""


def set_status(call: Call, self: str, value: str) -> str:
    """Say how the task fares; success, failure and cancelled end it.

    Raises:
        XenAPIError: OPERATION_NOT_ALLOWED, the server works on the task and will say itself.
    """
    db = call.xapi.db
    with db.transaction():
        if db.get("task", self, "served") and db.get("task", self, "status") not in _ENDED:
            raise not_allowed("The server works on the task: it says itself how it fares.")
        if value == "failure":
            # Whoever works by itself has nobody else to tell.
            label, error = db.get("task", self, "name_label"), db.get("task", self, "error_info")
            _log.warning("task %s failed: %s", label, error)
        if value in _ENDED:
            _end(db, self, status=value)
        else:
            db.put("task", self, status=value)
    return ""


def _setter(field: str) -> Callable[[Call, str, Value], str]:
    def run(call: Call, self: str, value: Value) -> str:
        call.xapi.db.put("task", self, **{field: value})
        return ""

    return run


_SELF = Param("self", Ref("task"))
_SETTERS: dict[str, Type] = {
    "progress": Basic.FLOAT,
    "result": Basic.STRING,
    "error_info": STRINGS,
    "resident_on": Ref("host"),
}

MESSAGES = (
    Message(
        "task.create",
        create,
        (Param("label", Basic.STRING), Param("description", Basic.STRING)),
        asynchronous=False,
    ),
    Message("task.destroy", destroy, (_SELF,), asynchronous=False),
    Message("task.cancel", cancel, (Param("task", Ref("task")),), asynchronous=False),
    Message(
        "task.set_status", set_status, (_SELF, Param("value", TASK_STATUS)), asynchronous=False
    ),
    *(
        Message(
            f"task.set_{field}",
            _setter(field),
            (_SELF, Param("value", type_)),
            asynchronous=False,
        )
        for field, type_ in _SETTERS.items()
    ),
)
