"""The database: indexes that never lie, and changes that happen all or not at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xapi.database import Database
from xapi.errors import XenAPIError


def database() -> Database:
    numbers = itertools.count()
    return Database(lambda: str(next(numbers)))


class Interrupted(Exception):
    pass


class Model(RuleBasedStateMachine):
    """VDIs and VBDs that refer to each other, against a plain dictionary."""

    @initialize()
    def start(self) -> None:
        self.db = database()
        self.sr = self.db.create("SR")
        self.vdis: dict[str, str] = {}
        self.vbds: dict[str, str] = {}

    @rule(data=st.data(), fails=st.booleans())
    def change(self, data: st.DataObject, fails: bool) -> None:
        """A few changes in one transaction, which may be interrupted."""
        before = dict(self.vdis), dict(self.vbds)
        try:
            with self.db.transaction():
                for _ in range(data.draw(st.integers(1, 4))):
                    self.one_change(data)
                if fails:
                    raise Interrupted
        except Interrupted:
            self.vdis, self.vbds = before

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


def test_fields_that_the_class_does_not_have() -> None:
    db = database()
    with pytest.raises(KeyError):
        db.create("SR", colour="red")
    with pytest.raises(KeyError):
        db.put("SR", db.create("SR"), colour="red")
