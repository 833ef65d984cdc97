"""Messages: what has happened to an object, for whoever looks after the pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import cast

from xapi.datamodel import CLASSES
from xapi.datamodel_session import MESSAGE_CLASS
from xapi.datatypes import Basic, Record, Ref, SetOf
from xapi.generated import record
from xapi.message import Call, Message, Param, now
from xapi.toolstack import Toolstack


def post(xapi: Toolstack, name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
    """A message about the object of class `cls` that has this uuid."""
    return xapi.db.create(
        "message",
        name=name,
        priority=priority,
        cls=cls,
        obj_uuid=obj_uuid,
        timestamp=now(),
        body=body,
    )


def _create(call: Call, name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
    return post(call.xapi, name, priority, cls, obj_uuid, body)


def _destroy(call: Call, self: str) -> str:
    call.xapi.db.destroy("message", self)
    return ""


def _destroy_many(call: Call, messages: tuple[str, ...]) -> str:
    with call.xapi.db.transaction():
        for message in messages:
            call.xapi.db.destroy("message", message)
    return ""


def _get(call: Call, cls: str, obj_uuid: str, since: datetime) -> Mapping[str, Record]:
    about = (cls, obj_uuid)
    return _those(call, since, lambda message: (message["cls"], message["obj_uuid"]) == about)


def _get_since(call: Call, since: datetime) -> Mapping[str, Record]:
    return _those(call, since, lambda _message: True)


def _those(call: Call, since: datetime, wanted: Callable[[Record], bool]) -> Mapping[str, Record]:
    db = call.xapi.db
    with db.lock:
        messages = {ref: record(call.xapi, CLASSES["message"], ref) for ref in db.refs("message")}
    return {
        ref: message
        for ref, message in messages.items()
        if cast(datetime, message["timestamp"]) >= since and wanted(message)
    }


_CLASS = Param("cls", MESSAGE_CLASS)
_OBJECT = Param("obj_uuid", Basic.STRING)
_SINCE = Param("since", Basic.DATETIME)

MESSAGES = (
    Message(
        "message.create",
        _create,
        (
            Param("name", Basic.STRING),
            Param("priority", Basic.INT),
            _CLASS,
            _OBJECT,
            Param("body", Basic.STRING),
        ),
    ),
    Message("message.destroy", _destroy, (Param("self", Ref("message")),)),
    Message("message.destroy_many", _destroy_many, (Param("messages", SetOf(Ref("message"))),)),
    Message("message.get", _get, (_CLASS, _OBJECT, _SINCE)),
    Message("message.get_since", _get_since, (_SINCE,)),
)
