"""How the data model is written down: classes and fields as data.

Who may write a field is its qualifier (the words of the XenAPI reference):

    STATIC_RO   given to the constructor, no generated setter
    DYNAMIC_RO  owned by the server
    RW          given to the constructor, and set_*, add_to_*, remove_from_* are generated
    INTERNAL    kept in the database, but not part of the API
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from xapi.datatypes import Basic, MapOf, Ref, SetOf, Type, Value, empty, words

#: Prefixes of field names that are namespaces in the XenAPI's data model.
_NAMESPACE: Final = re.compile("(name|memory|VCPUs|actions|PV(?!_drivers)|HVM|API_version|qos)_")


class Qualifier(Enum):
    """Who may write a field; the value is how `xe` shows it."""

    STATIC_RO = "SRO"
    DYNAMIC_RO = "RO"
    RW = "RW"
    INTERNAL = "internal"


class _Required:
    """The mark of a field without a default: the constructor's struct must carry it."""


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a class.

    `inverse` = (class, field): not stored, but the set of the objects of that class whose
    field refers to this object. `computed`: not stored, the operation policy works it out.
    `custom_setter`: clients may set it, by a message that does more than write the field.
    `generated_setter`: a StaticRO field whose mutators are generated like those of a RW one.
    """

    name: str
    type: Type
    qualifier: Qualifier
    default: Value | _Required
    inverse: tuple[str, str] | None = None
    computed: bool = False
    custom_setter: bool = False
    generated_setter: bool = False

    @property
    def stored(self) -> bool:
        """Whether the database holds a value for it."""
        return self.inverse is None and not self.computed

    @property
    def required(self) -> bool:
        """Whether a constructor's struct must carry it."""
        return isinstance(self.default, _Required)

    @property
    def initial(self) -> Value:
        """The value of the field in an object that was made without one."""
        return empty(self.type) if isinstance(self.default, _Required) else self.default

    @property
    def settable(self) -> bool:
        """Whether any client may set it."""
        return self.custom_setter or self.mutable

    @property
    def mutable(self) -> bool:
        """Whether set_*, add_to_* and their kin are generated."""
        return self.generated_setter or self.qualifier is Qualifier.RW

    @property
    def constructed(self) -> bool:
        """Whether a constructor takes it from the client's struct."""
        return self.qualifier in (Qualifier.STATIC_RO, Qualifier.RW)

    @property
    def column(self) -> str:
        """The name in queries and in VM.snapshot_metadata: a namespace ends in two underscores."""
        return _NAMESPACE.sub(r"\1__", self.name, count=1)


@dataclass(frozen=True)
class Class:
    """One class.

    `listed`: its objects can be enumerated (get_all and its kin).
    `constructed`: `create` and `destroy` are generated.
    `evented`: clients can watch its objects.
    `durable`: its objects survive the server.
    """

    name: str
    fields: tuple[Field, ...]
    listed: bool = True
    constructed: bool = False
    evented: bool = True
    durable: bool = True

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}

    @cached_property
    def public(self) -> tuple[Field, ...]:
        """The fields of a record."""
        return tuple(f for f in self.fields if f.qualifier is not Qualifier.INTERNAL)

    @cached_property
    def computed(self) -> tuple[Field, ...]:
        """The fields of a record that the operation policy works out."""
        return tuple(field for field in self.fields if field.computed)


def static(
    name: str,
    type_: Type,
    default: Value | _Required = REQUIRED,
    *,
    custom_setter: bool = False,
    generated_setter: bool = False,
) -> Field:
    """A StaticRO field; without a default the constructor needs it."""
    return Field(
        name,
        type_,
        Qualifier.STATIC_RO,
        default,
        custom_setter=custom_setter,
        generated_setter=generated_setter,
    )


def renamable() -> tuple[Field, Field]:
    """name_label and name_description of a class whose drivers want to know of a change."""
    return (
        static("name_label", Basic.STRING, "", custom_setter=True),
        static("name_description", Basic.STRING, "", custom_setter=True),
    )


def server(name: str, type_: Type, default: Value | None = None) -> Field:
    """A DynamicRO field: the server owns it."""
    return Field(name, type_, Qualifier.DYNAMIC_RO, empty(type_) if default is None else default)


def writable(name: str, type_: Type, default: Value | _Required = REQUIRED) -> Field:
    """A RW field; without a default the constructor needs it."""
    return Field(name, type_, Qualifier.RW, default)


def internal(name: str, type_: Type) -> Field:
    """A field that only the server sees."""
    return Field(name, type_, Qualifier.INTERNAL, empty(type_))


def each(names: str, make: Callable[[str], Field]) -> tuple[Field, ...]:
    """Fields that differ by nothing but their names."""
    return tuple(make(name) for name in words(names))


def inverse(name: str, cls: str, ref_field: str) -> Field:
    """All objects of `cls` whose `ref_field` is this object."""
    return Field(name, SetOf(Ref(cls)), Qualifier.DYNAMIC_RO, (), inverse=(cls, ref_field))


def operations(operation: Type) -> tuple[Field, Field]:
    """The two fields of every class that has an operation policy."""
    return (
        Field("allowed_operations", SetOf(operation), Qualifier.DYNAMIC_RO, (), computed=True),
        server("current_operations", MapOf(Ref("task"), operation)),
    )


UUID = server("uuid", Basic.STRING)
