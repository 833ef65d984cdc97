"""`testbed bench`: measure on every kind of SR, several hosts side by side; show, compare, keep."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from scenarios.bench import html
from scenarios.bench.cases import FULL, OPERATIONS, QUICK, Case, Groups
from scenarios.bench.compare import Comparison, compare_all
from scenarios.bench.promises import Promise, promises
from scenarios.bench.results import Result, Results, load, of_tree, save
from scenarios.bench.runner import BASELINE, CANDIDATE, Plan, run
from scenarios.bench.words import COLUMNS, change
from scenarios.environment import environment
from scenarios.parallel import run_all
from scenarios.plugin import DEFAULT_KINDS
from testbed.errors import TestbedError
from testbed.provision import RECIPES
from testbed.status import Status

#: Turns that each case gets: of one tree, and at most where two are compared.
_ROUNDS: Final = {"quick": 3, "full": 9, "compare": 40}
#: Columns of a table when the output is no terminal, or a narrow one.
_WIDTH: Final = 120


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; empty means all.

    Attributes:
        kinds: of SR.
        operations: keys of OPERATIONS.
        cases: as the table calls them.
        quick: the shorter list of cases.
        rounds: turns of each case, 0 for the usual number.
        jobs: hosts side by side.
        trees: `baseline` and `candidate` -> where their drivers are; empty for our own drivers.
        threshold: slower by more than this is a regression; 0.05: 5 percent.
        kernel: that hosts boot.
        json: file for the results.
        html: file for the page.
    """

    kinds: Sequence[str] = ()
    operations: Sequence[str] = ()
    cases: Sequence[str] = ()
    quick: bool = False
    rounds: int = 0
    jobs: int = 1
    trees: Mapping[str, Path] | None = None
    threshold: float = 0.05
    kernel: str = "auto"
    json: Path | None = None
    html: Path | None = None


def bench(options: Options) -> Status:
    """Measure, show, keep; failed if something got worse, where two trees are compared."""
    console = _console()
    begun = time.monotonic()
    jobs = {plan.kind: partial(run, plan) for plan in _plans(options)}
    found, broken = run_all(jobs, options.jobs, console, str)
    measured = {kind: found[kind] for kind in jobs if kind in found}
    results = Results(
        environment(", ".join(sorted({one.kernel for one in measured.values()}))),
        [result for one in measured.values() for result in one.results],
        {kind: one.chain for kind, one in measured.items() if one.chain},
    )
    if options.json is not None:
        save(options.json, results)
    if options.trees:
        comparisons = _confirmed(_in_turns(results), options, console)
        worse = _show_comparisons(console, comparisons, options.threshold)
        if options.html is not None:
            html.comparison_page(options.html, results, comparisons, options.threshold, broken)
    else:
        worse = False
        show(console, results.results)
        if options.html is not None:
            html.page(options.html, results, broken)
    for kind, error in broken.items():
        console.print(f"{kind} could not be measured: {error}", style="red", markup=False)
    console.print(f"{len(results.results)} results in {time.monotonic() - begun:.1f} s")
    return Status.of(failed=worse, broken=bool(broken) or not results.results)


def compare_files(old: Path, new: Path, threshold: float) -> Status:
    """Show what differs between two runs; failed if something got worse.

    Raises:
        BadResults: a file is none of ours.
        TestbedError: they have nothing in common.
    """
    console = _console()
    before, now = load(old), load(new)
    for name in sorted(before.environment.keys() | now.environment.keys()):
        was, became = before.environment.get(name, "-"), now.environment.get(name, "-")
        if was != became:
            console.print(f"{name}: {was} -> {became}", style="yellow", markup=False)
    comparisons = compare_all(_only_tree(before), _only_tree(now), in_turns=False)
    if not comparisons:
        raise TestbedError(f"{old} and {new} have no case in common")
    return Status.of(failed=_show_comparisons(console, comparisons, threshold), broken=False)


def _only_tree(found: Results) -> dict[tuple[str, Case], Result]:
    """The results of the tree that a run is about."""
    return of_tree(found.results, CANDIDATE) or of_tree(found.results, "")


def _in_turns(found: Results) -> list[Comparison]:
    old, new = (of_tree(found.results, tree) for tree in (BASELINE, CANDIDATE))
    return compare_all(old, new, in_turns=True)


