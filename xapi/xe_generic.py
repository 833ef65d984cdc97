"""The commands that `xe` has for every class: list, param-list, param-get, param-set ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from xapi.datamodel import CLASSES
from xapi.datatypes import Basic, MapOf, Ref, SetOf, Type
from xapi.fields import Class, Field
from xapi.xe_args import Arguments, boolean, size
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command
from xapi.xe_output import Column, columns, minimal, record_lines, show

#: The columns that a list shows when it is not asked for others.
_LISTED: Mapping[str, str] = {
    "SR": "uuid name-label name-description type content-type",
    "PBD": "uuid host-uuid sr-uuid device-config currently-attached",
    "SM": "uuid type name-label name-description vendor copyright configuration",
    "VDI": "uuid name-label name-description sr-uuid virtual-size sharable read-only",
    "VBD": "uuid vm-uuid vm-name-label vdi-uuid empty device",
    "VM": "uuid name-label power-state",
    "host": "uuid name-label name-description",
    "pool": "uuid name-label name-description master default-SR",
    "task": "uuid name-label name-description status progress",
    "message": "uuid name priority cls obj-uuid timestamp body",
}
_NOT_FILTERS = ("params", "minimal", "multiple", "all")


def commands() -> Iterable[Command]:
    """All of them, for every class that is listed."""
    for name in _LISTED:
        cls = CLASSES[name]
        prefix = name.lower()
        yield Command(f"{prefix}-list", _list(cls), optional="params <field>=")
        yield Command(f"{prefix}-param-list", _param_list(cls), "uuid")
        yield Command(f"{prefix}-param-get", _param_get(cls), "uuid param-name", "param-key")
        yield Command(f"{prefix}-param-set", _param_set(cls), "uuid", "<field>= <map>:<key>=")
        yield Command(f"{prefix}-param-add", _param_add(cls), "uuid param-name", "param-key <key>=")
        yield Command(f"{prefix}-param-remove", _param_remove(cls), "uuid param-name param-key")
        yield Command(f"{prefix}-param-clear", _param_clear(cls), "uuid param-name")


_Run = Callable[[Client, Arguments], str]


def _list(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        known = columns(cls)
        shown = _chosen(cls, known, args)
        records = [
            record
            for record in client.call(f"{cls.name}.get_all_records").values()
            if _matches(client, known, record, args)
        ]
        if args.flag("minimal"):
            first = shown[0]
            return minimal(first.show(client, record[first.field.name]) for record in records)
        return "".join(
            "".join(f"{line}\n" for line in record_lines(client, shown, record)) + "\n\n"
            for record in records
        ).rstrip("\n")

    return run


def _chosen(cls: Class, known: Mapping[str, Column], args: Arguments) -> Sequence[Column]:
    wanted = args.optional("params", _LISTED[cls.name].replace(" ", ",")).split(",")
    if "all" in wanted:
        return list(known.values())
    if args.flag("minimal") and "params" not in args.keys:
        wanted = ["uuid"]
    return [_column(cls, known, name) for name in wanted]


def _column(cls: Class, known: Mapping[str, Column], name: str) -> Column:
    if name not in known:
        raise XeError(f"Unknown field {name} of {cls.name}\nIt has: {' '.join(known)}")
    return known[name]


def _matches(
    client: Client, known: Mapping[str, Column], record: Mapping[str, object], args: Arguments
) -> bool:
    for filter_, wanted in args.keys.items():
        name, _, key = filter_.partition(":")
        if name in _NOT_FILTERS:
            continue
        if name not in known:
            raise XeError(f"Unknown field {name}\nThere are: {' '.join(known)}")
        column = known[name]
        value = record[column.field.name]
        if key == "contains" and isinstance(value, list):
            item = column.field.type.item if isinstance(column.field.type, SetOf) else Basic.STRING
            if wanted not in [show(client, item, member) for member in value]:
                return False
        elif key:
            if not isinstance(value, dict) or value.get(key) != wanted:
                return False
        elif column.show(client, value) != wanted:
            return False
    return True


def _param_list(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        record = client.call(f"{cls.name}.get_record", client.ref(cls.name, args.required("uuid")))
        return "\n".join(record_lines(client, list(columns(cls).values()), record))

    return run


def _param_get(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        column = _column(cls, columns(cls), args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        value = client.call(f"{cls.name}.get_{column.field.name}", ref)
        if "param-key" not in args.keys:
            return column.show(client, value)
        key = args.keys["param-key"]
        if not isinstance(value, dict) or key not in value:
            raise XeError(f"Error: Key {key} not found in map")
        return str(value[key])

    return run


# -- changing parameters


def _param_set(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        ref = client.ref(cls.name, args.required("uuid"))
        known = columns(cls)
        for parameter, text in args.keys.items():
            name, _, key = parameter.partition(":")
            if name == "uuid":
                continue
            field = _settable(cls, known, name)
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


def _param_add(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, columns(cls), args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        if isinstance(field.type, SetOf):
            client.call(f"{cls.name}.add_{field.name}", ref, args.required("param-key"))
            return ""
        for key, text in args.keys.items():
            if key not in ("uuid", "param-name", "param-key"):
                client.call(f"{cls.name}.add_to_{field.name}", ref, key, text)
        return ""

    return run


def _param_remove(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, columns(cls), args.required("param-name"))
        verb = "remove" if isinstance(field.type, SetOf) else "remove_from"
        ref = client.ref(cls.name, args.required("uuid"))
        client.call(f"{cls.name}.{verb}_{field.name}", ref, args.required("param-key"))
        return ""

    return run


def _param_clear(cls: Class) -> _Run:
    def run(client: Client, args: Arguments) -> str:
        field = _settable(cls, columns(cls), args.required("param-name"))
        ref = client.ref(cls.name, args.required("uuid"))
        nothing: object = {} if isinstance(field.type, MapOf) else []
        if not isinstance(field.type, MapOf | SetOf):
            nothing = ""
        client.call(f"{cls.name}.set_{field.name}", ref, nothing)
        return ""

    return run


def _settable(cls: Class, known: Mapping[str, Column], name: str) -> Field:
    field = _column(cls, known, name).field
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
