"""Random programs: `testbed run --profile quick property`, and longer ones by night."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

from scenarios.plugin import RepositoryCache
from scenarios.property.bed import made
from scenarios.property.runner import Runner
from scenarios.property.search import PROFILES, look
from scenarios.storage import Repository
from testbed.member import Member


def test_random_programs(
    sr: Repository,
    host: Member,
    xenapi: Any,
    repositories: RepositoryCache,
    request: pytest.FixtureRequest,
    record_property: Any,
) -> None:
    """Every one does what the model says; one that does not is printed, made short."""
    profile = PROFILES[request.config.getoption("--profile")]
    path = request.config.getoption("--examples")
    database = None if path is None else DirectoryBasedExampleDatabase(Path(path))
    with made(host, xenapi, sr.kind, repositories.restart) as bed:
        runner = Runner(bed)
        try:
            look(runner, profile, key=sr.kind, database=database)
        finally:
            tally = runner.tally
            rate = tally.steps / max(tally.seconds, 0.001)
            told = f"{tally.programs} programs, {tally.steps} steps, {rate:.1f} a second"
            record_property("note", f"{sr.kind}: {told}")
