"""The types and values of the XenAPI.

A type is data (`Basic.INT`, `Ref("VDI")`, `MapOf(Basic.STRING, Basic.STRING)` ...), a value is
plain Python:

    string, enum, ref, uuid   str          set      tuple
    int (64 bit), float       int, float   map      Mapping
    bool                      bool         record   Mapping of field name to value
    datetime                  datetime, always with a time zone
    void                      ""

Values are never changed in place: who wants another map or set makes a new one. So a value
may be handed out, kept and compared without copying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, TypeAlias

Value: TypeAlias = str | int | float | bool | datetime | tuple["Value", ...] | Mapping[str, "Value"]
Record: TypeAlias = Mapping[str, Value]


class Int32(int):
    """One of the few numbers that travel as a real XML-RPC int, not as text."""


NULL: Final = "OpaqueRef:NULL"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Basic(Enum):
    """Types without parts."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an object of class `cls`, or `NULL`."""

    cls: str


@dataclass(frozen=True, slots=True)
class Enumeration:
    """One of a few words."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetOf:
    """Values of one type, in the order in which they came."""

    item: Type


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map; on the wire its keys are always text."""

    key: Type
    value: Type


@dataclass(frozen=True, slots=True)
class RecordOf:
    """A struct with the fields of class `cls`: what a constructor takes and get_record gives."""

    cls: str


Type: TypeAlias = Basic | Ref | Enumeration | SetOf | MapOf | RecordOf

STRINGS: Final = SetOf(Basic.STRING)
STRING_MAP: Final = MapOf(Basic.STRING, Basic.STRING)


def words(text: str) -> tuple[str, ...]:
    """The words of a text: how long lists of names are written down."""
    return tuple(text.split())


def empty(type_: Type) -> Value:
    """The value that a field of this type has when nobody gave one."""
    if isinstance(type_, Basic):
        return _EMPTY[type_]
    if isinstance(type_, Ref):
        return NULL
    if isinstance(type_, Enumeration):
        return type_.members[0]
    return () if isinstance(type_, SetOf) else {}


_EMPTY: Final[dict[Basic, Value]] = {
    Basic.STRING: "",
    Basic.INT: 0,
    Basic.FLOAT: 0.0,
    Basic.BOOL: False,
    Basic.DATETIME: EPOCH,
    Basic.VOID: "",
}
