"""The page of `testbed crash --html FILE`: where the power went, and what came back."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scenarios.crash.explorer import Failure, Result
from scenarios.environment import environment
from scenarios.pages import plots
from scenarios.pages.page import Html, cards, facts, join, section, table, tag, write

Key = tuple[str, str]


def page(
    path: Path, results: Mapping[Key, Result], broken: Mapping[Key, BaseException], summary: str
) -> None:
    """Write the page.

    Args:
        path: where.
        results: by SR kind and operation.
        broken: what could not be explored.
        summary: what the terminal says at the end.
    """
    write(path, _title(results, broken), summary.splitlines()[0], _sections(results, broken))


def _title(results: Mapping[Key, Result], broken: Mapping[Key, BaseException]) -> str:
    failed = sum(len(result.failures) for result in results.values())
    if failed:
        return f"{failed} power cuts lose something"
    if broken:
        return "Not every operation could be explored"
    cut = any(result.states for result in results.values())
    return "Every power cut is survived" if cut else "No power was cut"


def _sections(results: Mapping[Key, Result], broken: Mapping[Key, BaseException]) -> Iterator[Html]:
    kinds = sorted({kind for kind, _ in results})
    if results:
        yield section("By kind of SR", cards(_kind(results, kind) for kind in kinds))
        yield section("Every operation", _table(results, kinds))
        yield section("States explored", tag("div", _bars(results, kinds), cls="card"))
    failures = [(key, failure) for key, found in results.items() for failure in found.failures]
    if failures:
        yield section("What was lost", *(_failure(*found) for found in failures))
    if broken:
        lines = (tag("pre", f"{' '.join(key)}: {error}") for key, error in broken.items())
        yield section("What could not be explored", *lines)
    yield section("Where it ran", facts(environment("uml")))


def _kind(results: Mapping[Key, Result], kind: str) -> Html:
    mine = [result for (of_kind, _), result in results.items() if of_kind == kind]
    failed = sum(len(result.failures) for result in mine)
    states = sum(result.states for result in mine)
    flushes = sum(result.flushes for result in mine)
    return join(
        (
            tag("h3", kind),
            tag("div", str(states), tag("small", f" states after {flushes} flushes"), cls="big"),
            tag("div", f"{failed} failed", cls="bad" if failed else "good"),
        )
    )


def _table(results: Mapping[Key, Result], kinds: Sequence[str]) -> Html:
    cases = dict.fromkeys(case for _, case in results)
    rows: list[list[str | Html]] = [
        [case, *(_cell(results.get((kind, case))) for kind in kinds)] for case in cases
    ]
    return table(("operation", *kinds), rows)


def _cell(result: Result | None) -> Html:
    if result is None:
        return Html("")
    if result.failures:
        return tag("span", f"{len(result.failures)} failed of {result.states}", cls="bad")
    states = tag("span", f"{result.states} states", cls="good")
    return join((states, f", {result.outcomes} outcomes"))


def _bars(results: Mapping[Key, Result], kinds: Sequence[str]) -> Html:
    rows = {
        kind: {
            "survived": float(
                sum(r.states - len(r.failures) for (k, _), r in results.items() if k == kind)
            ),
            "failed": float(sum(len(r.failures) for (k, _), r in results.items() if k == kind)),
        }
        for kind in kinds
    }
    return plots.bars(rows, {"survived": "--main", "failed": "--bad"}, "{:.0f}".format, "states")


def _failure(key: Key, failure: Failure) -> Html:
    lost = "\n".join(failure.lost or ["none"])
    return tag(
        "details",
        tag("summary", " ".join(key)),
        tag("pre", failure.why),
        tag("p", f"after flush {failure.state.window}, these writes were lost:", cls="note"),
        tag("pre", lost),
        open="",
    )
