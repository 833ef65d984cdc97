"""`testbed mutants`: random programs on wrong drivers, several hosts side by side, one table."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Final

from rich.console import Console
from rich.table import Table

from scenarios.property.bed import make
from scenarios.property.mutants import MUTANTS, Mutant
from scenarios.property.runner import Runner
from scenarios.property.search import PROFILES, ProgramFailed, look
from scenarios.property.steps import Program
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.sessions import close_session
from testbed.state import StateDirectory, base


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Attributes:
        names: parts of names of mutants; empty means all.
        kinds: of SR; empty means those on which each shows.
        profile: how long to look.
        jobs: hosts side by side.
    """

    names: Sequence[str]
    kinds: Sequence[str]
    profile: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of a mutant on a kind of SR.

    Attributes:
        kind: of SR.
        mutant: its name.
        why: what was wrong; empty if nothing was noticed.
        program: the shortest one that shows it.
        steps: taken until then.
        seconds: until then, and until the program was short.
    """

    kind: str
    mutant: str
    why: str
    program: Program
    steps: int
    seconds: tuple[float, float]


def mutants(options: Options) -> bool:
    """Look for each; whether all were caught.

    Raises:
        TestbedError: no mutant is called so.
    """
    console = Console(highlight=False)
    jobs = [
        partial(_catch, mutant, kind, options)
        for mutant in _chosen(options.names)
        for kind in mutant.kinds
        if not options.kinds or kind in options.kinds
    ]
    begun = time.monotonic()
    found = _all(jobs, options.jobs, console)
    console.print(_table(found))
    for one in found:
        if one.why:
            _show(console, one)
    lived = sum(not one.why for one in found)
    console.print(
        f"{len(found) - lived} caught, {lived} alive, in {time.monotonic() - begun:.0f} s"
    )
    return not lived


def _chosen(names: Sequence[str]) -> list[Mutant]:
    chosen = [
        mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)
    ]
    if not chosen:
        raise TestbedError(f"no mutant is called {' or '.join(names)}")
    return chosen


def _all(jobs: Sequence[Callable[[], Caught]], workers: int, console: Console) -> list[Caught]:
    found = []
    # Not forked: each has threads of a toolstack.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(job) for job in jobs]):
            one = future.result()
            found.append(one)
            word = "caught" if one.why else "ALIVE"
            console.print(f"{word} {one.kind} {one.mutant}", style="dim", markup=False)
    order = {mutant.name: number for number, mutant in enumerate(MUTANTS)}
    return sorted(found, key=lambda one: (order[one.mutant], one.kind))


def _catch(mutant: Mutant, kind: str, options: Options) -> Caught:
    state = StateDirectory(base(), "mutant")
    try:
        mutant.write(state.path)
        with Host(name=f"mutant-{kind}", tree=state.path, gc_pause=None) as host:
            session = host.session()
            # Nothing is tidied afterwards: a wrong driver might refuse, and the host ends.
            runner = Runner(make(host, session, kind, host.restart))
            begun = time.monotonic()
            try:
                look(runner, PROFILES[options.profile], key=kind)
            except ProgramFailed as failed:
                seconds = failed.seconds, time.monotonic() - begun
                return Caught(kind, mutant.name, failed.why, failed.program, failed.steps, seconds)
            finally:
                close_session(session)
            return Caught(
                kind, mutant.name, "", (), runner.tally.steps, (runner.tally.seconds, 0.0)
            )
    finally:
        state.close()


def _table(found: Sequence[Caught]) -> Table:
    table = Table("wrong driver", "SR", "found", "after", "short after", "steps", "shortest")
    for one in found:
        first, short = one.seconds
        table.add_row(
            one.mutant,
            one.kind,
            "[green]yes[/]" if one.why else "[bold red]no[/]",
            f"{first:.0f} s",
            f"{short:.0f} s" if one.why else "",
            str(one.steps),
            f"{len(one.program)} steps" if one.why else "",
        )
    return table


_LONGEST_REASON: Final = 160


def _show(console: Console, one: Caught) -> None:
    steps = ", ".join(map(str, one.program))
    why = " ".join(one.why.split())
    console.print(f"\n{one.kind}, {one.mutant}:", style="bold", markup=False)
    console.print(f"  {why[:_LONGEST_REASON]}\n  {steps}", markup=False)
