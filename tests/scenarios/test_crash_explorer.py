"""The crash explorer finds what it must find, and finds nothing in the drivers as they are."""

from pathlib import Path

import pytest

from scenarios.crash.explorer import Explorer, booted, repeat

#: Drivers with a defect that only a power cut shows.
CARELESS = Path(__file__).with_name("careless_drivers.py")


@pytest.mark.parametrize("kind", ["file", "lvhd"])
def test_a_revert_survives(kind: str) -> None:
    """A sample: each flush of a revert, and some of the states between them."""
    with booted("crash", seed=1) as (host, session):
        result = Explorer(host, session, kind, "revert", seed=1).explore(20)
    assert [failure.why for failure in result.failures] == []
    assert result.states >= result.flushes
    assert result.recoveries < result.states + result.fresh
    assert result.outcomes > 1


@pytest.mark.parametrize(
    ("driver", "case"),
    [
        ("file-hasty", "revert"),
        ("lvhd-hasty", "revert"),
        ("file-forgetful", "snapshot"),
        ("lvhd-forgetful", "delete"),
    ],
)
def test_a_careless_driver_is_found(driver: str, case: str, tmp_path: Path) -> None:
    """Its failure is kept, says which writes were lost, and can be repeated elsewhere."""
    kind = driver.partition("-")[0]
    with booted("crash", seed=1, variants=[CARELESS]) as (host, session):
        explorer = Explorer(host, session, kind, case, seed=1, keep=tmp_path, driver=driver)
        failure, *_ = explorer.explore(10, enough=1).failures
    assert failure.file is not None
    with booted("replay", variants=[CARELESS]) as (host, session):
        found, why = repeat(host, session, failure.file)
    assert why
    assert (found.why, found.lost) == (failure.why, failure.lost)
