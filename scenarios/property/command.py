"""`testbed mutants`: random programs on wrong drivers, several hosts side by side, one table."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from rich.console import Console
from rich.table import Table

from scenarios.parallel import run_all
from scenarios.property.bed import make
from scenarios.property.mutants import MUTANTS, Mutant
from scenarios.property.runner import Runner
from scenarios.property.search import PROFILES, ProgramFailed, look
from scenarios.property.steps import Program
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.sessions import close_session
from testbed.state import StateDirectory, base
from testbed.status import Status

#: Mutant, and kind of SR.
Key = tuple[str, str]


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


def mutants(options: Options) -> Status:
    """Look for each: passed if all were caught.

    Raises:
        TestbedError: no mutant is called so, or shows on such an SR.
    """
    console = Console(highlight=False)
    jobs = _jobs(options)
    begun = time.monotonic()
    found, broken = run_all(jobs, options.jobs, console, " on ".join)
    console.print(_table(jobs, found))
    for one in found.values():
        if one.why:
            _show(console, one)
    for key, error in broken.items():
        console.print(f"{' on '.join(key)} could not be tried: {error}", style="red", markup=False)
    lived = sum(not one.why for one in found.values())
    counts = [f"{len(found) - lived} caught", f"{lived} alive"]
    counts += [f"{len(broken)} could not be tried"] if broken else []
    console.print(f"{', '.join(counts)}, in {time.monotonic() - begun:.0f} s")
    return Status.of(failed=bool(lived), broken=bool(broken))


def _jobs(options: Options) -> dict[Key, Callable[[], Caught]]:
    for name in options.names:
        if not any(name in mutant.name for mutant in MUTANTS):
            raise TestbedError(f"no mutant is called {name}")
    chosen = [
        mutant
        for mutant in MUTANTS
        if not options.names or any(name in mutant.name for name in options.names)
    ]
    known = sorted({kind for mutant in chosen for kind in mutant.kinds})
    for kind in options.kinds:
        if kind not in known:
            raise TestbedError(
                f"none of these mutants shows on an SR of kind {kind!r}",
                hint=f"they show on: {', '.join(known)}",
            )
    return {
        (mutant.name, kind): partial(_catch, mutant, kind, options)
        for mutant in chosen
        for kind in mutant.kinds
        if not options.kinds or kind in options.kinds
    }


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


def _table(keys: Iterable[Key], found: Mapping[Key, Caught]) -> Table:
    table = Table("wrong driver", "SR", "found", "after", "short after", "steps", "shortest")
    for key in keys:
        if key not in found:
            table.add_row(*key, "[bold red]could not run[/]")
            continue
        one = found[key]
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
