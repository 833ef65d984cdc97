"""What the scenarios of the garbage collector share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


def tasks(sr: Repository) -> dict[str, dict[str, Any]]:
    """Those of the SR's collectors, by reference."""
    found: dict[str, dict[str, Any]] = sr.api.task.get_all_records()
    return {
        ref: task
        for ref, task in found.items()
        if task["name_label"] == "Garbage Collection"
        and task["other_config"].get("applies_to") == sr.ref
    }


def wait_until(sr: Repository, holds: Callable[[], bool], objects: str = "vdi") -> None:
    """Wait for records of disks, or other objects, to change until the condition holds."""
    token = ""
    while not holds():
        batch = sr.api.event_from([objects], token, 60.0)
        if token and not batch["events"]:
            raise AssertionError("nothing changed for a minute")
        token = batch["token"]