def _confirmed(
    comparisons: Sequence[Comparison], options: Options, console: Console
) -> list[Comparison]:
    """Measure what is slower once more: it counts if fresh hosts, booted the other way, agree.

    Two boots of one tree can differ by more than a threshold, for as long as they run.
    """
    slow = [one for one in comparisons if not one.more and one.regressed(options.threshold)]
    if not slow or not options.trees:
        return list(comparisons)
    asked = replace(
        options,
        kinds=list(dict.fromkeys(one.kind for one in slow)),
        cases=list(dict.fromkeys(str(one.case) for one in slow)),
        trees=dict(reversed(list(options.trees.items()))),
    )
    jobs = {plan.kind: partial(run, plan) for plan in _plans(asked)}
    found, _ = run_all(jobs, options.jobs, console, "{} once more".format)
    results = [result for one in found.values() for result in one.results]
    again = {(one.kind, one.case): one for one in _in_turns(Results({}, results))}
    return [
        min((one, again.get((one.kind, one.case), one)), key=lambda both: both.ratio.low)
        if one in slow
        else one
        for one in comparisons
    ]


def _plans(options: Options) -> list[Plan]:
    groups = FULL if not (options.trees or options.quick) else QUICK
    titles = [str(case) for group in groups for case in group]
    for chosen, known, what in (
        (options.kinds, RECIPES, "SR kind"),
        (options.operations, OPERATIONS, "operation"),
        (options.cases, titles, "case"),
    ):
        for name in chosen:
            if name not in known:
                raise TestbedError(f"no {what} {name!r}", hint=f"there are: {'; '.join(known)}")
    chosen_groups = _chosen(groups, options)
    if not chosen_groups:
        raise TestbedError("no case is both one of these and of these operations")
    usual = "compare" if options.trees else "quick" if options.quick else "full"
    return [
        Plan(
            kind,
            chosen_groups,
            options.rounds or _ROUNDS[usual],
            options.trees or {"": None},
            precision=options.threshold if options.trees else 0.0,
            kernel=options.kernel,
        )
        for kind in options.kinds or DEFAULT_KINDS
    ]


def _chosen(groups: Groups, options: Options) -> Groups:
    def wanted(case: Case) -> bool:
        return (not options.operations or case.operation in options.operations) and (
            not options.cases or str(case) in options.cases
        )

    chosen = (tuple(case for case in group if wanted(case)) for group in groups)
    return tuple(group for group in chosen if group)


def _console() -> Console:
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    return console


# --- what is shown ---------------------------------------------------------------------------


def show(console: Console, results: Sequence[Result]) -> None:
    """Print a table for each kind of SR, and the promises."""
    for kind in dict.fromkeys(found.kind for found in results):
        table = Table(title=kind, title_justify="left")
        table.add_column("operation", no_wrap=True)
        for heading in COLUMNS:
            table.add_column(heading, justify="right", no_wrap=True)
        for found in results:
            if found.kind == kind:
                table.add_row(str(found.case), *(cell(found) for cell in COLUMNS.values()))
        console.print(table)
    _show_promises(console, promises(results))


def _show_promises(console: Console, given: Sequence[Promise]) -> None:
    if given:
        table = Table("", "number", "measured", "bound", title="Numbers", title_justify="left")
        for promise in given:
            style = "green" if promise.kept else "bold red"
            measured = f"[{style}]{promise.measured:.2f} x[/]"
            table.add_row(promise.kind, promise.what, measured, f"{promise.bound:g} x")
        console.print(table)


def _show_comparisons(
    console: Console, comparisons: Sequence[Comparison], threshold: float
) -> bool:
    """Print the table; whether something got worse."""
    table = Table("", "operation", title="candidate over baseline", title_justify="left")
    for heading in ("time (95 %)", "counted"):
        table.add_column(heading, no_wrap=True)
    for found in comparisons:
        counted = [f"[bold red]{change(name, *pair)}[/]" for name, pair in found.more.items()]
        counted += [f"[green]{change(name, *pair)}[/]" for name, pair in found.less.items()]
        slower = found.ratio.low > 1 + threshold
        ratio = f"[bold red]{found.ratio}[/]" if slower else str(found.ratio)
        table.add_row(found.kind, str(found.case), ratio, ", ".join(counted) or "same")
    console.print(table)
    worse = [f"{one.kind}: {one.case}" for one in comparisons if one.regressed(threshold)]
    if worse:
        console.print(f"[bold red]{len(worse)} regressions[/]: {'; '.join(worse)}")
    elif comparisons:
        console.print(f"[green]no regression[/] above {100 * threshold:g} %")
    return bool(worse)
