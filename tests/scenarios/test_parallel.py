"""Jobs side by side: what they come to, what becomes of the others when one goes wrong."""

import os
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from scenarios.parallel import run_all
from testbed.errors import KernelDied

CONSOLE = Console(quiet=True)


def fine() -> str:
    return "fine"


def die() -> str:
    raise KernelDied("panic", "last line")  # its text is not what it is made from


def test_a_job_that_fails_takes_no_other_with_it() -> None:
    jobs = {"bad": die, "good": fine}
    results, broken = run_all(jobs, 1, CONSOLE, str)
    assert results == {"good": "fine"}
    assert str(broken["bad"]).startswith("KernelDied: the kernel is gone: panic")


def test_a_worker_that_is_killed_leaves_every_job_accounted_for() -> None:
    jobs = {number: partial(os._exit, 1) for number in range(4)}
    results, broken = run_all(jobs, 1, CONSOLE, str)
    assert not results
    assert broken.keys() == jobs.keys()


def test_ctrl_c_begins_no_other_job(tmp_path: Path) -> None:
    jobs = {number: partial(Path.touch, tmp_path / str(number)) for number in range(8)}

    def interrupted(number: int) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, 1, CONSOLE, interrupted)
    assert [file.name for file in tmp_path.iterdir()] == ["0"]
