"""The object database: records by class and reference, in memory, under one lock.

Its interface is small on purpose, so that a database on disk can take its place: `create`,
`destroy`, `get`, `put`, `exists`, `refs`, `find`, `by_uuid` and `transaction`. Inverse fields
(SR.VDIs, VDI.VBDs, VDI.snapshots ...) are not stored: an index over the referring fields
answers them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xapi.datamodel import CLASSES
from xapi.datatypes import Value
from xapi.errors import XenAPIError, handle_invalid, uuid_invalid

_Row = dict[str, Value]
_Key = tuple[str, str]

#: (class, field) of every reference that an inverse field is made from.
_INDEXED: frozenset[_Key] = frozenset(
    field.inverse for cls in CLASSES.values() for field in cls.fields if field.inverse
)


class Database:
    """Objects of the data model. Every method may be called from any thread.

    Values are typed as the data model says; they are returned as they are stored and must not
    be changed in place. A reference or a uuid that is not there raises the XenAPI's own
    HANDLE_INVALID or UUID_INVALID.
    """

    def __init__(self, uuid_source: Callable[[], str]) -> None:
        self.lock = threading.RLock()
        self._uuid_source = uuid_source
        self._tables: dict[str, dict[str, _Row]] = {name: {} for name in CLASSES}
        self._uuids: dict[_Key, str] = {}
        self._referrers: dict[_Key, dict[str, dict[str, None]]] = {key: {} for key in _INDEXED}
        self._undo: list[Callable[[], None]] | None = None

    # -- reading

    def exists(self, cls: str, ref: str) -> bool:
        """Whether `ref` names an object of `cls`."""
        return ref in self._tables[cls]

    def get(self, cls: str, ref: str, field: str) -> Any:
        """The value of one stored or inverse field."""
        declared = CLASSES[cls].by_name[field]
        with self.lock:
            row = self._row(cls, ref)
            return self._inverse(declared.inverse, ref) if declared.inverse else row[field]

    def refs(self, cls: str) -> tuple[str, ...]:
        """All objects of a class, in the order of their creation."""
        with self.lock:
            return tuple(self._tables[cls])

    def find(self, cls: str, /, **fields: Value) -> tuple[str, ...]:
        """The objects of a class whose stored fields have all these values."""
        with self.lock:
            return tuple(
                ref
                for ref, row in self._tables[cls].items()
                if all(row[name] == value for name, value in fields.items())
            )

    def by_uuid(self, cls: str, uuid: str) -> str:
        """The reference of the object with this uuid."""
        ref = self._uuids.get((cls, uuid))
        if ref is None:
            raise uuid_invalid(cls, uuid)
        return ref

    # -- writing

    def new_uuid(self) -> str:
        """A uuid that no object has."""
        with self.lock:
            return self._uuid_source()

    def new_ref(self) -> str:
        """A reference that no object has. It has nothing to do with any uuid."""
        return f"OpaqueRef:{self.new_uuid()}"

    def create(self, cls: str, /, **fields: Value) -> str:
        """Add an object and return its reference; a field that is not given has its default.

        Raises:
            XenAPIError: DB_UNIQUENESS_CONSTRAINT_VIOLATION, the uuid is taken.
        """
        return self.create_as(cls, self.new_ref(), **fields)

    def create_as(self, cls: str, ref: str, /, **fields: Value) -> str:
        """`create` with a reference that the caller got from `new_ref`."""
        row: _Row = {"uuid": fields.pop("uuid", "") or self.new_uuid()}
        for field in CLASSES[cls].fields:
            if field.stored and field.name != "uuid":
                row[field.name] = fields.pop(field.name, field.initial)
        if fields:
            raise KeyError(f"{cls} has no stored field {next(iter(fields))}")
        with self.lock:
            self._check_uuid(cls, str(row["uuid"]))
            self._insert(cls, ref, row)
            self._on_rollback(lambda: self._delete(cls, ref))
        return ref

    def destroy(self, cls: str, ref: str, /) -> None:
        """Remove an object."""
        with self.lock:
            row = self._row(cls, ref)
            self._delete(cls, ref)
            self._on_rollback(lambda: self._insert(cls, ref, row))

    def put(self, cls: str, ref: str, /, **fields: Value) -> None:
        """Write stored fields of an object."""
        with self.lock:
            row = self._row(cls, ref)
            before = {name: row[name] for name in fields}
            self._update(cls, ref, fields)
            self._on_rollback(lambda: self._update(cls, ref, before))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes in the block, or none of them if an exception leaves it.

        It holds the lock: no call to a driver belongs in here. A block inside a block is a part
        of the outer one.
        """
        with self.lock:
            if self._undo is not None:
                yield
                return
            self._undo = []
            try:
                yield
            except BaseException:
                for undo in reversed(self._undo):
                    undo()
                raise
            finally:
                self._undo = None

    # -- inside, lock held

    def _on_rollback(self, undo: Callable[[], None]) -> None:
        if self._undo is not None:
            self._undo.append(undo)

    def _row(self, cls: str, ref: str) -> _Row:
        try:
            return self._tables[cls][ref]
        except KeyError:
            raise handle_invalid(cls, ref) from None

    def _check_uuid(self, cls: str, uuid: str) -> None:
        if (cls, uuid) in self._uuids:
            raise XenAPIError("DB_UNIQUENESS_CONSTRAINT_VIOLATION", (cls, "uuid", uuid))

    def _inverse(self, key: _Key, ref: str) -> tuple[str, ...]:
        return tuple(self._referrers[key].get(ref, ()))

    def _insert(self, cls: str, ref: str, row: _Row) -> None:
        self._tables[cls][ref] = row
        self._uuids[cls, str(row["uuid"])] = ref
        for name, value in row.items():
            self._link(cls, ref, name, value)

    def _delete(self, cls: str, ref: str) -> None:
        row = self._tables[cls].pop(ref)
        self._uuids.pop((cls, str(row["uuid"])), None)
        for name, value in row.items():
            self._unlink(cls, ref, name, value)

    def _update(self, cls: str, ref: str, fields: Mapping[str, Value]) -> None:
        row = self._tables[cls][ref]
        for name, value in fields.items():
            self._unlink(cls, ref, name, row[name])
            row[name] = value
            self._link(cls, ref, name, value)

    def _link(self, cls: str, ref: str, name: str, value: Value) -> None:
        if (cls, name) in _INDEXED:
            self._referrers[cls, name].setdefault(str(value), {})[ref] = None

    def _unlink(self, cls: str, ref: str, name: str, value: Value) -> None:
        if (cls, name) in _INDEXED:
            self._referrers[cls, name][str(value)].pop(ref, None)
