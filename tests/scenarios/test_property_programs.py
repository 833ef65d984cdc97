"""The model, the programs and how they are made short: no kernel needed."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from scenarios.machine import Machine
from scenarios.oracle import BLOCK, Span
from scenarios.oracle import Model as Content
from scenarios.property.bed import Bed
from scenarios.property.model import World
from scenarios.property.runner import PIECE, Runner, Wrong, untold
from scenarios.property.search import Profile, ProgramFailed, look, run_all
from scenarios.property.shrink import shortest
from scenarios.property.steps import (
    Attach,
    Clone,
    Crash,
    Create,
    Destroy,
    MakeVM,
    Operation,
    PowerCut,
    Program,
    Replug,
    Resize,
    Revert,
    RevertVM,
    Snapshot,
    SnapshotVM,
    Track,
    Write,
    as_scenario,
    operation,
)
from scenarios.property.strategies import programs
from scenarios.storage import Repository
from testbed.errors import TestbedError


def world_after(steps: Iterable[Operation]) -> World:
    world = World()
    for step in steps:
        assert world.makes_sense(step), step
        assert not world.refusal(step), step
        world.do(step)
    return world


TREE: tuple[Operation, ...] = (
    Create("a", BLOCK),
    Write("a", 0, 512, 1),
    Snapshot("a", "s"),
    Write("a", 0, 512, 2),
)


def test_a_revert_brings_back_bytes_size_and_tracking_and_leaves_the_snapshot() -> None:
    world = world_after([*TREE, Resize("a", 2 * BLOCK), Track("a", True), Revert("s")])
    assert world.disks["a"].content.content() == world.disks["s"].content.content()
    assert (world.disks["a"].content.size, world.disks["a"].tracked) == (BLOCK, False)
    world.do(Write("a", 512, 512, 3))
    assert world.disks["s"].content.piece(512, 512) == bytes(512)


@pytest.mark.parametrize(
    ("before", "step", "code"),
    [
        ([], Revert("a"), "REVERT_ONLY_ALLOWED_ON_SNAPSHOT"),
        ([Destroy("a")], Revert("s"), "HANDLE_INVALID"),
        ([Attach("a", "RO")], Revert("s"), "VDI_IN_USE"),
        ([Attach("s", "RW")], Revert("s"), ""),
        ([], Resize("a", BLOCK // 2), "SR_BACKEND_FAILURE_79"),
        ([], Resize("a", BLOCK), ""),
        ([Attach("a", "RW")], Resize("a", 2 * BLOCK), "VDI_IN_USE"),
        ([Attach("a", "RW")], Destroy("a"), "VDI_IN_USE"),
        ([Attach("a", "RO")], Attach("a", "RW"), "VDI_IN_USE"),
        ([Attach("a", "RW")], Snapshot("a", "t"), ""),
        ([Attach("a", "RO")], Replug(), "VDI_IN_USE"),
        ([Attach("a", "RO"), PowerCut()], Replug(), ""),
        ([], Track("s", True), "OPERATION_NOT_ALLOWED"),
    ],
)
def test_what_is_refused(before: list[Operation], step: Operation, code: str) -> None:
    assert world_after([*TREE, *before]).refusal(step) == code


def test_a_vm_goes_back_as_a_whole() -> None:
    steps: list[Operation] = [*TREE, Create("b", BLOCK), MakeVM("vm", ("a", "b"))]
    steps.append(SnapshotVM("vm", "v"))
    world = world_after([*steps, Write("b", 0, 512, 1), Write("a", 0, 512, 0)])
    assert not world.makes_sense(Destroy("a"))
    world.disks["b"].attached = "RO"
    assert world.refusal(RevertVM("v")) == "VDI_IN_USE"
    world.disks["b"].attached = ""
    world.do(RevertVM("v"))
    for disk in ("a", "b"):
        assert world.disks[disk].content.content() == world.disks[f"v.{disk}"].content.content()


def test_what_an_interrupted_step_may_leave() -> None:
    world = world_after([*TREE, Track("a", True), Attach("a", "RW")])
    never, done, plain = world.outcomes(Snapshot("a", "t"), power_cut=True)
    assert "t" not in never.disks
    assert (done.disks["t"].of, plain.disks["t"].of) == ("a", "")
    assert all(w.disks["a"].tracked is None and not w.disks["a"].attached for w in (never, done))
    assert world.disks["a"].attached == "RW"  # the world itself stays


@settings(deadline=None)
@given(st.booleans(), st.data())
def test_random_programs_make_sense(on_volumes: bool, data: st.DataObject) -> None:
    """Where nothing is lost, every step has something to do, or something that refuses it."""
    world = World()
    for step in data.draw(programs(longest=40, on_volumes=on_volumes, power_cuts=True)):
        done = operation(step)
        assert world.makes_sense(done), step
        if not world.refusal(done):
            world.do(done)
        else:
            assert not isinstance(step, Crash)


def test_a_failing_program_becomes_short() -> None:
    """It fails when a revert to a written snapshot follows another one."""
    noise: list[Operation] = [Create(name, 2 * BLOCK) for name in "bcdef"]
    tail: Program = (
        Revert("s"),
        Write("s", 5 * 512, 40_000, 3),
        Clone("a", "g"),
        Revert("s"),
        *noise,
    )
    tried = []

    def fails(program: Program) -> bool:
        tried.append(program)
        reverts = [at for at, step in enumerate(program) if step == Revert("s")]
        writes = [at for at, step in enumerate(program) if isinstance(step, Write)]
        made = Snapshot("a", "s") in program and any(
            isinstance(s, Create) and s.disk == "a" for s in program
        )
        return made and any(reverts[:1] < [at] < reverts[-1:] for at in writes)

    found = shortest((*noise, *TREE, *tail), fails)
    assert found == (
        Create("a", BLOCK), Snapshot("a", "s"), Revert("s"), Write("s", 0, 512, 1), Revert("s"),
    )  # fmt: skip
    assert len(tried) == len(set(tried)) < 80


def test_a_program_is_a_module(tmp_path: Path) -> None:
    program = (*TREE, Crash(Revert("s"), "LVM_revert_renamed", "kill"), MakeVM("vm", ("a",)))
    path = tmp_path / "found.py"
    path.write_text(as_scenario(program, 'a has """other\\content'), encoding="utf-8")
    spec = spec_from_file_location("found", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["found"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["found"]
    assert program == module.STEPS
    assert "other" in str(module.__doc__)


class LostSR(Repository):
    """Its host does not answer."""

    def __init__(self, kind: str = "file") -> None:
        self.kind = kind

    def create(self, *_args: object, **_options: object) -> NoReturn:
        raise OSError("no answer")


class Noted(Runner):
    """Notes programs; those that resize a disk are wrong, if so it is told."""

    def __init__(self, kind: str, wrong: bool) -> None:
        super().__init__(Bed(LostSR(kind), restart=lambda: None))
        self.noted: list[Program] = []
        self.wrong = wrong

    def run(self, program: Program) -> None:
        self.noted.append(program)
        if self.wrong and any(isinstance(step, Resize) for step in program):
            raise Wrong(len(program), ["resized"])


def test_programs_that_failed_are_kept_until_they_pass() -> None:
    """Whatever passes on another kind of SR, or in other stages, in between."""
    database = InMemoryExampleDatabase()
    profile = Profile(((20, 12), (20, 30)), power_cuts=False, fixed=True, small=(), every=1)
    with pytest.raises(ProgramFailed) as first:
        look(Noted("file", wrong=True), profile, key="file", database=database)
    look(Noted("lvhd", wrong=False), profile, key="lvhd", database=database)
    again = Noted("file", wrong=True)
    with pytest.raises(ProgramFailed):
        look(again, replace(profile, fixed=False), key="file", database=database)
    assert again.noted[0] == first.value.found


class LostBed(Bed):
    """And never will again."""

    def __init__(self) -> None:
        super().__init__(LostSR(), restart=lambda: None)
        self.asked = 0

    def clear(self, vms: Iterable[Machine], *, doubtful: bool) -> NoReturn:
        self.asked += 1
        raise TestbedError("no host boots")


def test_an_sr_that_cannot_be_cleared_hides_no_mistake() -> None:
    """Nor is a program made short where none can be carried out any more."""
    bed = LostBed()
    with pytest.raises(ProgramFailed, match=r"OSError: no answer; .* no host boots") as failed:
        run_all(Runner(bed), [TREE])
    assert failed.value.program == TREE[:1]
    assert bed.asked == 1


def test_a_list_of_changed_blocks_that_ends_too_early() -> None:
    before, after = Content(BLOCK), Content(BLOCK)
    after.write([Span(9 * PIECE, b"x")])
    listed = bytes([0, 0x40])
    assert not list(untold("s", "a", listed, before, after))
    assert list(untold("s", "a", listed[:1], before, after)) == [
        f"the changes from s to a leave out byte {9 * PIECE} and what follows"
    ]
