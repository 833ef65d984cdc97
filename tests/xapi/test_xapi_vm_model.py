"""A VM that lives at random beside a model of it: disks come and go, reverts succeed and fail."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import XenAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xapi.testing import CAPABILITIES, UNIMPLEMENTED, Fault, Rig, serve

TYPES = {"mem": (*CAPABILITIES, "VDI_REVERT"), "old": CAPABILITIES}
COMMANDS = ("vdi_revert", "vdi_clone", "vdi_snapshot")


@dataclass(eq=False)
class Disk:
    """A disk of the model. `device` is "" while no VBD has it."""

    kind: str
    vdi: str
    content: bytes
    device: str = ""


@dataclass(eq=False)
class Copy:
    """A disk within a snapshot: what it holds, where it was, and whose snapshot it is now."""

    of: Disk
    content: bytes
    device: str


@dataclass(eq=False)
class Snapshot:
    ref: str
    copies: list[Copy] = field(default_factory=list)


class VMs(RuleBasedStateMachine):
    """One VM on one server; the model says what every disk must hold."""

    rig: Rig

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        self.rig = self._stack.enter_context(serve(directory, TYPES, patience=0.05))
        self.srs = {kind: self.rig.sr(kind) for kind in TYPES}
        self.vm = self.rig.vm()
        self.disks: list[Disk] = []
        self.snapshots: list[Snapshot] = []

    def teardown(self) -> None:
        self._stack.close()

    def attached(self) -> list[Disk]:
        return [disk for disk in self.disks if disk.device]

    # -- what users do

    @rule(kind=st.sampled_from(sorted(TYPES)), content=st.binary(min_size=3, max_size=3))
    @precondition(lambda self: len(self.disks) < 5)
    def add(self, kind: str, content: bytes) -> None:
        vdi = self.rig.vdi(self.srs[kind], content)
        vbd = self.rig.vbd(vdi, VM=self.vm)
        self.disks.append(Disk(kind, vdi, content, self.rig.api.VBD.get_userdevice(vbd)))

    @rule(data=st.data(), content=st.binary(min_size=3, max_size=3))
    @precondition(lambda self: self.attached())
    def write(self, data: st.DataObject, content: bytes) -> None:
        disk = data.draw(st.sampled_from(self.attached()))
        self.rig.write(disk.vdi, content)
        disk.content = content

    @rule(data=st.data())
    @precondition(lambda self: self.attached())
    def detach(self, data: st.DataObject) -> None:
        disk = data.draw(st.sampled_from(self.attached()))
        for vbd in self.rig.api.VDI.get_VBDs(disk.vdi):
            self.rig.api.VBD.destroy(vbd)
        disk.device = ""

    @rule(data=st.data())
    @precondition(lambda self: self.attached())
    def move(self, data: st.DataObject) -> None:
        disk = data.draw(st.sampled_from(self.attached()))
        [vbd] = self.rig.api.VDI.get_VBDs(disk.vdi)
        disk.device = self.rig.api.VM.get_allowed_VBD_devices(self.vm)[0]
        self.rig.api.VBD.set_userdevice(vbd, disk.device)

    @rule(data=st.data())
    @precondition(lambda self: self.disks)
    def destroy(self, data: st.DataObject) -> None:
        disk = data.draw(st.sampled_from(self.disks))
        self.rig.api.VDI.destroy(disk.vdi)
        self.disks.remove(disk)

    @rule()
    @precondition(lambda self: len(self.snapshots) < 3)
    def snapshot(self) -> None:
        made = Snapshot(self.rig.api.VM.snapshot(self.vm, "snapshot"))
        made.copies = [Copy(disk, disk.content, disk.device) for disk in self.attached()]
        self.snapshots.append(made)

    @rule(data=st.data(), running=st.booleans(), fault=st.sampled_from(["", "38", *COMMANDS]),
          after=st.integers(0, 2))  # fmt: skip
    @precondition(lambda self: self.snapshots)
    def revert(self, data: st.DataObject, running: bool, fault: str, after: int) -> None:
        snapshot = data.draw(st.sampled_from(self.snapshots))
        if running:
            self.rig.api.VM.start(self.vm, False, False)
        host = self.rig.host
        if fault == "38":
            host.faults["vdi_revert"] = UNIMPLEMENTED
        elif fault:
            host.faults[fault] = Fault(46, "no")
            host.once_after[fault] = after
        try:
            self.rig.api.VM.revert(snapshot.ref)
        except XenAPI.Failure as failure:
            expected = ["VM_REVERT_FAILED", snapshot.ref, self.vm]
            if fault not in COMMANDS or failure.details != expected:
                raise
        else:
            self.go_back(snapshot, in_place=fault != "38")
        finally:
            host.faults.clear()
            host.once_after.clear()

    # -- what a revert does to the model

    def go_back(self, snapshot: Snapshot, *, in_place: bool) -> None:
        wanted = {copy.of: copy for copy in snapshot.copies}
        kept = {disk for disk in self.disks if disk in wanted and disk.kind == "mem" and in_place}
        devices = [copy.of.device if copy.of in kept and copy.of.device else copy.device
                   for copy in snapshot.copies]  # fmt: skip
        moved = len(set(devices)) < len(devices)
        for disk in self.attached():
            if disk not in kept:
                if disk in wanted:
                    self.disks.remove(disk)
                disk.device = ""
        for old, copy in wanted.items():
            if old in kept:
                old.content = copy.content
                if moved or not old.device:
                    old.device = copy.device
            else:
                self.replace(old, Disk(old.kind, "", copy.content, copy.device))
        found = self.rig.disks(self.vm)
        for disk in self.attached():
            disk.vdi = disk.vdi or found[disk.device]

    def replace(self, old: Disk, fresh: Disk) -> None:
        self.disks.append(fresh)
        for snapshot in self.snapshots:
            for copy in snapshot.copies:
                if copy.of is old:
                    copy.of = fresh

    # -- what must hold at any time

    @invariant()
    def disks_are_where_they_belong(self) -> None:
        expected = {disk.device: disk.vdi for disk in self.attached()}
        assert self.rig.disks(self.vm) == dict(sorted(expected.items()))
        assert len(self.rig.api.VM.get_VBDs(self.vm)) == len(expected)
        for disk in self.disks:
            assert self.rig.read(disk.vdi, 3) == disk.content

    @invariant()
    def snapshots_keep_what_they_hold(self) -> None:
        for snapshot in self.snapshots:
            disks = self.rig.disks(snapshot.ref)
            assert sorted(disks) == sorted(copy.device for copy in snapshot.copies)
            for copy in snapshot.copies:
                vdi = disks[copy.device]
                assert self.rig.read(vdi, 3) == copy.content
                if copy.of in self.disks:
                    assert self.rig.api.VDI.get_snapshot_of(vdi) == copy.of.vdi

    @invariant()
    def nothing_is_left_behind(self) -> None:
        copies = sum(len(snapshot.copies) for snapshot in self.snapshots)
        records = self.rig.api.VDI.get_all()
        assert len(records) == len(self.disks) + copies
        assert len(self.rig.host.stored()) == len(records)
        assert self.rig.host.devices == {}
        assert self.rig.api.VM.get_power_state(self.vm) == "Halted"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failing reverts are logged, which is right, and here nobody wants to read it."""
    caplog.set_level("CRITICAL", "xapi")


TestVMs = VMs.TestCase
TestVMs.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
