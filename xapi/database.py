"""The object database: records by class and reference, under one lock.

The working set is in memory; with a state file every transaction is written through to it
before anybody else can see what it did. Left out are those that mean nothing to the next server:
marks of operations, and how far a task has come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xapi.datamodel import CLASSES
from xapi.datatypes import Value
from xapi.errors import XenAPIError, uuid_invalid
from xapi.history import History, Key
from xapi.store import Store
from xapi.tables import Row, Tables

_DELETIONS = 10_000
#: A server begins so far above what its file knows of: passing changes leave no trace there.
_AHEAD = 1 << 32


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

    `history` tells what happened when. After each transaction, still under `lock`, `listeners`
    are called with the objects that it touched, and `changed` is notified where a client could
    see anything of it.

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
        self.listeners: list[Callable[[Collection[Key]], None]] = []
        self._uuid_source = uuid_source
        self._tables = Tables()
        self._undo: list[Callable[[], None]] | None = None
        self._lasting = True
        #: What the state file uses already.
        self._taken: set[str] = set()
        self._store = Store(state) if state else None
        self.history = History(0, deletions)
        if self._store:
            self._load(self._store, deletions)

    # -- reading

    def exists(self, cls: str, ref: str) -> bool:
        """Whether `ref` names an object of `cls`."""
        with self.lock:
            return self._tables.exists(Key(cls, ref))

    def get(self, cls: str, ref: str, field: str) -> Any:
        """The value of one stored or inverse field."""
        with self.lock:
            row = self._tables.row(cls, ref)
            if field in row:
                return row[field]
            inverse = CLASSES[cls].by_name[field].inverse
            if inverse is None:
                raise KeyError(field)
            return self._tables.referrers(inverse, ref)

    def public(self, cls: str, ref: str) -> dict[str, Value]:
        """The fields that clients may see; those that a policy works out are empty yet."""
        with self.lock:
            row = self._tables.row(cls, ref)
            return {
                field.name: self._tables.referrers(field.inverse, ref)
                if field.inverse
                else row.get(field.name, ())
                for field in CLASSES[cls].public
            }

    def refs(self, cls: str) -> tuple[str, ...]:
        """All objects of a class, in the order of their creation."""
        with self.lock:
            return tuple(self._tables.of(cls))

    def find(self, cls: str, /, **fields: Value) -> tuple[str, ...]:
        """The objects of a class whose stored fields have all these values."""
        with self.lock:
            return tuple(
                ref
                for ref, row in self._tables.of(cls).items()
                if all(row[name] == value for name, value in fields.items())
            )

    def by_uuid(self, cls: str, uuid: str) -> str:
        """The reference of the object with this uuid."""
        with self.lock:
            ref = self._tables.by_uuid(cls, uuid)
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
        row: Row = {"uuid": fields.pop("uuid", "") or self.new_uuid()}
        for field in CLASSES[cls].fields:
            if field.stored and field.name != "uuid":
                row[field.name] = fields.pop(field.name, field.initial)
        if fields:
            raise KeyError(f"{cls} has no stored field {next(iter(fields))}")
        key = Key(cls, ref)
        with self.transaction() as undo:
            self._check_uuid(cls, str(row["uuid"]))
            self._tables.insert(key, row)
            undo.append(lambda: self._tables.delete(key))
        return ref

    def destroy(self, cls: str, ref: str, /) -> None:
        """Remove an object."""
        key = Key(cls, ref)
        with self.transaction() as undo:
            row = self._tables.row(cls, ref)
            self._tables.delete(key)
            undo.append(lambda: self._tables.restore(key, row))

    def put(self, cls: str, ref: str, /, **fields: Value) -> None:
        """Write stored fields of an object.

        Raises:
            XenAPIError: DB_UNIQUENESS_CONSTRAINT_VIOLATION, a new uuid is taken.
        """
        key = Key(cls, ref)
        with self.transaction() as undo:
            row = self._tables.row(cls, ref)
            before = {name: row[name] for name in fields if row[name] != fields[name]}
            if "uuid" in before:
                self._check_uuid(cls, str(fields["uuid"]))
            if before:
                self._tables.update(key, {name: fields[name] for name in before})
                undo.append(lambda: self._tables.update(key, before))

    def touch(self, cls: str, ref: str, /) -> int:
        """Let those who watch the object look again; return the generation before that."""
        with self.transaction():
            self._tables.row(cls, ref)
            self._tables.touched[Key(cls, ref)] = None
            return self.history.generation

    @contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[list[Callable[[], None]]]:
        """All writes in the block, or none of them if an exception leaves it.

        It holds the lock: no call to a driver belongs in here. A block inside a block is a part
        of the outer one. What it yields takes the writes back, the last one first.

        Not `lasting`: what it writes means nothing to the next server (host.populate clears it
        away), so it needs no file, and no file can make it fail.

        Raises:
            StateError: the state file cannot be written; nothing has changed.
        """
        with self.lock:
            if self._undo is not None:
                yield self._undo
                return
            self._undo, self._lasting = [], lasting
            try:
                yield self._undo
                self._commit()
            except BaseException:
                for undo in reversed(self._undo):
                    undo()
                raise
            finally:
                self._undo = None
                self._tables.settle()

    def copy(self, classes: Iterable[str]) -> dict[Key, Row]:
        """The stored fields of every object of some classes, as they are now."""
        with self.lock:
            return {
                Key(cls, ref): dict(row)
                for cls in classes
                for ref, row in self._tables.of(cls).items()
            }

    def put_back(self, classes: Iterable[str], rows: Mapping[Key, Row]) -> None:
        """Make the objects of some classes those of a `copy`, and let nobody work on them."""
        with self.transaction():
            for cls in classes:
                for ref in [*self._tables.of(cls)]:
                    self.destroy(cls, ref)
            for (cls, ref), row in rows.items():
                self.create_as(cls, ref, **row)
                if "current_operations" in row:
                    self.put(cls, ref, current_operations={})

    def close(self) -> None:
        """Let go of the state file."""
        with self.lock:
            if self._store:
                self._store.close()

    # -- inside, lock held

    def _check_uuid(self, cls: str, uuid: str) -> None:
        if self._tables.by_uuid(cls, uuid):
            raise XenAPIError("DB_UNIQUENESS_CONSTRAINT_VIOLATION", (cls, "uuid", uuid))

    def _load(self, store: Store, deletions: int) -> None:
        """Read the file. Who remembers a generation from before must look at everything anew."""
        generation, rows = store.load()
        for key, row in rows:
            self._tables.insert(key, row)
            self._taken.update((str(row["uuid"]), key.ref.removeprefix("OpaqueRef:")))
        self.history = History(generation + _AHEAD, deletions)
        self.history.record(self._tables.touched, self._tables.exists)
        store.commit(self.history.generation, (), ())
        self._tables.settle()

    def _commit(self) -> None:
        """Write the file, which is the commit point; then tell those who wait for changes."""
        tables, exists = self._tables, self._tables.exists
        visible = [key for key in tables.touched if CLASSES[key.cls].evented]
        if self._store and self._lasting and (visible or tables.written):
            self._store.commit(
                self.history.generation + bool(visible),
                [(key, tables.row(*key)) for key in tables.written if exists(key)],
                [key for key in tables.written if not exists(key)],
            )
        if visible:
            self.history.record(visible, exists)
            self.changed.notify_all()
        if tables.touched:
            for listener in self.listeners:
                listener(tables.touched)
