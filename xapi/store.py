"""The database's file: SQLite, one row for each object, one SQLite transaction for each of ours.

    object(ref, class, fields)    fields: JSON, by name; the rows are in the order of creation
    state(generation)             one row

Sets are lists there, and datetimes text of ISO 8601. A field that the data model has since
got has its default; one that it has lost is passed over.

    Exception
    └── StateError   the file cannot be used
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from xapi.datamodel import CLASSES
from xapi.datatypes import Basic, MapOf, SetOf, Type, Value
from xapi.history import Key

#: "srtb": tells our files from other programs'.
_APPLICATION: Final = 0x73727462
_VERSION: Final = 1
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE object(ref TEXT PRIMARY KEY, class TEXT NOT NULL, fields TEXT NOT NULL) STRICT;
CREATE TABLE state(generation INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (0);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_WRITE: Final = """
INSERT INTO object(ref, class, fields) VALUES (?, ?, ?)
ON CONFLICT(ref) DO UPDATE SET fields = excluded.fields
"""


class StateError(Exception):
    """The state file cannot be used; `reason` says why and `hint` what to do."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}: {hint}")
        self.path = path
        self.reason = reason
        self.hint = hint


class Store:
    """The file of one server, which no other may open at the same time.

    Raises:
        StateError: the file is no database of ours, of another version, or in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # The database's lock lets one thread in at a time.
            self._file = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._open()
        except sqlite3.Error as error:
            raise StateError(
                path, str(error), "end the server that uses it, or name another file"
            ) from error

    def _open(self) -> None:
        execute = self._file.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        if not execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            self._file.executescript(_SCHEMA)
        [application] = execute("PRAGMA application_id").fetchone()
        [version] = execute("PRAGMA user_version").fetchone()
        if (application, version) != (_APPLICATION, _VERSION):
            self.close()
            raise StateError(self._path, "no state of this version", "name another file")
        # What was committed is in the file as the kernel has it, so the end of this process,
        # kill -9 included, takes nothing away. A power cut of the machine may take the last
        # commits, but never a part of one: the log is synchronized before it is merged.
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")

    def load(self) -> tuple[int, Iterator[tuple[Key, dict[str, Value]]]]:
        """The generation, and every object with its stored fields."""
        [generation] = self._file.execute("SELECT generation FROM state").fetchone()
        rows = self._file.execute("SELECT class, ref, fields FROM object ORDER BY rowid")
        return generation, ((Key(cls, ref), thaw(cls, fields)) for cls, ref, fields in rows)

    def commit(
        self,
        generation: int,
        written: Iterable[tuple[Key, Mapping[str, Value]]],
        deleted: Iterable[Key],
    ) -> None:
        """Make the changes of one transaction permanent, all or none.

        Raises:
            StateError: the file cannot be written.
        """
        try:
            with self._file:  # Its end is the commit point of a transaction of the database.
                self._write(generation, written, deleted)
        except sqlite3.Error as error:
            hint = "make room on its file system, then repeat the call"
            raise StateError(self._path, str(error), hint) from error

    def _write(
        self,
        generation: int,
        written: Iterable[tuple[Key, Mapping[str, Value]]],
        deleted: Iterable[Key],
    ) -> None:
        execute = self._file.execute
        execute("BEGIN")
        for (cls, ref), row in written:
            execute(_WRITE, (ref, cls, freeze(row)))
        for _, ref in deleted:
            execute("DELETE FROM object WHERE ref = ?", (ref,))
        execute("UPDATE state SET generation = ?", (generation,))

    def close(self) -> None:
        """Let another server have the file."""
        self._file.close()


def freeze(row: Mapping[str, Value]) -> str:
    """An object's stored fields as text."""
    return json.dumps(row, default=datetime.isoformat)


def thaw(cls: str, fields: str) -> dict[str, Value]:
    """The stored fields of an object of a class, from text."""
    saved: Mapping[str, Any] = json.loads(fields)
    declared = CLASSES[cls].fields
    return {
        field.name: _value(field.type, saved[field.name]) if field.name in saved else field.initial
        for field in declared
        if field.stored
    }


def _value(type_: Type, saved: Any) -> Value:
    if isinstance(type_, SetOf):
        return tuple(_value(type_.item, item) for item in saved)
    if isinstance(type_, MapOf):
        return {key: _value(type_.value, item) for key, item in saved.items()}
    value: Value = datetime.fromisoformat(saved) if type_ is Basic.DATETIME else saved
    return value
