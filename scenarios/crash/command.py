"""`testbed crash`: every case on every kind of SR, several hosts side by side, one table."""

import multiprocessing
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scenarios.crash.cases import CASES
from scenarios.crash.explorer import Explorer, Failure, Result, booted, repeat
from testbed.errors import TestbedError
from testbed.provision import RECIPES

#: Most room first: they take longest.
KINDS: Final = ("lvhd", "ext", "file")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; empty means all.

    Attributes:
        kinds: of SR.
        cases: names of operations.
        states: of each case, about.
        seed: what is chosen depends on it.
        jobs: hosts side by side.
        keep: where evidence of failures goes.
    """

    kinds: Sequence[str]
    cases: Sequence[str]
    states: int
    seed: int
    jobs: int
    keep: Path


def explore_one(kind: str, case: str, options: Options) -> Result:
    """One case, on a host of its own."""
    with booted(f"crash-{kind}", options.seed) as (host, session):
        explorer = Explorer(host, session, kind, case, options.seed, options.keep)
        return explorer.explore(options.states)


def check(options: Options) -> None:
    """Raise TestbedError for kinds and cases that do not exist."""
    for chosen, known, what in (
        (options.kinds, [name for name in RECIPES if RECIPES[name].medium != "hba"], "SR kind"),
        (options.cases, CASES, "operation"),
    ):
        for name in chosen:
            if name not in known:
                raise TestbedError(f"no {what} {name!r}", hint=f"there are: {', '.join(known)}")


def explore(options: Options) -> bool:
    """Explore, show the table and the failures; whether there was none."""
    check(options)
    console = Console(highlight=False)
    begun = time.monotonic()
    results: dict[tuple[str, str], Result] = {}
    broken: dict[tuple[str, str], BaseException] = {}
    pairs = [(kind, case) for kind in options.kinds or KINDS for case in options.cases or CASES]
    with _progress(console) as progress, _workers(options.jobs) as pool:
        task = progress.add_task("cases", total=len(pairs))
        jobs = {pool.submit(explore_one, kind, case, options): (kind, case) for kind, case in pairs}
        for key, job in _ended(jobs):
            error = job.exception()
            if error is None:
                results[key] = job.result()
            else:
                broken[key] = error
            states = sum(result.states for result in results.values())
            progress.update(task, advance=1, description=f"{states} states")
    console.print(_table(results, broken))
    for result in results.values():
        for failure in result.failures:
            _show(console, result, failure)
    for (kind, case), error in broken.items():
        console.print(f"{kind} {case} could not be explored: {error}", style="red", markup=False)
    console.print(_summary(results, time.monotonic() - begun), markup=False)
    return not broken and not any(result.failures for result in results.values())


def _workers(count: int) -> ProcessPoolExecutor:
    # Not forked: each has threads of a toolstack, and its parent those of the display.
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def _ended(
    jobs: dict[Future[Result], tuple[str, str]],
) -> Iterator[tuple[tuple[str, str], Future[Result]]]:
    for job in as_completed(jobs):
        yield jobs[job], job


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _table(
    results: dict[tuple[str, str], Result], broken: dict[tuple[str, str], BaseException]
) -> Table:
    kinds = sorted({kind for kind, _ in (*results, *broken)})
    table = Table("operation", *kinds, title="power cuts, state by state", title_justify="left")
    for case in CASES:
        cells = []
        for kind in kinds:
            result = results.get((kind, case))
            if (kind, case) in broken:
                cells.append("[red]could not run[/]")
            elif result is None:
                cells.append("")
            elif result.failures:
                cells.append(f"[red]{len(result.failures)} failed[/] of {result.states}")
            else:
                cells.append(f"[green]{result.states} states[/] {result.seconds:.0f} s")
        if any(cells):
            table.add_row(case, *cells)
    return table


def _show(console: Console, result: Result, failure: Failure) -> None:
    console.rule(f"[bold red]{result.kind} {result.case}", align="left")
    lines = [
        failure.why,
        f"after flush {failure.state.window} of {result.flushes}, these writes were lost:",
        *(f"  {line}" for line in failure.lost or ["none"]),
        *(["the database knew nothing of the disks"] if failure.fresh else []),
    ]
    if failure.file is not None:
        command = shlex.join(["testbed", "crash", "--replay", str(failure.file)])
        lines.append(f"repeat exactly this:\n  $ {command}")
    console.print("\n".join(lines), markup=False)


def _summary(results: dict[tuple[str, str], Result], seconds: float) -> str:
    states = sum(result.states for result in results.values())
    times: Counter[str] = Counter()
    for result in results.values():
        times.update({name: int(1000 * spent) for name, spent in result.ledger.seconds.items()})
    total = max(1, sum(times.values()))
    shares = ", ".join(f"{name} {100 * spent // total} %" for name, spent in times.most_common())
    return (
        f"{states} states, {sum(result.flushes for result in results.values())} flushes, "
        f"{sum(result.outcomes for result in results.values())} outcomes, "
        f"{sum(len(result.failures) for result in results.values())} failures "
        f"in {seconds:.1f} s ({states / max(seconds, 0.1):.1f} a second)\n"
        f"time: {shares}"
    )


def replay(file: Path) -> bool:
    """Repeat a failure; whether the SR recovers now."""
    console = Console(highlight=False)
    with booted("replay") as (host, session):
        found, why = repeat(host, session, file)
    console.print(f"{found.sr[0]} {found.case}: {found.why}", markup=False)
    for line in found.lost:
        console.print(f"  lost: {line}", markup=False)
    console.print(f"[red]fails: {why}" if why else "[green]recovers")
    return not why
