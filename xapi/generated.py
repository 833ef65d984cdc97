"""The messages that follow from the data model: getters, setters, records and look-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from xapi.datatypes import Basic, MapOf, Record, RecordOf, Ref, SetOf, Value
from xapi.errors import XenAPIError, internal_error
from xapi.fields import Class, Field
from xapi.message import Call, Message, Param
from xapi.query import compile_query
from xapi.wire import decode

if TYPE_CHECKING:
    from xapi.toolstack import Toolstack

_Run = Callable[..., Value]


def messages(cls: Class) -> Iterator[Message]:
    """Every generated message of a class."""
    self = Param("self", Ref(cls.name))
    for field in cls.public:
        yield _message(f"{cls.name}.get_{field.name}", _getter(cls, field), self)
        if field.mutable:
            yield from _mutators(cls, field, self)
    yield _message(f"{cls.name}.get_record", _get_record(cls), self)
    yield _message(f"{cls.name}.get_by_uuid", _get_by_uuid(cls), Param("uuid", Basic.STRING))
    if cls.constructed:
        yield Message(f"{cls.name}.create", _create(cls), (Param("record", RecordOf(cls.name)),))
        yield Message(f"{cls.name}.destroy", _destroy(cls), (self,))
    if cls.listed:
        yield from _lists(cls)


def _lists(cls: Class) -> Iterator[Message]:
    expr = Param("expr", Basic.STRING)
    yield _message(f"{cls.name}.get_all", lambda call: call.xapi.db.refs(cls.name))
    yield _message(f"{cls.name}.get_all_records", _get_all_records(cls))
    yield _message(f"{cls.name}.get_all_where", lambda call, e: tuple(_where(call, cls, e)), expr)
    yield _message(f"{cls.name}.get_all_records_where", lambda call, e: _where(call, cls, e), expr)
    if "name_label" in cls.by_name:
        label = Param("label", Basic.STRING)
        yield _message(f"{cls.name}.get_by_name_label", _get_by_name_label(cls), label)


def _message(name: str, run: _Run, *params: Param) -> Message:
    """One that only reads or writes the database: it has no Async form."""
    return Message(name, run, params, asynchronous=False)


def record(xapi: Toolstack, cls: Class, ref: str) -> Record:
    """An object as clients see it."""
    with xapi.db.lock:
        known = xapi.db.public(cls.name, ref)
        for field in cls.computed:
            known[field.name] = xapi.policy.allowed(cls.name, ref)
        return known


def _read(xapi: Toolstack, cls: Class, field: Field, ref: str) -> Value:
    if field.computed:
        return xapi.policy.allowed(cls.name, ref)
    value: Value = xapi.db.get(cls.name, ref, field.name)
    return value


def _getter(cls: Class, field: Field) -> _Run:
    return lambda call, self: _read(call.xapi, cls, field, self)


def _get_record(cls: Class) -> _Run:
    return lambda call, self: record(call.xapi, cls, self)


def _get_by_uuid(cls: Class) -> _Run:
    return lambda call, uuid: call.xapi.db.by_uuid(cls.name, uuid)


def _get_by_name_label(cls: Class) -> _Run:
    return lambda call, label: call.xapi.db.find(cls.name, name_label=label)


def _create(cls: Class) -> _Run:
    return lambda call, struct: call.xapi.db.create(cls.name, **construct(cls, struct))


def _destroy(cls: Class) -> _Run:
    def run(call: Call, self: str) -> Value:
        call.xapi.db.destroy(cls.name, self)
        return ""

    return run


def _get_all_records(cls: Class) -> _Run:
    def run(call: Call) -> Value:
        with call.xapi.db.lock:
            return {ref: record(call.xapi, cls, ref) for ref in call.xapi.db.refs(cls.name)}

    return run


def _where(call: Call, cls: Class, expression: str) -> Mapping[str, Record]:
    matches = compile_query(expression)
    with call.xapi.db.lock:
        records = {ref: record(call.xapi, cls, ref) for ref in call.xapi.db.refs(cls.name)}
    return {ref: fields for ref, fields in records.items() if matches(fields)}


# -- changing RW fields


def _mutators(cls: Class, field: Field, self: Param) -> Iterator[Message]:
    name = field.name
    yield _message(f"{cls.name}.set_{name}", _setter(cls, name), self, Param("value", field.type))
    if isinstance(field.type, MapOf):
        yield from map_mutators(cls, name, self)
    elif isinstance(field.type, SetOf):
        item = Param("value", field.type.item)
        yield _message(f"{cls.name}.add_{name}", _add(cls, name), self, item)
        yield _message(f"{cls.name}.remove_{name}", _remove(cls, name), self, item)


def map_mutators(cls: Class, name: str, self: Param) -> Iterator[Message]:
    """add_to_* and remove_from_* of one map field."""
    key, value = Param("key", Basic.STRING), Param("value", Basic.STRING)
    yield _message(f"{cls.name}.add_to_{name}", _add_to(cls, name), self, key, value)
    yield _message(f"{cls.name}.remove_from_{name}", _remove_from(cls, name), self, key)


def _setter(cls: Class, name: str) -> _Run:
    def run(call: Call, self: str, value: Value) -> Value:
        call.xapi.db.put(cls.name, self, **{name: value})
        return ""

    return run


def _add_to(cls: Class, name: str) -> _Run:
    def run(call: Call, self: str, key: str, value: str) -> Value:
        db = call.xapi.db
        with db.transaction():
            current: Mapping[str, str] = db.get(cls.name, self, name)
            if key in current:
                raise XenAPIError("MAP_DUPLICATE_KEY", (cls.name, name, self, key))
            db.put(cls.name, self, **{name: {**current, key: value}})
        return ""

    return run


def _remove_from(cls: Class, name: str) -> _Run:
    def run(call: Call, self: str, key: str) -> Value:
        db = call.xapi.db
        with db.transaction():
            current: Mapping[str, str] = db.get(cls.name, self, name)
            kept = {other: value for other, value in current.items() if other != key}
            db.put(cls.name, self, **{name: kept})
        return ""

    return run


def _add(cls: Class, name: str) -> _Run:
    def run(call: Call, self: str, value: Value) -> Value:
        db = call.xapi.db
        with db.transaction():
            current: tuple[Value, ...] = db.get(cls.name, self, name)
            if value not in current:
                db.put(cls.name, self, **{name: (*current, value)})
        return ""

    return run


def _remove(cls: Class, name: str) -> _Run:
    def run(call: Call, self: str, value: Value) -> Value:
        db = call.xapi.db
        with db.transaction():
            current: tuple[Value, ...] = db.get(cls.name, self, name)
            kept = tuple(item for item in current if item != value)
            db.put(cls.name, self, **{name: kept})
        return ""

    return run


def construct(cls: Class, struct: Mapping[str, object]) -> dict[str, Value]:
    """The fields that a constructor takes from a client's struct; others are ignored.

    Raises:
        XenAPIError: INTERNAL_ERROR names a field that has no default and is missing,
            FIELD_TYPE_ERROR [field] one of another type.
    """
    values: dict[str, Value] = {}
    for field in cls.fields:
        if not field.constructed:
            continue
        if field.name in struct:
            values[field.name] = decode(field.type, struct[field.name], field.name)
        elif field.required:
            raise internal_error(f"{cls.name}.create: the record lacks the field {field.name}")
    return values
