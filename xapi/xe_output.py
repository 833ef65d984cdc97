"""How `xe` shows records, values and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, Basic, MapOf, Ref, SetOf, Type
from xapi.errors import CODES
from xapi.fields import Class, Field
from xapi.xe_client import ApiFailure, Client

_NOT_THERE = "<not in database>"
#: The class that a parameter of an error refers to, by the parameter's name.
_REFERS_TO = {name.lower(): name for name in CLASSES} | {"handle": "", "object": "", "ref": "VBD"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a class: its name, the field it shows, and how."""

    name: str
    field: Field
    show: Callable[[Client, object], str]


def columns(cls: Class) -> dict[str, Column]:
    """All columns of a class by name, in the order of its fields."""
    found: dict[str, Column] = {}
    for field in cls.public:
        for column in _columns_of(field):
            found[column.name] = column
    return found


def _columns_of(field: Field) -> Iterable[Column]:
    name = field.name.replace("_", "-")
    if isinstance(field.type, Ref) and field.type.cls.lower() == field.name.lower():
        # A field that is named like the class it refers to: VBD.VDI shows as vdi-uuid.
        yield Column(f"{name.lower()}-uuid", field, _shower(field.type))
        if "name_label" in _fields(field.type.cls):
            yield Column(f"{name.lower()}-name-label", field, _name_shower(field.type.cls))
    elif isinstance(field.type, SetOf) and name == "VBDs":
        yield Column("vbd-uuids", field, _shower(field.type))
    else:
        yield Column(name, field, _shower(field.type))


def _fields(cls: str) -> Mapping[str, Field]:
    return CLASSES[cls].by_name if cls in CLASSES else {}


def _shower(type_: Type) -> Callable[[Client, object], str]:
    return lambda client, value: show(client, type_, value)


def _name_shower(cls: str) -> Callable[[Client, object], str]:
    def name(client: Client, ref: object) -> str:
        try:
            return str(client.call(f"{cls}.get_name_label", ref))
        except ApiFailure:
            return _NOT_THERE

    return name


def show(client: Client, type_: Type, value: object) -> str:
    """A value from the wire as text: refs as uuids, sets as `a; b`, maps as `k: v; k: v`."""
    if isinstance(type_, Ref):
        if type_.cls not in CLASSES or value == NULL:
            return _NOT_THERE
        return client.uuid(type_.cls, str(value)) or "<invalid reference>"
    if isinstance(type_, SetOf) and isinstance(value, list):
        return "; ".join(show(client, type_.item, item) for item in value)
    if isinstance(type_, MapOf) and isinstance(value, dict):
        return "; ".join(
            f"{show(client, type_.key, key)}: {show(client, type_.value, item)}"
            for key, item in sorted(value.items())
        )
    if type_ is Basic.BOOL:
        return "true" if value else "false"
    if type_ is Basic.FLOAT and isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def heading(column: Column) -> str:
    """A column's name with its kind and who may write it: `name-label ( RW)`."""
    kind = {SetOf: "S", MapOf: "M"}.get(type(column.field.type), " ")
    return f"{column.name} ({kind}{'RW' if column.field.settable else 'RO'})"


def record_lines(
    client: Client, shown: Sequence[Column], record: Mapping[str, object]
) -> Iterable[str]:
    """A record, one line for each column, the colons under each other."""
    headings = [heading(column) for column in shown]
    width = max(map(len, headings))
    for index, (column, title) in enumerate(zip(shown, headings, strict=True)):
        padded = title.rjust(width) if index else title.ljust(width)
        yield f"{padded}: {column.show(client, record[column.field.name])}"


def minimal(values: Iterable[str]) -> str:
    """Values for a script: on one line, with commas between them."""
    return ",".join(value.replace("\\", "\\\\").replace(",", "\\,") for value in values)


def error_lines(client: Client, failure: ApiFailure) -> Iterable[str]:
    """What an API error says: its text and parameters, or just its code, then what to do."""
    known = CODES.get(failure.code)
    if known is None or not known.text:
        yield f"Error code: {failure.code}"
        yield f"Error parameters: {', '.join(failure.params)}"
        return
    yield known.text
    cls = ""
    for name, value in zip(known.params, failure.params, strict=False):
        cls = value if name == "class" else _REFERS_TO.get(name.lower(), "") or cls
        yield f"{name}: {_named(client, cls, value)}"
    if known.hint:
        yield f"hint: {known.hint}"


def _named(client: Client, cls: str, value: str) -> str:
    """A reference as `uuid (name)`; anything else as it is."""
    if cls not in CLASSES or not value.startswith("OpaqueRef:"):
        return value
    uuid = client.uuid(cls, value)
    if uuid is None:
        return value
    if "name_label" not in CLASSES[cls].by_name:
        return uuid
    return f"{uuid} ({client.call(f'{cls}.get_name_label', value)})"
