"""The crash explorer finds what it must find, and finds nothing in the drivers as they are."""

import pytest

from scenarios.crash.explorer import Explorer, booted


@pytest.mark.parametrize("kind", ["ext", "lvhd"])
def test_a_revert_survives(kind: str) -> None:
    """A sample: each flush of a revert, and a few of the states between them."""
    with booted("crash", seed=1) as (host, session):
        result = Explorer(host, session, kind, "revert", seed=1).explore(12)
    assert [failure.why for failure in result.failures] == []
    assert result.states > result.flushes
    assert result.outcomes > 1
