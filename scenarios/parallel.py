"""Jobs side by side, each in a process with hosts of its own, while one watches."""

import multiprocessing
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class JobFailed(Exception):
    """What went wrong in a job, as text: an error with fields need not survive the journey."""


def run_all(
    jobs: Mapping[K, Callable[[], T]], workers: int, console: Console, say: Callable[[K], str]
) -> tuple[dict[K, T], dict[K, BaseException]]:
    """What each job came to, and which could not run.

    Args:
        jobs: what to do, by name; they and what they come to travel between processes.
        workers: how many at once.
        console: where progress is shown.
        say: what a job is called there.

    Raises:
        KeyboardInterrupt: or anything else that ends the watching: no further job begins.
    """
    results: dict[K, T] = {}
    broken: dict[K, BaseException] = {}
    with _progress(console) as progress, _workers(workers) as pool:
        task = progress.add_task("cases", total=len(jobs))
        # One that was handed over runs, whatever happens: a job is not before a worker is free.
        waiting = iter(jobs.items())
        running: dict[Future[T], K] = {}
        while True:
            for key, job in islice(waiting, workers - len(running)):
                running[_submit(pool, job)] = key
            if not running:
                return results, broken
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key, error = running.pop(future), future.exception()
                if error is None:
                    results[key] = future.result()
                else:
                    broken[key] = error
                progress.console.print(
                    f"{say(key)}: {'could not run' if error else 'done'}", style="dim"
                )
                progress.update(task, advance=1)


def _submit(pool: ProcessPoolExecutor, job: Callable[[], T]) -> Future[T]:
    try:
        return pool.submit(_run, job)
    except BrokenExecutor as error:  # a worker was killed: this job cannot run, nor can others
        refused: Future[T] = Future()
        refused.set_exception(error)
        return refused


def _run(job: Callable[[], T]) -> T:
    try:
        return job()
    except Exception as error:
        raise JobFailed(f"{type(error).__name__}: {error}") from error


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
