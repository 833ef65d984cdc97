"""How `xe` shows records, values and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, Basic, MapOf, Ref, SetOf, Type
from xapi.errors import CODES
from xapi.fields import Class, Field
from xapi.xe_client import ApiFailure, Client

#: What stands for a reference to nothing.
NOT_THERE = "<not in database>"
#: The class that a parameter of an error refers to, by the parameter's name.
_REFERS_TO = {name.lower(): name for name in CLASSES} | {
    "handle": "",
    "object": "",
    "ref": "VBD",
    "snapshot": "VM",
}


#: Columns that are not called like their fields.
_RENAMED = {
    ("VDI", "VBDs"): "vbd-uuids",
    ("VDI", "crash_dumps"): "crashdump-uuids",
    ("network", "VIFs"): "VIF-uuids",
    ("network", "PIFs"): "PIF-uuids",
}
_KINDS = {SetOf: "S", MapOf: "M"}
_DEPRECATED = {("VDI", "parent"), ("SM", "capabilities")}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a class: its name, the field it shows, and how.

    `show` gets the field's value and the whole record.
    """

    name: str
    field: Field
    show: Callable[[Client, object, Mapping[str, object]], str]
    deprecated: bool = False

    @property
    def heading(self) -> str:
        """The name with its kind and who may write it: `name-label ( RW)`."""
        kind = " " if self.name == "host" else _KINDS.get(type(self.field.type), " ")
        text = f"{self.name} ({kind}{'RW' if self.field.settable else 'RO'})"
        return f"{text} [DEPRECATED]" if self.deprecated else text


def columns(cls: Class) -> dict[str, Column]:
    """All columns of a class by name, in the order of its fields."""
    found: dict[str, Column] = {}
    for field in cls.public:
        for column in _columns_of(cls, field):
            found[column.name] = column
    return found


_Shower = Callable[[Client, object, Mapping[str, object]], str]


def _columns_of(cls: Class, field: Field) -> Iterable[Column]:
    name = _RENAMED.get((cls.name, field.name), field.name.replace("_", "-"))
    if isinstance(field.type, Ref) and field.type.cls.lower() == field.name.lower():
        # A field that is named like the class it refers to: VBD.VDI shows as vdi-uuid.
        yield Column(f"{name.lower()}-uuid", field, _shower(field.type))
        if "name_label" in _fields(field.type.cls):
            yield Column(f"{name.lower()}-name-label", field, _name_shower(field.type.cls))
        return
    if (cls.name, field.name) == ("SR", "PBDs"):
        yield Column("host", field, _host_of_sr)
    lowered = (cls.name, field.name) == ("VM", "power_state")
    show_it = _lower if lowered else _shower(field.type)
    yield Column(name, field, show_it, (cls.name, field.name) in _DEPRECATED)


def _fields(cls: str) -> Mapping[str, Field]:
    return CLASSES[cls].by_name if cls in CLASSES else {}


def _shower(type_: Type) -> _Shower:
    return lambda client, value, _: show(client, type_, value)


def _lower(_client: Client, value: object, _record: Mapping[str, object]) -> str:
    return str(value).lower()


def _name_shower(cls: str) -> _Shower:
    return lambda client, ref, _: client.name(cls, str(ref)) or NOT_THERE


def _host_of_sr(client: Client, pbds: object, record: Mapping[str, object]) -> str:
    """The name of the host that has the SR, or that several may have it."""
    if record["shared"]:
        return "<shared>"
    if not isinstance(pbds, list) or not pbds:
        return NOT_THERE
    return client.name("host", str(client.call("PBD.get_host", pbds[0]))) or NOT_THERE


def show(client: Client, type_: Type, value: object) -> str:
    """A value from the wire as text: refs as uuids, sets as `a; b`, maps as `k: v; k: v`."""
    if isinstance(type_, Ref):
        if type_.cls not in CLASSES or value == NULL:
            return NOT_THERE
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


def record_lines(
    client: Client, shown: Sequence[Column], record: Mapping[str, object]
) -> Iterable[str]:
    """A record, one line for each column, the colons under each other."""
    headings = [column.heading for column in shown]
    width = max(map(len, headings))
    for index, (column, title) in enumerate(zip(shown, headings, strict=True)):
        padded = title.rjust(width) if index else title.ljust(width)
        yield f"{padded}: {column.show(client, record[column.field.name], record)}"


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
    name = client.name(cls, value) if "name_label" in CLASSES[cls].by_name else None
    return uuid if name is None else f"{uuid} ({name})"
