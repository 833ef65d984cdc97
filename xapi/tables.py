"""The database's working set: rows by class and reference, and the ways to find them.

Inverse fields (SR.VDIs, VDI.VBDs, VDI.snapshots ...) are not stored: an index over the
referring fields answers them, in the order of creation. What is written here is noted, so that
the database can make it permanent and tell who watches.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from xapi import affected
from xapi.datamodel import CLASSES
from xapi.datatypes import Ref, Value
from xapi.errors import handle_invalid
from xapi.history import Key

Row: TypeAlias = dict[str, Value]

#: (class, field) of every reference that an inverse field is made from: the inverse's class.
_INDEXED: Final[Mapping[tuple[str, str], str]] = {
    field.inverse: cls.name for cls in CLASSES.values() for field in cls.fields if field.inverse
}


class Tables:
    """All rows. Not safe by itself: the database's lock guards it.

    `touched` are the objects that clients see changed since `settle`, `written` those whose
    rows have to be made permanent.
    """

    def __init__(self) -> None:
        self.touched: dict[Key, None] = {}
        self.written: dict[Key, None] = {}
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in CLASSES}
        self._uuids: dict[tuple[str, str], str] = {}
        self._referrers: dict[tuple[str, str], defaultdict[str, set[str]]] = {
            key: defaultdict(set) for key in _INDEXED
        }
        self._order = itertools.count()
        #: The order of creation, by reference.
        self._created: dict[str, int] = {}

    # -- reading

    def of(self, cls: str) -> Mapping[str, Row]:
        """The rows of a class by reference, in the order of creation."""
        return self._rows[cls]

    def row(self, cls: str, ref: str) -> Row:
        """One row, or HANDLE_INVALID."""
        try:
            return self._rows[cls][ref]
        except KeyError:
            raise handle_invalid(cls, ref) from None

    def exists(self, key: Key) -> bool:
        """Whether there is such an object."""
        return key.ref in self._rows[key.cls]

    def by_uuid(self, cls: str, uuid: str) -> str | None:
        """The reference of the object with this uuid."""
        return self._uuids.get((cls, uuid))

    def referrers(self, inverse: tuple[str, str], ref: str) -> tuple[str, ...]:
        """The objects of a class whose field, `inverse` = (class, field), is `ref`."""
        found = self._referrers[inverse].get(ref, ())
        return tuple(sorted(found, key=self._created.__getitem__))

    # -- writing

    def insert(self, key: Key, row: Row) -> None:
        """Add a row."""
        self._rows[key.cls][key.ref] = row
        self._created.setdefault(key.ref, next(self._order))
        self._uuids[key.cls, str(row["uuid"])] = key.ref
        for name, value in row.items():
            self._link(key, name, value)
        self._note(key, row)

    def delete(self, key: Key) -> None:
        """Remove a row."""
        row = self._rows[key.cls][key.ref]
        self._note(key, row)
        del self._rows[key.cls][key.ref]
        del self._uuids[key.cls, str(row["uuid"])]
        for name, value in row.items():
            self._unlink(key, name, value)

    def restore(self, key: Key, row: Row) -> None:
        """Take a deletion back: the object has its place in the order again."""
        self.insert(key, row)
        rows = self._rows[key.cls]
        order = sorted(rows, key=self._created.__getitem__)
        self._rows[key.cls] = {ref: rows[ref] for ref in order}

    def update(self, key: Key, fields: Mapping[str, Value]) -> None:
        """Write fields of a row."""
        row = self.row(*key)
        self._note(key, fields)
        if "uuid" in fields:
            del self._uuids[key.cls, str(row["uuid"])]
            self._uuids[key.cls, str(fields["uuid"])] = key.ref
        for name, value in fields.items():
            self._unlink(key, name, row[name])
            row[name] = value
            self._link(key, name, value)
        self._note(key, fields)

    def settle(self) -> None:
        """A transaction has ended: forget what it touched, and the places of who is gone."""
        for key in self.touched:
            if not self.exists(key):
                self._created.pop(key.ref, None)
        self.touched.clear()
        self.written.clear()

    def _note(self, key: Key, fields: Iterable[str]) -> None:
        """These fields of an object change: before that, and after."""
        self.touched[key] = None
        if CLASSES[key.cls].durable:
            self.written[key] = None
        for path in affected.paths(key.cls, fields):
            ends = [key]
            for step in path:
                ends = [far for near in ends for far in self._neighbours(near, step)]
            self.touched.update(dict.fromkeys(ends))

    def _neighbours(self, key: Key, name: str) -> list[Key]:
        """Where a reference or an inverse field of an object leads."""
        field = CLASSES[key.cls].by_name[name]
        if field.inverse:
            cls, _ = field.inverse
            return [Key(cls, ref) for ref in self._referrers[field.inverse].get(key.ref, ())]
        if not isinstance(field.type, Ref):
            raise TypeError(f"{key.cls}.{name} leads nowhere")
        far = Key(field.type.cls, str(self.row(*key)[name]))
        return [far] if self.exists(far) else []

    def _link(self, key: Key, name: str, value: Value) -> None:
        if (key.cls, name) in _INDEXED:
            self._referrers[key.cls, name][str(value)].add(key.ref)
            self._touch_owner(key, name, value)

    def _unlink(self, key: Key, name: str, value: Value) -> None:
        if (key.cls, name) in _INDEXED:
            referrers = self._referrers[key.cls, name]
            referrers[str(value)].discard(key.ref)
            if not referrers[str(value)]:
                del referrers[str(value)]
            self._touch_owner(key, name, value)

    def _touch_owner(self, key: Key, name: str, value: Value) -> None:
        """An inverse field of the object that is referred to changes."""
        owner = _INDEXED.get((key.cls, name))
        if owner and str(value) in self._rows[owner]:
            self.touched[Key(owner, str(value))] = None
