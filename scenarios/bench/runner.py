"""Measuring: cases take turns, and so do the trees of drivers that are compared."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scenarios.bench.cases import GIB, Acts, Case, Groups, acts
from scenarios.bench.compare import paired
from scenarios.bench.results import Chain, Result
from scenarios.bench.stand import Stand, stand
from scenarios.bench.words import size
from scenarios.oracle import BLOCK, one_sector
from scenarios.pages.chain import Node
from scenarios.storage import VDI, Repository

#: Rounds before it makes sense to ask how precise a ratio is.
_FEWEST: Final = 4

BASELINE, CANDIDATE = "baseline", "candidate"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure on one kind of SR.

    Attributes:
        kind: of SR.
        groups: of cases.
        rounds: turns that each case gets, at most; with two trees a turn is A B B A.
        trees: name -> where the drivers come from, None for our own. One, or two to compare.
        precision: of two trees: a case whose ratio is known as well as that gets no more turns.
        kernel: that hosts boot.
    """

    kind: str
    groups: Groups
    rounds: int
    trees: Mapping[str, Path | None]
    precision: float = 0.0
    kernel: str = "auto"


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of SR.

    Attributes:
        kernel: release of the kernel that it ran on.
        results: of all cases.
        chain: what a revert does to a disk's images; None where two trees are compared.
    """

    kernel: str
    results: list[Result]
    chain: Chain | None


def run(plan: Plan) -> Measured:
    """Measure."""
    with ExitStack() as stack:
        stands = {
            tree: stack.enter_context(stand(plan.kind, tree=path, kernel=plan.kernel))
            for tree, path in plan.trees.items()
        }
        results = [found for group in plan.groups for found in _Group(plan, stands, group).run()]
        first = next(iter(stands.values()))
        release = first.host.kernel.run(["uname", "-r"]).stdout.strip()
        return Measured(release, results, _chain(first) if len(stands) == 1 else None)


def _chain(on: Stand) -> Chain:
    """Revert a disk that has two snapshots to the older one, and look at its images."""
    sr = on.sr()
    disk = sr.create(GIB)
    snapshots = []
    for number in range(3):
        disk.write(one_sector(f"chain {number}", number * BLOCK))
        if number < 2:
            snapshots.append(disk.snapshot())
    before = _images(sr, disk)
    snapshots[0].revert_live_disk()
    after = _images(sr, disk)
    sr.clear()
    return before, after


def _images(sr: Repository, disk: VDI) -> tuple[Node, ...]:
    records = {ref: sr.api.VDI.get_record(ref) for ref in sr.vdis()}
    nodes = [_image(record, ref == disk.ref) for ref, record in records.items()]
    return tuple(sorted(nodes, key=lambda node: (node.role, node.uuid)))


def _image(record: dict[str, Any], is_disk: bool) -> Node:
    role = "disk" if is_disk else "snapshot" if record["managed"] else "base copy"
    detail = size(int(record["physical_utilisation"]))
    return Node(record["uuid"], role, record["sm_config"].get("vhd-parent", ""), detail)


class _Group:
    """Cases that take turns on SRs that are empty."""

    def __init__(self, plan: Plan, stands: Mapping[str, Stand], group: Sequence[Case]) -> None:
        self._plan = plan
        self._stands = stands
        self._group = group
        self._acts: dict[tuple[str, Case], Acts] = {}
        self._results: dict[tuple[str, Case], Result] = {}

    def run(self) -> list[Result]:
        """Measure."""
        for case in self._group:
            for tree in self._stands:
                self._prepare(tree, case)
        trees = [*self._stands]
        turn = [*trees, *reversed(trees)] if len(trees) > 1 else trees
        for number in range(self._plan.rounds):
            # There and back: what the machine does meanwhile hits no case more than the others.
            for case in self._group if number % 2 else reversed(self._group):
                if not self._known(case):
                    for tree in turn:
                        self._measure(tree, case)
        for waiting in self._acts.values():
            waiting.close()
        for found in self._stands.values():
            found.clear()
        return list(self._results.values())

    def _prepare(self, tree: str, case: Case) -> None:
        """The first turn finds everything cold, the second is counted; neither is timed."""
        one = self._stands[tree]
        made = self._acts[tree, case] = acts(one.sr(fallback=case.fallback), case)
        next(made)()
        counts = one.count(next(made))
        self._results[tree, case] = Result(one.kind, case, tree, counts)

    def _measure(self, tree: str, case: Case) -> None:
        one = self._stands[tree]
        action: Callable[[], object] = next(self._acts[tree, case])
        sample = one.measure(one.sr(fallback=case.fallback), action)
        self._results[tree, case].samples.append(sample)

    def _known(self, case: Case) -> bool:
        """Whether more turns would tell nothing."""
        if not self._plan.precision:
            return False
        old, new = (self._results[tree, case].driver_times for tree in self._stands)
        return len(old) >= 2 * _FEWEST and paired(old, new).precision <= self._plan.precision
