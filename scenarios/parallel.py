"""Jobs side by side, each in a process with hosts of its own, while one watches."""

import multiprocessing
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def run_all(
    jobs: Mapping[K, Callable[[], T]], workers: int, console: Console, say: Callable[[K], str]
) -> tuple[dict[K, T], dict[K, BaseException]]:
    """What each job came to, and which could not run.

    Args:
        jobs: what to do, by name; they and what they come to travel between processes.
        workers: how many at once.
        console: where progress is shown.
        say: what a job is called there.
    """
    results: dict[K, T] = {}
    broken: dict[K, BaseException] = {}
    with _progress(console) as progress, _workers(workers) as pool:
        task = progress.add_task("cases", total=len(jobs))
        started = {pool.submit(job): key for key, job in jobs.items()}
        for future in as_completed(started):
            key, error = started[future], future.exception()
            if error is None:
                results[key] = future.result()
            else:
                broken[key] = error
            progress.console.print(
                f"{say(key)}: {'could not run' if error else 'done'}", style="dim"
            )
            progress.update(task, advance=1)
    return results, broken


def _workers(count: int) -> ProcessPoolExecutor:
    # Not forked: each has threads of a toolstack, and its parent those of the display.
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)
