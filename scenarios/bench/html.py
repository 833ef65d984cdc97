"""The page of a run: `testbed bench --html FILE`."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from scenarios.bench.cases import GIB, Case
from scenarios.bench.compare import Comparison
from scenarios.bench.promises import Promise, promises
from scenarios.bench.report import milliseconds
from scenarios.bench.results import Result, Results
from scenarios.bench.words import COLUMNS, change, size
from scenarios.pages import plots
from scenarios.pages.chain import picture
from scenarios.pages.page import Html, cards, facts, join, legend, section, table, tag, write
from scenarios.pages.plots import Point, Series

#: Kinds of SR that could not be measured, and why.
Broken = Mapping[str, BaseException]

_MAIN, _OTHER = "--main", "--other"
#: Where the time of a revert goes -> colour.
_PARTS: Final = {
    "LVM": "--a",
    "syncs": "--b",
    "calls of the toolstack": "--c",
    "all else": "--d",
}
_PREFIXES: Final = {"lvm": "LVM", "fsync": "syncs", "xapi": "calls of the toolstack"}


def page(path: Path, found: Results, broken: Broken) -> None:
    """Write what one tree of drivers costs."""
    kinds = list(dict.fromkeys(result.kind for result in found.results))
    lead = f"{len(found.results)} measurements on {len(kinds)} kinds of SR, {_where(found)}"
    sections = (*_what_is_missing(broken), *_sections(found, kinds))
    write(path, "What storage operations cost", lead, sections)


def comparison_page(
    path: Path,
    found: Results,
    comparisons: Sequence[Comparison],
    threshold: float,
    broken: Broken,
) -> None:
    """Write how two trees of drivers compare."""
    lead = f"{len(comparisons)} cases, in turns A B B A, {_where(found)}"
    rows = [
        (
            one.kind,
            str(one.case),
            tag("span", str(one.ratio), cls="bad" if one.ratio.low > 1 + threshold else ""),
            _changes(one),
        )
        for one in comparisons
    ]
    headings = ("SR", "operation", "candidate over baseline (95 %)", "counted")
    write(
        path,
        _verdict(comparisons, threshold, broken),
        lead,
        (
            *_what_is_missing(broken),
            section("Every case", table(headings, rows)),
            section("Where it was measured", facts(found.environment)),
        ),
    )


def _verdict(comparisons: Sequence[Comparison], threshold: float, broken: Broken) -> str:
    worse = sum(one.regressed(threshold) for one in comparisons)
    if worse:
        return f"{worse} regressions above {100 * threshold:g} %"
    if broken or not comparisons:
        return "Not everything could be compared"
    return f"No regression above {100 * threshold:g} %"


def _what_is_missing(broken: Broken) -> Iterator[Html]:
    if broken:
        lines = (tag("pre", f"{kind}: {error}") for kind, error in broken.items())
        yield section("What could not be measured", *lines)


def _where(found: Results) -> str:
    about = found.environment
    return f"kernel {about['kernel under test']}, {about['machine']}"


def _changes(one: Comparison) -> Html:
    more = [tag("span", change(name, *pair), cls="bad") for name, pair in one.more.items()]
    less = [tag("span", change(name, *pair), cls="good") for name, pair in one.less.items()]
    return join(more + less or ["same"])


def _sections(found: Results, kinds: Sequence[str]) -> Iterator[Html]:
    results = found.results
    yield section("A revert of 100 GiB", _headlines(results, kinds))
    if over_size := list(_panels(results, kinds, lambda case: case.over_size, _by_size)):
        yield section(
            "Over the size of the disk",
            tag("p", "Milliseconds of the XenAPI call: median, least and most.", cls="note"),
            legend({"revert": f"var({_MAIN})", "clone fallback": f"var({_OTHER})"}),
            cards(over_size),
        )
    if over_depth := list(_panels(results, kinds, lambda case: case.over_depth, _by_depth)):
        yield section(
            "Over the depth of the chain",
            tag("p", "Base copies below the disk; milliseconds as above.", cls="note"),
            cards(over_depth),
        )
    if bars := _where_time_goes(results, kinds):
        yield section("Where the time of one revert goes", *bars)
    if found.chains:
        yield _chains(found)
    yield section("Everything", *(_of_kind(results, kind) for kind in kinds))
    yield section("Where it was measured", facts(found.environment))


# --- the numbers ------------------------------------------------------------------------------


def _headlines(results: Sequence[Result], kinds: Sequence[str]) -> Html:
    kept = promises(results)
    found = {(result.kind, result.case): result for result in results}
    return cards(
        _headline(
            kind,
            found.get((kind, Case("revert"))),
            found.get((kind, Case("fallback"))),
            [promise for promise in kept if promise.kind == kind],
        )
        for kind in kinds
    )


def _headline(
    kind: str, revert: Result | None, fallback: Result | None, given: Iterable[Promise]
) -> Html:
    parts = [tag("h3", kind)]
    if revert:
        beside = f" ms, fallback {_median(fallback)} ms" if fallback else " ms"
        parts.append(tag("div", _median(revert), tag("small", beside), cls="big"))
        written = size(statistics.median_low(revert.counted["bytes"]))
        counts = f"{revert.counts.commits} LVM commits, {revert.counts.fsyncs} syncs, {written}"
        parts.append(tag("div", counts, cls="note"))
    rows = [
        tag(
            "li",
            tag("span", promise.what),
            tag(
                "span",
                f"{promise.measured:.2f} x {'≤' if promise.kept else '>'} {promise.bound:g} x",
                cls="good" if promise.kept else "bad",
            ),
        )
        for promise in given
    ]
    return join((*parts, tag("ul", *rows, cls="plain")))


def _median(result: Result) -> str:
    return milliseconds(statistics.median(result.times))


# --- plots ------------------------------------------------------------------------------------

Axis = Callable[[Case], float]


def _by_size(case: Case) -> float:
    return case.size


def _by_depth(case: Case) -> float:
    return case.depth


def _panels(
    results: Sequence[Result], kinds: Sequence[str], belongs: Callable[[Case], bool], axis: Axis
) -> Iterator[Html]:
    """A plot for each kind of SR that was measured at two places of the axis, at least."""
    for kind in kinds:
        mine = [found for found in results if found.kind == kind and belongs(found.case)]
        series = [
            _series(name, colour, [found for found in mine if found.case.operation == name], axis)
            for name, colour in (("revert", _MAIN), ("fallback", _OTHER))
        ]
        if len(series[0].points) > 1:
            over_size = axis is _by_size
            drawn = plots.plot(
                [one for one in series if one.points],
                say_x=_say_size if over_size else "{:.0f}".format,
                say_y=milliseconds,
                logarithmic=over_size,
                alt=f"cost of a revert on {kind}",
            )
            yield join((tag("h3", kind), drawn))


def _series(name: str, colour: str, found: Iterable[Result], axis: Axis) -> Series:
    points = [
        Point(axis(one.case), statistics.median(one.times), min(one.times), max(one.times))
        for one in sorted(found, key=lambda one: axis(one.case))
    ]
    return Series(name, colour, points)


def _say_size(count: float) -> str:
    return f"{count / GIB:.0f} GiB" if count < 1000 * GIB else f"{count / (GIB << 10):.0f} TiB"


def _where_time_goes(results: Sequence[Result], kinds: Sequence[str]) -> list[Html]:
    """What the steps of the turn that was noted took, and of a median turn the rest."""
    chosen = {
        found.kind: found for found in results if found.case == Case("revert") and found.samples
    }
    if not chosen:
        return []
    rows = {kind: _parts(chosen[kind]) for kind in kinds if kind in chosen}
    note = "Seconds of each step in the turn that was noted; all else is the rest of a timed one."
    return [
        tag("p", note, cls="note"),
        legend({part: f"var({colour})" for part, colour in _PARTS.items()}),
        tag("div", plots.bars(rows, _PARTS, _say_time, "where the time goes"), cls="card"),
        *(_steps(chosen[kind]) for kind in rows),
    ]


def _parts(found: Result) -> dict[str, float]:
    parts = dict.fromkeys(_PARTS, 0.0)
    for step in found.counts.steps:
        parts[_PREFIXES[step.what.partition(" ")[0]]] += step.seconds
    parts["all else"] = max(0.0, statistics.median(found.times) - sum(parts.values()))
    return parts


def _say_time(seconds: float) -> str:
    return f"{milliseconds(seconds)} ms"


def _steps(found: Result) -> Html:
    rows = [
        (step.what, milliseconds(step.seconds), str(step.commits or ""))
        for step in found.counts.steps
    ]
    shown = table(("step", "ms", "LVM commits"), rows)
    return tag("details", tag("summary", f"{found.kind}, step by step"), shown)


# --- pictures and tables ----------------------------------------------------------------------


def _chains(found: Results) -> Html:
    drawn = [
        tag(
            "figure",
            tag("h3", f"{kind}: {moment}"),
            picture(nodes, f"chain on {kind} {moment}"),
        )
        for kind, (before, after) in found.chains.items()
        for moment, nodes in (("before", before), ("after", after))
    ]
    text = "The disk gets a new, empty leaf above the base copy that its snapshot stands on."
    return section(
        "A chain before and after a revert", tag("p", text, cls="note"), cards(drawn, wide=True)
    )


def _of_kind(results: Sequence[Result], kind: str) -> Html:
    rows = [
        (str(found.case), *(cell(found) for cell in COLUMNS.values()))
        for found in results
        if found.kind == kind
    ]
    shown = table(("operation", *COLUMNS), rows)
    return tag("details", tag("summary", kind), shown, open="")
