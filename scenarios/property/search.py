"""Looks for a program that fails, and makes it short."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky

from scenarios.property.runner import Runner, Tally, Wrong
from scenarios.property.shrink import shortest
from scenarios.property.steps import Program, as_scenario
from scenarios.property.strategies import programs


@dataclass(frozen=True, slots=True)
class Profile:
    """How long to look.

    Short programs come first: most mistakes show in one of them, which is short already.

    Attributes:
        stages: how many programs of how many steps at most, one after the other.
        power_cuts: whether programs cut the power.
        fixed: the same programs in every run.
        small: disks in the small programs (scenarios/property/small.py) that are tried.
        every: so many of those make one that is tried.
    """

    stages: tuple[tuple[int, int], ...]
    power_cuts: bool
    fixed: bool
    small: tuple[int, ...]
    every: int


#: By the name that `--profile` takes.
PROFILES: Final[Mapping[str, Profile]] = {
    "quick": Profile(
        stages=((10, 12), (6, 30), (4, 60)), power_cuts=False, fixed=True, small=(1,), every=40
    ),
    "nightly": Profile(
        stages=((100, 15), (100, 40), (100, 80)), power_cuts=True, fixed=False, small=(1,), every=1
    ),
    "deep": Profile(
        stages=((1000, 20), (1000, 50), (2000, 100)),
        power_cuts=True,
        fixed=False,
        small=(1, 2),
        every=1,
    ),
}


class ProgramFailed(AssertionError):
    """A program does not do what the model says.

    Attributes:
        program: as short as it became.
        found: as it was found.
        why: what is wrong after the short one.
        steps: so many steps had been taken when it was found.
        seconds: that took so long.
    """

    def __init__(
        self, program: Program, found: Program, why: str, *, steps: int, seconds: float
    ) -> None:
        self.program = program
        self.found = found
        self.why = why
        self.steps = steps
        self.seconds = seconds
        super().__init__(
            f"{why}\nThis repeats it: save it, and `testbed replay --sr KIND FILE`\n\n"
            f"{as_scenario(program, why)}"
        )


class Part(ExampleDatabase):
    """The part of a database that is about programs of one kind.

    What is kept is made of choices of a strategy: in another one it is another program, which
    passes, and is forgotten.

    Args:
        whole: where everything is kept.
        name: of the part.
    """

    def __init__(self, whole: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._whole = whole
        self._name = name.encode()

    def save(self, key: bytes, value: bytes) -> None:
        """See Hypothesis."""
        self._whole.save(self._name + key, value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """See Hypothesis."""
        return self._whole.fetch(self._name + key)

    def delete(self, key: bytes, value: bytes) -> None:
        """See Hypothesis."""
        self._whole.delete(self._name + key, value)


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
    failed: list[tuple[Program, Wrong, Tally]] = []

    def attempt(program: Program) -> None:
        try:
            runner.run(program)
        except Wrong as wrong:
            failed.append((program, wrong, replace(runner.tally)))
            raise

    try:
        for many, longest in profile.stages:
            _stage(attempt, runner, profile, many, longest, f"{key} {longest}", database)
    except (Wrong, Flaky):  # Hypothesis runs it again: it may fail not every time
        raise _shortened(runner, *failed[0]) from None


def _stage(
    attempt: Callable[[Program], None],
    runner: Runner,
    profile: Profile,
    many: int,
    longest: int,
    key: str,
    database: ExampleDatabase | None,
) -> None:
    strategy = programs(
        longest=longest, on_volumes=runner.sr.on_volumes, power_cuts=profile.power_cuts
    )
    test = given(strategy)(attempt)
    configured = settings(
        max_examples=many,
        database=None if database is None else Part(database, key),
        deadline=None,
        phases=(Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )(seed(key)(test) if profile.fixed else test)
    configured()


def run_all(runner: Runner, programs: Iterable[Program]) -> None:
    """Run programs until one fails.

    Raises:
        ProgramFailed: one did.
    """
    for program in programs:
        try:
            runner.run(program)
        except Wrong as wrong:
            raise _shortened(runner, program, wrong, replace(runner.tally)) from None


def _shortened(runner: Runner, program: Program, wrong: Wrong, tally: Tally) -> ProgramFailed:
    last = wrong

    def fails(candidate: Program) -> bool:
        nonlocal last
        if last.spoilt:
            return False  # nor would any program be carried out from here on
        try:
            runner.run(candidate)
        except Wrong as error:
            last = error
            return True
        return False

    short = shortest(program[: wrong.step + 1], fails)
    return ProgramFailed(short, program, str(last), steps=tally.steps, seconds=tally.seconds)
