"""The database: indexes that never lie, and changes that happen all or not at all."""

from __future__ import annotations

import itertools
import resource
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xapi.database import Database
from xapi.datamodel import CLASSES
from xapi.datatypes import Value
from xapi.errors import XenAPIError
from xapi.history import Change, Key
from xapi.store import StateError


def database(state: Path | None = None) -> Database:
    numbers = itertools.count()
    return Database(lambda: str(next(numbers)), state, deletions=5)


class Interrupted(Exception):
    pass


class Model(RuleBasedStateMachine):
    """VDIs and VBDs that refer to each other, against a plain dictionary.

    The database is ended and opened again at any moment, and all that happened since any
    remembered moment must be in its history.
    """

    @initialize()
    def start(self) -> None:
        self.directory = TemporaryDirectory()
        self.state = Path(self.directory.name, "state.db")
        self.db = database(self.state)
        self.sr = self.db.create("SR")
        self.vdis: dict[str, str] = {}
        self.vbds: dict[str, str] = {}
        self.remembered: dict[int, dict[str, str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.directory.cleanup()

    @rule()
    def restart(self) -> None:
        before = self.db.history.generation
        everything = self.everything()
        self.db.close()
        self.db = database(self.state)
        assert self.everything() == everything
        assert self.db.history.generation > before
        assert not self.db.history.known_since(before)
        self.remembered.clear()

    @rule()
    def remember(self) -> None:
        self.remembered[self.db.history.generation] = self.vdis | self.vbds

    def everything(self) -> list[object]:
        return [
            (cls, ref, field.name, self.db.get(cls, ref, field.name))
            for cls in ("SR", "VDI", "VBD")
            for ref in self.db.refs(cls)
            for field in CLASSES[cls].fields
            if not field.computed
        ]

    @invariant()
    def history_tells_what_happened(self) -> None:
        for generation, then in getattr(self, "remembered", {}).items():
            if not self.db.history.known_since(generation):
                continue
            changes = [
                change
                for change in self.db.history.since(generation)
                if change.key.cls in ("VDI", "VBD")
            ]
            found = {change.key.ref: change.operation for change in changes}
            assert len(found) == len(changes)
            now = self.vdis | self.vbds
            for ref in now.keys() - then.keys():
                assert found.pop(ref) == "add"
            for ref in then.keys() - now.keys():
                assert found.pop(ref) == "del"
            assert set(found.values()) <= {"mod"}
            assert {ref for ref in now.keys() & then.keys() if now[ref] != then[ref]} <= set(found)

    @rule(data=st.data(), fails=st.booleans())
    def change(self, data: st.DataObject, fails: bool) -> None:
        """A few changes in one transaction, which may be interrupted."""
        before = dict(self.vdis), dict(self.vbds)
        everything = self.everything()
        try:
            with self.db.transaction():
                for _ in range(data.draw(st.integers(1, 4))):
                    self.one_change(data)
                if fails:
                    raise Interrupted
        except Interrupted:
            self.vdis, self.vbds = before
            assert self.everything() == everything

    def one_change(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["vdi", "vbd", "move", "drop vdi", "drop vbd"]))
        some_vdi = data.draw(st.sampled_from([*self.vdis, "OpaqueRef:NULL"]))
        if kind == "vdi":
            ref = self.db.create("VDI", SR=self.sr, snapshot_of=some_vdi)
            self.vdis[ref] = some_vdi
        elif kind == "vbd":
            self.vbds[self.db.create("VBD", VDI=some_vdi)] = some_vdi
        elif kind == "move" and self.vbds:
            vbd = data.draw(st.sampled_from(list(self.vbds)))
            self.db.put("VBD", vbd, VDI=some_vdi)
            self.vbds[vbd] = some_vdi
        elif kind == "drop vdi" and some_vdi in self.vdis:
            self.db.destroy("VDI", some_vdi)
            del self.vdis[some_vdi]
        elif kind == "drop vbd" and self.vbds:
            vbd = data.draw(st.sampled_from(list(self.vbds)))
            self.db.destroy("VBD", vbd)
            del self.vbds[vbd]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "db"):
            return
        assert set(self.db.refs("VDI")) == set(self.vdis) == set(self.db.get("SR", self.sr, "VDIs"))
        assert set(self.db.refs("VBD")) == set(self.vbds)
        for vdi, origin in self.vdis.items():
            vbds = {vbd for vbd, of in self.vbds.items() if of == vdi}
            assert set(self.db.get("VDI", vdi, "VBDs")) == vbds
            snapshots = {other for other, of in self.vdis.items() if of == vdi}
            assert set(self.db.get("VDI", vdi, "snapshots")) == snapshots
            assert self.db.get("VDI", vdi, "snapshot_of") == origin
            assert self.db.by_uuid("VDI", self.db.get("VDI", vdi, "uuid")) == vdi


