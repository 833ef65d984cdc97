"""Tasks and messages: what clients and drivers leave for others to see."""

from __future__ import annotations

from collections.abc import Callable

from xapi.datamodel_session import MESSAGE_CLASS, TASK_STATUS
from xapi.datatypes import STRINGS, Basic, Ref, Type, Value
from xapi.errors import not_allowed
from xapi.message import Call, Message, Param, now
from xapi.toolstack import Toolstack


def create(call: Call, label: str, description: str) -> str:
    """A task of the client's own, for it to report progress on."""
    return call.xapi.db.create(
        "task",
        name_label=label,
        name_description=description,
        created=now(),
        resident_on=call.xapi.host,
        allowed_operations=("cancel", "destroy"),
    )


def destroy(call: Call, self: str) -> str:
    """Remove a task."""
    call.xapi.db.destroy("task", self)
    return ""


def cancel(call: Call, task: str) -> str:
    """Ask whoever works on the task to stop."""
    db = call.xapi.db
    with db.transaction():
        if "cancel" not in db.get("task", task, "allowed_operations"):
            raise not_allowed("The task cannot be cancelled.")
        db.put("task", task, status="cancelling", allowed_operations=("destroy",))
    return ""


def set_status(call: Call, self: str, value: str) -> str:
    """Say how the task fares; success and failure end it."""
    ended = value in ("success", "failure", "cancelled")
    with call.xapi.db.transaction():
        call.xapi.db.put("task", self, status=value)
        if ended:
            call.xapi.db.put("task", self, finished=now())
    return ""


def _setter(field: str) -> Callable[[Call, str, Value], str]:
    def run(call: Call, self: str, value: Value) -> str:
        call.xapi.db.put("task", self, **{field: value})
        return ""

    return run


def post(xapi: Toolstack, name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
    """A message record about an object, for whoever looks after the pool."""
    return xapi.db.create(
        "message",
        name=name,
        priority=priority,
        cls=cls,
        obj_uuid=obj_uuid,
        timestamp=now(),
        body=body,
    )


def _message_create(
    call: Call, name: str, priority: int, cls: str, obj_uuid: str, body: str
) -> str:
    return post(call.xapi, name, priority, cls, obj_uuid, body)


def _message_destroy(call: Call, self: str) -> str:
    call.xapi.db.destroy("message", self)
    return ""


_SELF = Param("self", Ref("task"))
_SETTERS: dict[str, Type] = {
    "progress": Basic.FLOAT,
    "result": Basic.STRING,
    "error_info": STRINGS,
}

MESSAGES = (
    Message(
        "task.create",
        create,
        (Param("label", Basic.STRING), Param("description", Basic.STRING)),
    ),
    Message("task.destroy", destroy, (_SELF,)),
    Message("task.cancel", cancel, (Param("task", Ref("task")),)),
    Message("task.set_status", set_status, (_SELF, Param("value", TASK_STATUS))),
    *(
        Message(f"task.set_{field}", _setter(field), (_SELF, Param("value", type_)))
        for field, type_ in _SETTERS.items()
    ),
    Message(
        "message.create",
        _message_create,
        (
            Param("name", Basic.STRING),
            Param("priority", Basic.INT),
            Param("cls", MESSAGE_CLASS),
            Param("obj_uuid", Basic.STRING),
            Param("body", Basic.STRING),
        ),
    ),
    Message("message.destroy", _message_destroy, (Param("self", Ref("message")),)),
)
