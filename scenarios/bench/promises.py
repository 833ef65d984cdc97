"""What a revert must cost at most, beside what it cost in a run.

They compare times of one run: the least of each case, because what a machine adds is never
negative. A busy one can break them all the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from scenarios.bench.cases import GIB, Case
from scenarios.bench.results import Result


@dataclass(frozen=True, slots=True)
class Promise:
    """A bound, and what it is about.

    Attributes:
        measured: a ratio of times.
        bound: it should not be larger.
    """

    kind: str
    what: str
    measured: float
    bound: float

    @property
    def kept(self) -> bool:
        """Whether it is."""
        return self.measured <= self.bound


def promises(results: Iterable[Result]) -> list[Promise]:
    """All that can be told from the results of one tree."""
    ordered = sorted(results, key=lambda found: found.kind)
    return [
        promise
        for kind, found in groupby(ordered, lambda result: result.kind)
        for promise in _of_kind(kind, list(found))
    ]


def _of_kind(kind: str, results: Sequence[Result]) -> Iterator[Promise]:
    times = {result.case: min(result.times) for result in results}
    reverts = {case: spent for case, spent in times.items() if case.operation == "revert"}
    fallbacks = {case: spent for case, spent in times.items() if case.fallback}
    for case, spent in fallbacks.items():
        if Case("revert", case.size) in reverts:
            ratio = reverts[Case("revert", case.size)] / spent
            yield Promise(kind, f"revert over clone fallback, {case.size // GIB} GiB", ratio, 0.5)
    for axis, chosen in _axes(reverts).items():
        if len(chosen) > 1:
            yield Promise(kind, f"flat over {axis}", max(chosen) / min(chosen), 1.3)


def _axes(reverts: dict[Case, float]) -> dict[str, list[float]]:
    """Times of the cases that differ in one thing only."""
    return {
        "size": [spent for case, spent in reverts.items() if case.over_size],
        "data": [spent for case, spent in reverts.items() if case.over_data],
        "depth": [spent for case, spent in reverts.items() if case.over_depth],
    }
