"""What a run of `testbed bench` found out, and the file that keeps it.

The file has JSON lines: first the environment, then one line a result. Times are in seconds, in
the order in which they were taken; sizes are bytes.

    Exception
    └── BadResults     a file does not hold results
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scenarios.bench.cases import Case
from scenarios.bench.stand import Counts, Sample, Step
from scenarios.pages.chain import Node
from testbed.errors import TestbedError

_FORMAT = 1


class BadResults(TestbedError):
    """A file does not hold results of `testbed bench`."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} holds no results of testbed bench: {reason}")


@dataclass(frozen=True, slots=True)
class Result:
    """One case on one kind of SR.

    Attributes:
        kind: of SR.
        case: what was done.
        tree: whose drivers did it: empty for our own, else `baseline` or `candidate`.
        samples: in the order in which they were taken.
        counts: of one turn that was not timed.
    """

    kind: str
    case: Case
    tree: str
    counts: Counts
    samples: list[Sample] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        """Seconds of the XenAPI call."""
        return [sample.seconds for sample in self.samples]

    @property
    def driver_times(self) -> list[float]:
        """Seconds of the driver calls, or of the XenAPI call where it makes none."""
        return [sample.driver or sample.seconds for sample in self.samples]

    @property
    def counted(self) -> dict[str, list[int]]:
        """What is the same on every machine, by its name; more than one where there is a spread."""
        return {
            "bytes": [sample.bytes for sample in self.samples],
            "flushes": [sample.flushes for sample in self.samples],
            "programs": [self.counts.programs],
            "LVM commits": [self.counts.commits],
            "fsyncs": [self.counts.fsyncs],
            "peak space": [self.counts.peak],
        }


#: The images of a disk before a revert, and after it.
Chain = tuple[tuple[Node, ...], tuple[Node, ...]]


@dataclass(frozen=True, slots=True)
class Results:
    """A run.

    Attributes:
        environment: what times depend on.
        results: in the order of the cases.
        chains: kind of SR -> the images before and after a revert.
    """

    environment: dict[str, str]
    results: list[Result]
    chains: dict[str, Chain] = field(default_factory=dict)


def save(path: Path, found: Results) -> None:
    """Write a run down."""
    chains = {
        kind: [[asdict(node) for node in nodes] for nodes in chain]
        for kind, chain in found.chains.items()
    }
    head = {"format": _FORMAT, "environment": found.environment, "chains": chains}
    lines: list[dict[str, Any]] = [head]
    lines += [asdict(result) for result in found.results]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def load(path: Path) -> Results:
    """Read a run.

    Raises:
        BadResults: see there.
    """
    try:
        head, *lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
        if head["format"] != _FORMAT:
            raise BadResults(path, f"format {head['format']}, not {_FORMAT}")
        environment, pairs = head["environment"], head["chains"]
        if not isinstance(environment, dict) or not isinstance(pairs, dict):
            raise BadResults(path, "its environment and chains have no names")
        chains = {kind: _chain(pair) for kind, pair in pairs.items()}
        return Results(environment, list(map(_result, lines)), chains)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadResults(path, str(error)) from error


def _chain(pair: Sequence[Sequence[dict[str, str]]]) -> Chain:
    before, after = (tuple(Node(**node) for node in nodes) for nodes in pair)
    return before, after


def _result(line: dict[str, Any]) -> Result:
    samples = [Sample(**sample) for sample in line["samples"]]
    if not samples or not all(one.seconds > 0 and one.driver >= 0 for one in samples):
        raise ValueError("a case without a time")
    counts = line["counts"]
    steps = tuple(Step(**step) for step in counts["steps"])
    return Result(
        line["kind"],
        Case(**line["case"]),
        line["tree"],
        Counts(**{**counts, "calls": tuple(counts["calls"]), "steps": steps}),
        samples,
    )


def of_tree(results: Iterable[Result], tree: str) -> dict[tuple[str, Case], Result]:
    """The results of one tree, by SR kind and case."""
    return {(found.kind, found.case): found for found in results if found.tree == tree}
