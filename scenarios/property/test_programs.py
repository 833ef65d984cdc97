"""Random programs, and all small ones: `testbed run --profile quick property`; more by night."""

from pathlib import Path

import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

from scenarios.property import small
from scenarios.property.runner import Runner
from scenarios.property.search import Profile, look, run_all
from scenarios.property.steps import PowerCut


def test_random_programs(runner: Runner, profile: Profile, request: pytest.FixtureRequest) -> None:
    """Every one does what the model says; one that does not is printed, made short."""
    path = request.config.getoption("--examples")
    database = None if path is None else DirectoryBasedExampleDatabase(Path(path))
    look(runner, profile, key=runner.sr.kind, database=database)


def test_all_small_programs(runner: Runner, profile: Profile) -> None:
    """Up to three operations on one disk or two; by day a part of them, without power cuts."""
    for disks in profile.small:
        programs = [
            program
            for program in small.programs(disks)
            if profile.power_cuts or PowerCut() not in program
        ]
        run_all(runner, programs[:: profile.every])
