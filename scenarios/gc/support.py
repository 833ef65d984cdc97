"""What the scenarios of the garbage collector share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scenarios.invariants import check
from scenarios.storage import Repository
from testbed.collecting import Collected


def collect(sr: Repository) -> Collected:
    """Collect to the end, and look at everything."""
    done = sr.collect()
    check(sr, collected=done.ended == "done" and not done.failed)
    return done


@contextmanager
def by_itself(sr: Repository) -> Iterator[None]:
    """Collectors begin by themselves in this block, and at once."""
    sr.host.collect_after(0)
    try:
        yield
    finally:
        sr.host.collect_after(None)
        sr.host.plugin_call("gc", "abort", {"srUuid": sr.uuid})


def wait_until(sr: Repository, holds: Callable[[], bool]) -> None:
    """Wait for records of disks to change until the condition holds."""
    token = ""
    while not holds():
        batch = sr.api.event_from(["vdi"], token, 60.0)
        if token and not batch["events"]:
            raise AssertionError("nothing changed for a minute")
        token = batch["token"]
