"""The page of `testbed run --html FILE`: what ran, how it ended, where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.environment import environment
from scenarios.pages import plots
from scenarios.pages.page import Html, cards, facts, join, legend, section, table, tag, write

if TYPE_CHECKING:
    from scenarios.report import Cell, Results

_CLASS = {"passed": "good", "skipped": "soft", "failed": "bad", "error": "bad"}
_COLOURS = ("--a", "--b", "--c", "--d")


def page(
    path: Path,
    results: Results,
    seconds: float,
    kernel: str,
    repeats: list[str],
    problems: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: where.
        results: what ran.
        seconds: that it took, on the clock of the wall.
        kernel: what hosts booted.
        repeats: for each failure the command that repeats it.
        problems: why not everything ran that should have.
    """
    counts = results.counts
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "nothing ran"
    write(
        path,
        _title(results, problems),
        f"{said}, in {seconds:.0f} s",
        _sections(results, kernel, repeats, problems),
    )


def _title(results: Results, problems: Sequence[str]) -> str:
    if results.failures:
        return "Scenarios failed"
    if problems:
        return "Not every scenario could run"
    return "Every scenario passed" if results.counts.get("passed") else "No scenario ran"


def _sections(
    results: Results, kernel: str, repeats: list[str], problems: Sequence[str]
) -> Iterator[Html]:
    if problems:
        yield section("Why not everything ran", *(tag("pre", text) for text in problems))
    yield section("By kind of SR", cards(_kind(results, kind) for kind in sorted(results.kinds)))
    if results.failures:
        yield section("What failed", *_failures(results, repeats))
    if times := _times(results):
        groups = list(dict.fromkeys(group for group, _ in results.cells))
        # Four colours go round where there are more groups; each bar says what it is.
        colours = {group: _COLOURS[at % len(_COLOURS)] for at, group in enumerate(groups)}
        yield section(
            "Seconds of all scenarios, by group",
            legend({group: f"var({colour})" for group, colour in colours.items()}),
            tag(
                "div", plots.bars(times, colours, "{:.1f} s".format, "seconds by kind"), cls="card"
            ),
        )
    yield section("Every scenario", _table(results))
    yield section("Where it ran", facts(environment(kernel)))


def _kind(results: Results, kind: str) -> Html:
    cells = [found[kind] for found in results.cells.values() if kind in found]
    passed = sum(cell.outcome == "passed" for cell in cells)
    others = [
        tag("li", tag("span", outcome), tag("span", str(number), cls=_CLASS[outcome]))
        for outcome in ("skipped", "failed", "error")
        if (number := sum(cell.outcome == outcome for cell in cells))
    ]
    return join(
        (
            tag("h3", kind or "any"),
            tag("div", str(passed), tag("small", f" of {len(cells)} passed"), cls="big"),
            tag("ul", *others, cls="plain"),
        )
    )


def _times(results: Results) -> dict[str, dict[str, float]]:
    times: dict[str, dict[str, float]] = {}
    for (group, _), cells in results.cells.items():
        for kind, cell in cells.items():
            parts = times.setdefault(kind or "any", {})
            parts[group] = parts.get(group, 0.0) + cell.seconds
    return dict(sorted(times.items()))


def _table(results: Results) -> Html:
    kinds = sorted(results.kinds)
    rows: list[list[str | Html]] = []
    last = ""
    for (group, title), cells in sorted(results.cells.items()):
        if group != last:
            rows.append([group])
            last = group
        rows.append([title, *(_cell(cells, kind) for kind in kinds)])
    return table(("scenario", *(kind or "any" for kind in kinds)), rows)


def _cell(cells: Mapping[str, Cell], kind: str) -> Html:
    if kind not in cells:
        return Html("")
    cell = cells[kind]
    word = tag("span", cell.outcome, cls=_CLASS[cell.outcome])
    return join((word, f" {cell.seconds:.1f} s"))


def _failures(results: Results, repeats: list[str]) -> Iterator[Html]:
    for report, command in zip(results.failures, repeats, strict=True):
        parts = [tag("pre", report.longreprtext), tag("p", "Repeat exactly this:", cls="note")]
        parts.append(tag("pre", command))
        for title, text in report.sections:
            parts += [tag("p", title, cls="note"), tag("pre", text)]
        name = report.nodeid.rpartition("/")[2]
        yield tag("details", tag("summary", name), *parts, open="")
