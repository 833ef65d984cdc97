"""The catalogue of wrong drivers fits the drivers, and the small programs are all there are."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from scenarios.property import small
from scenarios.property.model import World
from scenarios.property.mutants import MUTANTS, Mutant
from scenarios.property.steps import Operation
from testbed.errors import TestbedError
from testbed.kernel.guestconfig import ROOT


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