TestModel = Model.TestCase
TestModel.settings = settings(deadline=None, max_examples=60, stateful_step_count=20)


def test_a_transaction_inside_another_is_a_part_of_it() -> None:
    db = database()

    def interrupted() -> None:
        with db.transaction():
            with db.transaction():
                db.create("SR")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert db.refs("SR") == ()


def test_uuids_are_unique_within_a_class() -> None:
    db = database()
    db.create("SR", uuid="u")
    db.create("VDI", uuid="u")
    with pytest.raises(XenAPIError) as error:
        db.create("SR", uuid="u")
    assert error.value.code == "DB_UNIQUENESS_CONSTRAINT_VIOLATION"


def test_another_uuid() -> None:
    db = database()
    sr, other = db.create("SR", uuid="u"), db.create("SR", uuid="v")

    def interrupted() -> None:
        with db.transaction():
            db.put("SR", sr, uuid="w")
            assert db.by_uuid("SR", "w") == sr
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert (db.by_uuid("SR", "u"), db.by_uuid("SR", "v")) == (sr, other)
    with pytest.raises(XenAPIError, match="UUID_INVALID"):
        db.by_uuid("SR", "w")
    with pytest.raises(XenAPIError, match="DB_UNIQUENESS_CONSTRAINT_VIOLATION"):
        db.put("SR", sr, uuid="v")


def test_fields_that_the_class_does_not_have() -> None:
    db = database()
    with pytest.raises(KeyError):
        db.create("SR", colour="red")
    with pytest.raises(KeyError):
        db.put("SR", db.create("SR"), colour="red")


# -- history


def changes(db: Database, generation: int) -> list[Change]:
    return list(db.history.since(generation))


def test_one_transaction_is_one_generation() -> None:
    db = database()
    with db.transaction():
        sr = db.create("SR")
        db.put("SR", sr, type="mem")
        vdi = db.create("VDI", SR=sr)
    assert db.history.generation == 1
    assert changes(db, 0) == [Change("add", Key("VDI", vdi), 1), Change("add", Key("SR", sr), 1)]
    db.put("VDI", vdi, location="here")
    assert changes(db, 1) == [Change("mod", Key("VDI", vdi), 2)]
    db.put("VDI", vdi, location="here")
    assert db.history.generation == 2


def test_what_was_rolled_back_never_happened() -> None:
    db = database()

    def interrupted() -> None:
        with db.transaction():
            db.create("SR")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert (db.history.generation, changes(db, 0)) == (0, [])


def test_owners_change_with_their_inverse_fields_and_policies() -> None:
    db = database()
    sr = db.create("SR")
    vdi = db.create("VDI", SR=sr)
    vbd = db.create("VBD", VDI=vdi)
    touched = {change.key for change in changes(db, 2)}
    assert touched == {Key("VBD", vbd), Key("VDI", vdi)}
    db.put("VBD", vbd, currently_attached=True)
    assert {change.key for change in changes(db, 3)} == {Key("VBD", vbd), Key("VDI", vdi)}
    db.put("VBD", vbd, device="xvda")
    assert {change.key for change in changes(db, 4)} == {Key("VBD", vbd)}


