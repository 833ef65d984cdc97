"""Fixtures of random and small programs."""

from collections.abc import Iterator
from typing import Any

import pytest

from scenarios.plugin import RepositoryCache
from scenarios.property.bed import make
from scenarios.property.runner import Runner
from scenarios.property.search import PROFILES, Profile
from scenarios.storage import Repository
from testbed.member import Member
from testbed.provision import retire


@pytest.fixture
def profile(request: pytest.FixtureRequest) -> Profile:
    """How long to look."""
    return PROFILES[request.config.getoption("--profile")]


@pytest.fixture
def runner(
    sr: Repository,
    host: Member,
    xenapi: Any,
    repositories: RepositoryCache,
    record_property: Any,
) -> Iterator[Runner]:
    """Runs programs on an SR of its own, of the kind of `sr`; says in the end how fast it was."""
    bed = make(host, xenapi, sr.kind, repositories.restart)
    runner = Runner(bed)
    yield runner
    record_property("note", f"{sr.kind}: {runner.tally}")
    retire(host, xenapi, bed.sr.provisioned)
