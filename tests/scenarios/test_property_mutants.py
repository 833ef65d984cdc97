"""The catalogue of wrong drivers fits the drivers, and the small programs are all there are."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from scenarios.property import command, small
from scenarios.property.command import Options, mutants
from scenarios.property.model import World
from scenarios.property.mutants import MUTANTS, Mutant
from scenarios.property.steps import Operation
from testbed.errors import TestbedError
from testbed.kernel.guestconfig import ROOT
from testbed.status import Status


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_another_program(mutant: Mutant) -> None:
    text = (ROOT / "srs" / mutant.module).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.applied(text))) != ast.dump(ast.parse(text))
    assert mutant.kinds


def test_the_catalogue() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


def test_a_mutant_that_no_longer_fits(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="0 times"):
        Mutant("stale", "revert.py", "no such text", "").write(tmp_path)
    with pytest.raises(TestbedError, match=r"revert\.py has its text \d\d"):
        Mutant("vague", "revert.py", "sr", "rs").applied(
            (ROOT / "srs/revert.py").read_text(encoding="utf-8")
        )


def test_a_mutant_is_a_tree_of_its_own(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    mutant.write(tmp_path)
    changed = [
        path.relative_to(tmp_path / "srs")
        for path in (tmp_path / "srs").rglob("*.py")
        if path.read_bytes() != (ROOT / "srs" / path.relative_to(tmp_path / "srs")).read_bytes()
    ]
    assert changed == [Path(mutant.module)]


@pytest.mark.parametrize("disks", [1, 2])
def test_small_programs_make_sense_and_are_different(disks: int) -> None:
    """With two disks nothing is tried twice because they have other names."""
    programs = list(small.programs(disks, 2))
    assert len(set(programs)) == len(programs)
    kinds: Counter[str] = Counter()
    for program in programs:
        world = World()
        for step in program:
            assert isinstance(step, Operation)
            assert world.makes_sense(step)
            assert not world.refusal(step)
            world.do(step)
            kinds[type(step).__name__] += 1
    assert set(kinds) == {
        "Create", "Write", "Snapshot", "Clone", "Revert", "Resize", "Destroy", "Collect",
        "PowerCut",
    }  # fmt: skip
    first = [program[2 * disks] for program in programs]
    assert not any(getattr(step, "disk", "a") == "b" for step in first)


def test_how_many_small_programs_there_are() -> None:
    assert [small.count(disks) for disks in (1, 2)] == [621, 1261]


# --- the command -----------------------------------------------------------------------------


def options(*names: str, kinds: tuple[str, ...] = ()) -> Options:
    return Options(names, kinds, "quick", 1)


@pytest.mark.parametrize("kinds", [("floppy",), ("ext",), ("lvhd", "ext")])
def test_a_kind_on_which_none_shows(kinds: tuple[str, ...]) -> None:
    with pytest.raises(TestbedError, match="they show on: file, lvhd"):
        mutants(options(kinds=kinds))


def test_a_mutant_that_does_not_show_there() -> None:
    only = next(mutant for mutant in MUTANTS if mutant.kinds == ("file",))
    with pytest.raises(TestbedError, match="they show on: file"):
        mutants(options(only.name, kinds=("lvhd",)))
    with pytest.raises(TestbedError, match="no mutant is called so"):
        mutants(options(only.name, "so"))


def test_one_that_cannot_be_tried_is_a_row_and_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = Mutant("stale", "revert.py", "no such text", "", kinds=("file",))
    monkeypatch.setattr(command, "MUTANTS", (stale,))
    assert mutants(options()) is Status.COULD_NOT_RUN
    shown = capsys.readouterr().out
    assert "0 caught, 0 alive, 1 could not be tried" in shown
    assert "stale on file could not be tried: TestbedError: " in shown
