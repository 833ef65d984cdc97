"""The object database: records by class and reference, under one lock.

The working set is in memory; with a state file every transaction is written through to it
before anybody else can see what it did. Inverse fields (SR.VDIs, VDI.VBDs, VDI.snapshots ...)
are not stored: an index over the referring fields answers them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xapi.datamodel import CLASSES
from xapi.datatypes import Value
from xapi.errors import XenAPIError, handle_invalid, uuid_invalid
from xapi.history import History, Key
from xapi.store import Store

_Row = dict[str, Value]

#: (class, field) of every reference that an inverse field is made from: the inverse's class.
_INDEXED: Mapping[tuple[str, str], str] = {
    field.inverse: cls.name for cls in CLASSES.values() for field in cls.fields if field.inverse
}
#: Where these change, so may the allowed_operations of the objects referred to.
_LOOKED_AT = frozenset({"currently_attached", "reserved", "current_operations"})
_DELETIONS = 10_000


class Database:
    """Objects of the data model. Every method may be called from any thread.

    Values are typed as the data model says; they are returned as they are stored and must not
    be changed in place. A reference or a uuid that is not there raises the XenAPI's own
    HANDLE_INVALID or UUID_INVALID.

    Args:
        uuid_source: where uuids and references come from; it must never repeat itself, but
            may say again what an earlier process has used.
        state: the file that keeps the objects; None: they end with the process.
        deletions: how many deletions the history remembers.

    `history` tells what happened when. `changed` is notified after each change that it
    recorded and each end of a session, under `lock`.

    Raises:
        StateError: the state file cannot be used.
    """

    def __init__(
        self,
        uuid_source: Callable[[], str],
        state: Path | None = None,
        *,
        deletions: int = _DELETIONS,
    ) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._uuid_source = uuid_source
        self._tables: dict[str, dict[str, _Row]] = {name: {} for name in CLASSES}
        self._uuids: dict[tuple[str, str], str] = {}
        self._referrers: dict[tuple[str, str], dict[str, dict[str, None]]] = {
            key: {} for key in _INDEXED
        }
        self._undo: list[Callable[[], None]] | None = None
        self._written: dict[Key, None] = {}
        self._touched: dict[Key, None] = {}
        #: What the state file uses already.
        self._taken: set[str] = set()
        self._store = Store(state) if state else None
        self.history = History(0, deletions)
        if self._store:
            self._load(self._store, deletions)

    # -- reading

    def exists(self, cls: str, ref: str) -> bool:
        """Whether `ref` names an object of `cls`."""
        return ref in self._tables[cls]

    def get(self, cls: str, ref: str, field: str) -> Any:
        """The value of one stored or inverse field."""
        with self.lock:
            row = self._row(cls, ref)
            if field in row:
                return row[field]
            inverse = CLASSES[cls].by_name[field].inverse
            if inverse is None:
                raise KeyError(field)
            return self._inverse(inverse, ref)

    def public(self, cls: str, ref: str) -> dict[str, Value]:
        """The fields that clients may see; those that a policy works out are empty yet."""
        with self.lock:
            row = self._row(cls, ref)
            return {
                field.name: self._inverse(field.inverse, ref)
                if field.inverse
                else row.get(field.name, ())
                for field in CLASSES[cls].public
            }

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
            while (fresh := self._uuid_source()) in self._taken:
                pass
            return fresh

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
        with self.transaction() as undo:
            self._check_uuid(cls, str(row["uuid"]))
            self._insert(Key(cls, ref), row)
            undo.append(lambda: self._delete(Key(cls, ref)))
        return ref

    def destroy(self, cls: str, ref: str, /) -> None:
        """Remove an object."""
        with self.transaction() as undo:
            row = self._row(cls, ref)
            self._delete(Key(cls, ref))
            undo.append(lambda: self._insert(Key(cls, ref), row))

    def put(self, cls: str, ref: str, /, **fields: Value) -> None:
        """Write stored fields of an object."""
        with self.transaction() as undo:
            row = self._row(cls, ref)
            before = {name: row[name] for name in fields if row[name] != fields[name]}
            if before:
                self._update(Key(cls, ref), {name: fields[name] for name in before})
                undo.append(lambda: self._update(Key(cls, ref), before))

    def touch(self, cls: str, ref: str, /) -> int:
        """Let those who watch the object look again; return the generation before that."""
        with self.transaction():
            self._row(cls, ref)
            self._touched[Key(cls, ref)] = None
            return self.history.generation

    @contextmanager
    def transaction(self) -> Iterator[list[Callable[[], None]]]:
        """All writes in the block, or none of them if an exception leaves it.

        It holds the lock: no call to a driver belongs in here. A block inside a block is a part
        of the outer one.
        """
        with self.lock:
            if self._undo is not None:
                yield self._undo
                return
            self._undo = []
            try:
                yield self._undo
                self._commit()
            except BaseException:
                for undo in reversed(self._undo):
                    undo()
                raise
            finally:
                self._undo = None
                self._written.clear()
                self._touched.clear()

    def close(self) -> None:
        """Let go of the state file."""
        with self.lock:
            if self._store:
                self._store.close()

    # -- inside, lock held

    def _load(self, store: Store, deletions: int) -> None:
        """Read the file. Who remembers a generation from before must look at everything anew."""
        generation, rows = store.load()
        for key, row in rows:
            self._insert(key, row)
            self._taken.update((str(row["uuid"]), key.ref.removeprefix("OpaqueRef:")))
        self.history = History(generation + 1, deletions)
        self.history.record(self._touched, self._exists)
        store.commit(self.history.generation, (), ())
        self._written.clear()
        self._touched.clear()

    def _commit(self) -> None:
        """Write the file, which is the commit point; then tell those who wait for changes."""
        visible = [key for key in self._touched if CLASSES[key.cls].evented]
        if self._store and (visible or self._written):
            self._store.commit(
                self.history.generation + bool(visible),
                [(key, self._row(*key)) for key in self._written if self._exists(key)],
                [key for key in self._written if not self._exists(key)],
            )
        if visible:
            self.history.record(visible, self._exists)
        if visible or not all(map(self._exists, self._touched)):
            self.changed.notify_all()

    def _exists(self, key: Key) -> bool:
        return key.ref in self._tables[key.cls]

    def _row(self, cls: str, ref: str) -> _Row:
        try:
            return self._tables[cls][ref]
        except KeyError:
            raise handle_invalid(cls, ref) from None

    def _check_uuid(self, cls: str, uuid: str) -> None:
        if (cls, uuid) in self._uuids:
            raise XenAPIError("DB_UNIQUENESS_CONSTRAINT_VIOLATION", (cls, "uuid", uuid))

    def _inverse(self, key: tuple[str, str], ref: str) -> tuple[str, ...]:
        return tuple(self._referrers[key].get(ref, ()))

    def _insert(self, key: Key, row: _Row) -> None:
        self._tables[key.cls][key.ref] = row
        self._uuids[key.cls, str(row["uuid"])] = key.ref
        self._note(key)
        for name, value in row.items():
            self._link(key, name, value)

    def _delete(self, key: Key) -> None:
        row = self._tables[key.cls].pop(key.ref)
        self._uuids.pop((key.cls, str(row["uuid"])), None)
        self._note(key)
        for name, value in row.items():
            self._unlink(key, name, value)

    def _update(self, key: Key, fields: Mapping[str, Value]) -> None:
        row = self._row(*key)
        self._note(key)
        for name, value in fields.items():
            self._unlink(key, name, row[name])
            row[name] = value
            self._link(key, name, value)
        if not _LOOKED_AT.isdisjoint(fields):
            for name, value in row.items():
                self._touch_owner(key, name, value)

    def _note(self, key: Key) -> None:
        self._touched[key] = None
        if CLASSES[key.cls].durable:
            self._written[key] = None

    def _link(self, key: Key, name: str, value: Value) -> None:
        if (key.cls, name) in _INDEXED:
            self._referrers[key.cls, name].setdefault(str(value), {})[key.ref] = None
            self._touch_owner(key, name, value)

    def _unlink(self, key: Key, name: str, value: Value) -> None:
        if (key.cls, name) in _INDEXED:
            self._referrers[key.cls, name][str(value)].pop(key.ref, None)
            self._touch_owner(key, name, value)

    def _touch_owner(self, key: Key, name: str, value: Value) -> None:
        """An inverse field of the object that is referred to changed, or what its policy sees."""
        owner = _INDEXED.get((key.cls, name))
        if owner and str(value) in self._tables[owner]:
            self._touched[Key(owner, str(value))] = None