def test_a_touch_is_a_change() -> None:
    db = database()
    sr = db.create("SR")
    assert db.touch("SR", sr) == 1
    assert changes(db, 1) == [Change("mod", Key("SR", sr), 2)]


def test_sessions_are_nobody_elses_business() -> None:
    db = database()
    db.destroy("session", db.create("session"))
    assert db.history.generation == 0


def test_old_deletions_are_forgotten() -> None:
    db = database()
    srs = [db.create("SR") for _ in range(6)]
    for sr in srs:
        db.destroy("SR", sr)
    assert not db.history.known_since(6)
    assert db.history.known_since(7)
    assert db.history.known_since(0)
    assert not db.history.known_since(13)


# -- the state file


def test_every_type_of_value_survives(tmp_path: Path) -> None:
    db = database(tmp_path / "state")
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    values: dict[str, Value] = {
        "name_label": "\u00e9 \U0001f4be ' \" \x00",
        "virtual_size": 2**62,
        "sharable": True,
        "other_config": {"a": "b", "c": ""},
        "tags": ("x", "y"),
        "snapshot_time": moment,
        "current_operations": {"OpaqueRef:1": "clone"},
    }
    vdi = db.create("VDI", **values)
    task = db.create("task", progress=0.25)
    db.create("session")
    db.close()
    db = database(tmp_path / "state")
    assert {name: db.get("VDI", vdi, name) for name in values} == values
    assert db.get("task", task, "progress") == 0.25
    assert db.refs("session") == ()
    db.close()


def test_a_source_that_starts_again_gives_nothing_twice(tmp_path: Path) -> None:
    db = database(tmp_path / "state")
    first = db.create("SR")
    db.close()
    db = database(tmp_path / "state")
    db.create("SR")
    assert len(db.refs("SR")) == 2
    assert first in db.refs("SR")
    db.close()


def test_one_server_has_the_file(tmp_path: Path) -> None:
    db = database(tmp_path / "state")
    db.create("SR")
    with pytest.raises(StateError, match="locked"):
        database(tmp_path / "state")
    db.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_of_somebody_else(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state"
    if content:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs(x)")
    before = path.read_bytes()
    with pytest.raises(StateError) as error:
        database(path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """The commit fails: what was in memory is taken back too."""
    db = database(tmp_path / "state")
    sr = db.create("SR", type="before")
    generation = db.history.generation
    db.close()
    with pytest.raises(StateError):
        db.put("SR", sr, type="after")
    assert db.get("SR", sr, "type") == "before"
    assert db.history.generation == generation


def test_what_does_not_last_needs_no_file(tmp_path: Path) -> None:
    """Clients see it all the same, and are told by the next server that they missed something."""
    db = database(tmp_path / "state")
    sr = db.create("SR", type="before")
    db.close()
    for _ in range(3):
        with db.transaction(lasting=False):
            db.put("SR", sr, type="after")
        assert db.get("SR", sr, "type") == "after"
        with db.transaction(lasting=False):
            db.put("SR", sr, type="again")
    seen = db.history.generation
    db = database(tmp_path / "state")
    assert db.get("SR", sr, "type") == "before"
    assert not db.history.known_since(seen)
    db.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """Transactions fail whole, in memory and in the file, and go on when there is room again."""
    path = tmp_path / "state"
    db = database(path)
    kept = [db.create("SR", name_label="x" * 1000)]

    def fill() -> None:
        for _ in range(100):
            with db.transaction():
                pair = [db.create("SR", name_label="x" * 1000) for _ in range(2)]
            kept.extend(pair)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = path.with_name("state-wal").stat().st_size + 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StateError, match="make room"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 1 < len(kept) < 201
    assert list(db.refs("SR")) == kept
    kept.append(db.create("SR"))
    db.close()
    db = database(path)
    assert list(db.refs("SR")) == kept
    db.close()
