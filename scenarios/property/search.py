"""Looks for a program that fails, and makes it short."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.database import ExampleDatabase

from scenarios.property.runner import Runner, Wrong
from scenarios.property.shrink import shortest
from scenarios.property.steps import Program, as_scenario
from scenarios.property.strategies import programs


@dataclass(frozen=True, slots=True)
class Profile:
    """How long to look.

    Attributes:
        programs: how many.
        longest: steps of each, at most.
        power_cuts: whether programs cut the power.
        fixed: the same programs in every run.
    """

    programs: int
    longest: int
    power_cuts: bool
    fixed: bool


#: By the name that `--profile` takes.
PROFILES: Final[Mapping[str, Profile]] = {
    "quick": Profile(programs=12, longest=40, power_cuts=False, fixed=True),
    "nightly": Profile(programs=300, longest=60, power_cuts=True, fixed=False),
    "deep": Profile(programs=5000, longest=80, power_cuts=True, fixed=False),
}


class ProgramFailed(AssertionError):
    """A program does not do what the model says.

    Attributes:
        program: as short as it became.
        found: as it was found.
        why: what is wrong after the short one.
        steps: so many steps had been taken when it was found.
    """

    def __init__(self, program: Program, found: Program, why: str, steps: int) -> None:
        self.program = program
        self.found = found
        self.why = why
        self.steps = steps
        super().__init__(
            f"{why}\nThis repeats it: save it, and `testbed replay --sr KIND FILE`\n\n"
            f"{as_scenario(program, why)}"
        )


def look(
    runner: Runner, profile: Profile, *, key: str, database: ExampleDatabase | None = None
) -> None:
    """Run random programs until one fails.

    Args:
        runner: runs them.
        profile: how many.
        key: programs of a fixed profile depend on it alone.
        database: programs that failed before are in there, and come first.

    Raises:
        ProgramFailed: one did.
    """
    failed: list[tuple[Program, Wrong, int]] = []

    def attempt(program: Program) -> None:
        try:
            runner.run(program)
        except Wrong as wrong:
            failed.append((program, wrong, runner.tally.steps))
            raise

    strategy = programs(
        longest=profile.longest,
        on_volumes=runner.sr.on_volumes,
        power_cuts=profile.power_cuts,
    )
    test = given(strategy)(attempt)
    configured = settings(
        max_examples=profile.programs,
        database=database,
        deadline=None,
        phases=(Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )(seed(key)(test) if profile.fixed else test)
    try:
        configured()
    except Wrong:
        program, wrong, steps = failed[0]
        raise _shortened(runner, program, wrong, steps) from None


def _shortened(runner: Runner, program: Program, wrong: Wrong, steps: int) -> ProgramFailed:
    last = wrong

    def fails(candidate: Program) -> bool:
        nonlocal last
        try:
            runner.run(candidate)
        except Wrong as error:
            last = error
            return True
        return False

    return ProgramFailed(shortest(program[: wrong.step + 1], fails), program, str(last), steps)
