"""What `testbed run` shows: progress while it runs, then scenario by SR kind in a table.

Takes the place of pytest's terminal reporter (`-p scenarios.report`). Everything is also in
the junit file, and `pytest scenarios` prints what pytest always prints.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_SCENARIOS = Path(__file__).parent
_RANK = {"passed": 0, "skipped": 1, "failed": 2, "error": 3}
_STYLE = {"passed": "green", "skipped": "yellow", "failed": "bold red", "error": "bold red"}


@dataclass(slots=True)
class Cell:
    """One scenario on one SR kind: its runs, added up."""

    outcome: str = "passed"
    seconds: float = 0.0
    runs: int = 0

    def add(self, outcome: str, seconds: float) -> None:
        """One more phase or run; the worst outcome stays."""
        self.seconds += seconds
        if _RANK[outcome] > _RANK[self.outcome]:
            self.outcome = outcome


@dataclass(slots=True)
class Results:
    """Everything that ran, by scenario and SR kind, in the order of the modules."""

    cells: dict[tuple[str, str], dict[str, Cell]] = field(default_factory=dict)
    kinds: dict[str, None] = field(default_factory=dict)
    failures: list[pytest.TestReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        outcome = report.outcome
        if outcome == "failed" and report.when != "call":
            outcome = "error"  # type: ignore[assignment]  # pytest's own word for it
        group, title, kind = described(report)
        self.kinds.setdefault(kind)
        cell = self.cells.setdefault((group, title), {}).setdefault(kind, Cell())
        cell.add(outcome, report.duration)
        if report.when == "teardown":
            self.notes += [str(text) for name, text in report.user_properties if name == "note"]
        if report.when == "call" or outcome != "passed":
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
            cell.runs += 1
        if outcome in ("failed", "error"):
            self.failures.append(report)


def described(report: pytest.TestReport) -> tuple[str, str, str]:
    """Group, title and SR kind of a scenario, as `pytest_collection_modifyitems` noted them."""
    noted = dict(report.user_properties)
    return str(noted["group"]), str(noted["title"]), str(noted["sr"])


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `testbed run` passes on to the table."""
    parser.getgroup("sr-testbed").addoption(
        "--testbed-html", metavar="FILE", help="write a page, too"
    )


class Reporter:
    """Collects reports, shows them, and sums up."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._console = Console(highlight=False)
        self._results = Results()
        self._problems: list[str] = []
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("booting", total=None)

    def pytest_sessionstart(self) -> None:
        """Begin to show progress."""
        self._progress.start()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The number of scenarios is known."""
        if session.items:
            self._progress.update(self._task, total=len(session.items))

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The same, when workers collect."""
        self._progress.update(self._task, total=len(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one scenario is over."""
        self._results.add(report)
        if report.when == "call" or report.failed:
            group, title, kind = described(report)
            mark = "ok  " if report.passed else ("skip" if report.skipped else "FAIL")
            line = f"{mark} {kind:<10} {group}: {title}"
            self._progress.console.print(f"{line}  ({report.duration:.1f} s)", style="dim")
        if report.when == "teardown":
            self._progress.update(self._task, advance=1, description="scenarios")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported stops everything: say why."""
        if report.failed:
            self._problems.append(f"{report.nodeid}\n{report.longreprtext}")

    def pytest_internalerror(self, excrepr: object) -> None:
        """Pytest itself broke."""
        self._problems.append(str(excrepr))

    def pytest_keyboard_interrupt(self) -> None:
        """Somebody had enough."""
        self._problems.append("interrupted")

    def pytest_sessionfinish(self) -> None:
        """Show the table, then every failure with all that is known."""
        self._progress.stop()
        for problem in self._problems:
            self._console.print(problem, markup=False)
        if self._results.cells:
            self._console.print(self._table())
        for note in self._results.notes:
            self._console.print(note, markup=False)
        for report in self._results.failures:
            self._show_failure(report)
        self._console.print(self._summary(), markup=False)
        if path := self._config.getoption("--testbed-html"):
            self._write_page(Path(path))

    def _write_page(self, path: Path) -> None:
        from scenarios.runpage import page

        seconds = time.monotonic() - self._started
        repeats = [repeat(report, self._config.getoption) for report in self._results.failures]
        kernel = self._config.getoption("--kernel")
        page(path, self._results, seconds, kernel, repeats, self._problems)

    def _table(self) -> Table:
        kinds = sorted(self._results.kinds)
        table = Table("scenario", *kinds, title="VDI.revert on real disks", title_justify="left")
        group = ""
        for (row_group, title), cells in sorted(self._results.cells.items()):
            if row_group != group:
                table.add_section()
                table.add_row(f"[bold]{row_group}[/]")
                group = row_group
            shown = [self._shown(cells.get(kind)) for kind in kinds]
            table.add_row(f"  {title}", *shown)
        return table

    @staticmethod
    def _shown(cell: Cell | None) -> str:
        if cell is None:
            return ""
        style = _STYLE[cell.outcome]
        return f"[{style}]{cell.outcome}[/] {cell.seconds:.1f} s"

    def _show_failure(self, report: pytest.TestReport) -> None:
        console = self._console
        console.rule(f"[bold red]{report.nodeid.rpartition('/')[2]}", align="left")
        console.print(report.longreprtext, markup=False)
        for title, text in report.sections:
            console.print(f"{title}:", style="bold")
            console.print(text, markup=False)
        command = repeat(report, self._config.getoption)
        console.print(f"repeat exactly this:\n  $ {command}", markup=False)

    def _summary(self) -> str:
        counts = self._results.counts
        words = [f"{counts[outcome]} {outcome}" for outcome in _RANK if counts.get(outcome)]
        seconds = time.monotonic() - self._started
        return f"{', '.join(words) or 'nothing ran'} in {seconds:.1f} s"


def repeat(report: pytest.TestReport, option: Callable[[str], Any]) -> str:
    """The command that does once more what failed.

    Args:
        report: of the failure.
        option: the value that an option had, by its name.
    """
    kind = described(report)[2]
    chosen = ["--sr", kind] if kind else []
    file = Path(str(dict(report.user_properties)["file"]))
    if file.is_relative_to(_SCENARIOS):
        command, scenario = "run", report.nodeid.rpartition("scenarios/")[2]
        passed_on = ["--pool", "--driver", "--examples"]
        # Of another profile other programs are tried.
        passed_on += ["--profile"] if option("--profile") != "quick" else []
    else:
        command, scenario, passed_on = "replay", str(file), ["--driver"]
    for name in passed_on:
        chosen += [name, str(option(name))] if option(name) else []
    kernel = option("--kernel")
    return shlex.join(["testbed", command, *chosen, "--kernel", kernel, "--keep", scenario])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note on each scenario what a reader calls it: for the table and the junit file."""
    for item in items:
        parameters = (
            dict(item.callspec.params)
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        kind = parameters.pop("sr", "")
        words = [item.name.partition("[")[0].removeprefix("test_").replace("_", " ")]
        words += [str(value) for value in parameters.values()]
        item.user_properties += [
            ("group", item.path.parent.name),
            ("title", " ".join(words)),
            ("sr", kind),
            ("file", str(item.path)),
        ]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Replace pytest's own reporter, in the process that the user looks at."""
    if hasattr(config, "workerinput"):
        return
    standard = config.pluginmanager.getplugin("terminalreporter")
    if standard is not None:
        config.pluginmanager.unregister(standard)
    config.pluginmanager.register(Reporter(config), "testbed-reporter")
    sys.stdout.flush()
