"""Whose allowed_operations depend on which fields of which other objects.

The operation policies (xapi/policy_*.py) look beyond the object that they are asked about. A
client that watches an object must hear of it when their answer may have become another: so a
change of one of these fields counts as a change of the objects at the end of these paths, as
do the coming and going of an object that has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from xapi.datatypes import words


@dataclass(frozen=True, slots=True)
class _Rule:
    fields: frozenset[str]
    paths: tuple[tuple[str, ...], ...]


def _rule(fields: str, *paths: str) -> _Rule:
    return _Rule(frozenset(words(fields)), tuple(tuple(path.split(".")) for path in paths))


_RULES: Final[Mapping[str, tuple[_Rule, ...]]] = {
    "VBD": (
        _rule("currently_attached reserved mode current_operations", "VDI", "VDI.VBDs"),
        _rule("type VDI", "VM"),
    ),
    "VDI": (
        _rule("type managed", "SR"),
        _rule("current_operations managed sharable", "VBDs"),
        _rule("on_boot", "VBDs.VM"),
    ),
    "VM": (_rule("power_state current_operations", "VBDs"),),
    "PBD": (_rule("currently_attached", "SR", "SR.VDIs"),),
}


def paths(cls: str, fields: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The ways to the objects that change with these fields of an object of a class.

    Each way is a sequence of fields, references or inverse ones, to follow from the object.
    """
    for rule in _RULES.get(cls, ()):
        if not rule.fields.isdisjoint(fields):
            yield from rule.paths
