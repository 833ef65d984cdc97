"""The commands that `xe` has for every class: param-list, param-get, param-set ..."""

from __future__ import annotations

from collections.abc import Iterable

from xapi.datamodel import CLASSES
from xapi.datatypes import Basic, MapOf, Ref, SetOf, Type
from xapi.fields import Class, Field
from xapi.xe_args import Arguments, boolean, size
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command, Run
from xapi.xe_lists import VIEWS
from xapi.xe_output import columns, record_lines
from xapi.xe_select import column

#: Keys of these commands that are no fields.
_OWN = ("uuid", "param-name", "param-key", "minimal")


def commands() -> Iterable[Command]:
    """All of them, for every class that has a list."""
    for view in VIEWS:
        cls, name = CLASSES[view.cls], f"{view.name}-param"
        yield Command(f"{name}-list", _list(cls), f"uuid:{cls.name}")
        yield Command(f"{name}-get", _get(cls), f"uuid:{cls.name} param-name [param-key]")
        yield Command(f"{name}-set", _set(cls), f"uuid:{cls.name}", fields=cls.name)
        yield Command(
            f"{name}-add", _add(cls), f"uuid:{cls.name} param-name [param-key]", fields=cls.name
        )
        yield Command(f"{name}-remove", _remove(cls), f"uuid:{cls.name} param-name param-key")
        yield Command(f"{name}-clear", _clear(cls), f"uuid:{cls.name} param-name")


def _list(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        record = client.call(f"{cls.name}.get_record", client.ref(cls.name, args.required("uuid")))
        return "\n".join(record_lines(client, list(columns(cls).values()), record))

    return run


def _get(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        shown = column(cls.name, columns(cls), args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        record = client.call(f"{cls.name}.get_record", ref)
        value = record[shown.field.name]
        if "param-key" not in args.keys:
            return shown.show(client, value, record)
        key = args.keys["param-key"]
        if not isinstance(value, dict) or key not in value:
            raise XeError(f"Error: Key {key} not found in map")
        return str(value[key])

    return run


def _set(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        ref = client.ref(cls.name, args.required("uuid"))
        changes = [
            (key, text, _settable(cls, key.partition(":")[0]))
            for key, text in args.keys.items()
            if key not in _OWN
        ]
        for parameter, text, field in changes:
            key = parameter.partition(":")[2]
            if key:
                _put(client, cls, field, ref, key, text)
            else:
                value = _value(client, field.type, parameter, text)
                client.call(f"{cls.name}.set_{field.name}", ref, value)
        return ""

    return run


def _put(client: Client, cls: Class, field: Field, ref: str, key: str, text: str) -> None:
    """Write one key of a map, which may be there already."""
    if not isinstance(field.type, MapOf):
        raise XeError(f"{field.name} is no map: it has no keys")
    if field.custom_setter:
        whole = client.call(f"{cls.name}.get_{field.name}", ref)
        client.call(f"{cls.name}.set_{field.name}", ref, {**whole, key: text})
        return
    client.call(f"{cls.name}.remove_from_{field.name}", ref, key)
    client.call(f"{cls.name}.add_to_{field.name}", ref, key, text)


def _add(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        if isinstance(field.type, SetOf):
            client.call(f"{cls.name}.add_{field.name}", ref, args.required("param-key"))
            return ""
        for key, text in args.keys.items():
            if key not in _OWN:
                client.call(f"{cls.name}.add_to_{field.name}", ref, key, text)
        return ""

    return run


def _remove(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, args.required("param-name"))
        verb = "remove" if isinstance(field.type, SetOf) else "remove_from"
        ref = client.ref(cls.name, args.required("uuid"))
        client.call(f"{cls.name}.{verb}_{field.name}", ref, args.required("param-key"))
        return ""

    return run


def _clear(cls: Class) -> Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        nothing: object = {} if isinstance(field.type, MapOf) else []
        if not isinstance(field.type, MapOf | SetOf):
            nothing = ""
        client.call(f"{cls.name}.set_{field.name}", ref, nothing)
        return ""

    return run


def _settable(cls: Class, name: str) -> Field:
    field = column(cls.name, columns(cls), name).field
    if not field.settable:
        raise XeError(f"Field {name} of {cls.name} is read-only")
    return field


def _value(client: Client, type_: Type, key: str, text: str) -> object:
    """A value for the wire from what was typed."""
    if isinstance(type_, Ref):
        return client.ref(type_.cls, text)
    if type_ is Basic.BOOL:
        return boolean(key, text)
    if type_ is Basic.INT:
        return str(size(key, text))
    if isinstance(type_, SetOf):
        return text.split(",")
    if isinstance(type_, MapOf):
        raise XeError(f"{key} is a map: write {key}:<key>=<value>")
    return text
