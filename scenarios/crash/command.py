"""`testbed crash`: every case on every kind of SR, several hosts side by side, one table."""

import random
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table

from scenarios.crash.cases import CASES
from scenarios.crash.cuts import Cuts, Cutter
from scenarios.crash.explorer import Explorer, Failure, Result, booted, repeat
from scenarios.crash.page import page
from scenarios.parallel import run_all
from testbed.errors import TestbedError
from testbed.provision import RECIPES
from testbed.status import Status

#: Most room first: they take longest.
KINDS: Final = ("lvhd", "ext", "file")

#: SR kind and operation.
Key = tuple[str, str]
T = TypeVar("T")


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
        html: file for the page, if there is to be one.
    """

    kinds: Sequence[str]
    cases: Sequence[str]
    states: int
    seed: int
    jobs: int
    keep: Path
    html: Path | None = None


def explore_one(kind: str, case: str, options: Options) -> Result:
    """One case, on a host of its own."""
    with booted(f"crash-{kind}", options.seed) as (host, session):
        explorer = Explorer(host, session, kind, case, seed=options.seed, keep=options.keep)
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


def cut_one(kind: str, case: str, options: Options, count: int) -> Cuts:
    """So many power cuts of one case at random, or with 0 one at each of its FIST points."""
    with booted(f"cut-{kind}", options.seed) as (host, session):
        cutter = Cutter(host, session, kind, case)
        if count:
            return cutter.at_random(count, f"{options.seed} {kind} {case}")
        return cutter.at_points()


def explore(options: Options) -> Status:
    """Explore, show the table and the failures; passed if there was none."""
    console = Console(highlight=False)
    begun = time.monotonic()
    jobs = {key: partial(explore_one, *key, options) for key in _pairs(options)}
    results, broken = _run(jobs, options.jobs, console)
    cells = {key: _cell(result) for key, result in results.items()}
    console.print(_table("power cuts, state by state", cells, broken))
    for result in results.values():
        for failure in result.failures:
            _show(console, result, failure)
    _show_broken(console, broken)
    summary = _summary(results, time.monotonic() - begun)
    console.print(summary, markup=False)
    if options.html is not None:
        page(options.html, results, broken, summary)
    failed = any(result.failures for result in results.values())
    return Status.of(failed=failed, broken=bool(broken))


def cut(options: Options, count: int) -> Status:
    """Cut the power of hosts that work, `count` times in all, or with 0 at every FIST point."""
    console = Console(highlight=False)
    begun = time.monotonic()
    pairs = _pairs(options)
    shares = Counter(random.Random(options.seed).choices(pairs, k=count))
    jobs = {
        key: partial(cut_one, *key, options, shares[key])
        for key in pairs
        if shares[key] or not count
    }
    results, broken = _run(jobs, options.jobs, console)
    cells = {
        key: f"[red]{len(cuts.failures)} failed[/] of {cuts.cuts}"
        if cuts.failures
        else f"[green]{cuts.cuts} cuts[/] {cuts.cycle:.1f} s each"
        for key, cuts in results.items()
    }
    console.print(_table("power cuts of hosts at work", cells, broken))
    for (kind, case), cuts in results.items():
        for failure in cuts.failures:
            console.print(f"{kind} {case}: {failure}", markup=False)
    _show_broken(console, broken)
    console.print(
        f"{sum(cuts.cuts for cuts in results.values())} power cuts, "
        f"{sum(cuts.finished for cuts in results.values())} of them after the operation, "
        f"{sum(len(cuts.failures) for cuts in results.values())} failures "
        f"in {time.monotonic() - begun:.1f} s"
    )
    failed = any(cuts.failures for cuts in results.values())
    return Status.of(failed=failed, broken=bool(broken))


def _pairs(options: Options) -> list[Key]:
    check(options)
    return [(kind, case) for kind in options.kinds or KINDS for case in options.cases or CASES]


def _run(
    jobs: Mapping[Key, Callable[[], T]], workers: int, console: Console
) -> tuple[dict[Key, T], dict[Key, BaseException]]:
    return run_all(jobs, workers, console, " ".join)


def _cell(result: Result) -> str:
    if result.failures:
        return f"[red]{len(result.failures)} failed[/] of {result.states}"
    return f"[green]{result.states} states[/] {result.seconds:.0f} s"


def _table(title: str, cells: Mapping[Key, str], broken: Mapping[Key, BaseException]) -> Table:
    kinds = sorted({kind for kind, _ in (*cells, *broken)})
    table = Table("operation", *kinds, title=title, title_justify="left")
    for case in CASES:
        keys = [(kind, case) for kind in kinds]
        row = ["[red]could not run[/]" if key in broken else cells.get(key, "") for key in keys]
        if any(row):
            table.add_row(case, *row)
    return table


def _show_broken(console: Console, broken: Mapping[Key, BaseException]) -> None:
    for (kind, case), error in broken.items():
        console.print(f"{kind} {case} could not be explored: {error}", style="red", markup=False)


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


def _summary(results: Mapping[Key, Result], seconds: float) -> str:
    states = sum(result.states for result in results.values())
    times: Counter[str] = Counter()
    for result in results.values():
        times.update({name: int(1000 * spent) for name, spent in result.ledger.seconds.items()})
    total = max(1, sum(times.values()))
    shares = ", ".join(f"{name} {100 * spent // total} %" for name, spent in times.most_common())
    return (
        f"{states} states of {sum(result.disks for result in results.values())} disks, "
        f"{sum(result.flushes for result in results.values())} flushes, "
        f"{sum(result.recoveries for result in results.values())} recoveries to "
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
