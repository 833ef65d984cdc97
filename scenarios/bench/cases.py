"""What is measured: operations, and what they are measured over.

An operation is a generator: it gets everything ready, yields what is to be measured, and tidies
up when it is asked for the next one. So cases take turns, and none pays for another's making.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from scenarios.machine import Machines
from scenarios.oracle import BLOCK, MiB, Span, noise
from scenarios.storage import VDI, Repository

GIB: Final = 1 << 30
#: The largest disk that a VHD can be; it has tables for 2 TiB.
LARGEST: Final = 2040 * GIB
#: What is measured over data and depth.
SMALL: Final = 2 * GIB
_PAGE: Final = 4096

Action = Callable[[], object]
Acts = Generator[Action, None, None]


@dataclass(frozen=True, slots=True)
class Case:
    """An operation on a disk.

    Attributes:
        operation: a key of OPERATIONS.
        size: of the disk, bytes.
        written: percent of its blocks (2 MiB) that hold something: a page each, in the snapshot
            and again in what a revert loses; 0 is a disk that was never written to.
        depth: base copies below it.
        cbt: whether changed blocks are tracked.
        disks: of the VM.
    """

    operation: str
    size: int = 100 * GIB
    written: float = 0.01
    depth: int = 1
    cbt: bool = False
    disks: int = 1

    @property
    def fallback(self) -> bool:
        """Whether it is for a driver that has no revert."""
        return self.operation == "fallback"

    @property
    def over_size(self) -> bool:
        """Whether it differs in size alone from the others of its operation."""
        return self == Case(self.operation, self.size) and self.size != SMALL

    @property
    def over_data(self) -> bool:
        """Whether it differs in what is written."""
        return (
            self == Case(self.operation, SMALL, written=self.written) != Case(self.operation, SMALL)
        )

    @property
    def over_depth(self) -> bool:
        """Whether it differs in depth alone."""
        return self == Case(self.operation, SMALL, depth=self.depth)

    def __str__(self) -> str:
        words = [self.operation, f"{self.size / GIB:g} GiB"]
        words += [f"{self.written:g} % written"] if self.written != 0.01 else []
        words += [f"{self.depth} deep"] if self.depth > 1 else []
        words += ["cbt"] if self.cbt else []
        words += [f"{self.disks} disks"] if self.disks > 1 else []
        return ", ".join(words)


def _create(sr: Repository, case: Case) -> Acts:
    made: list[VDI] = []
    while True:
        yield lambda: made.append(sr.create(case.size))
        made.pop().destroy()


def _snapshot(sr: Repository, case: Case) -> Acts:
    made: list[VDI] = []
    while True:
        disk = _new(sr, case)
        _write(disk, case)
        yield lambda disk=disk: made.append(disk.snapshot())  # type: ignore[misc]
        made.pop().destroy()
        disk.destroy()


def _clone(sr: Repository, case: Case) -> Acts:
    _, snapshot = _with_snapshot(sr, case)
    made: list[VDI] = []
    while True:
        yield lambda: made.append(snapshot.clone())
        made.pop().destroy()


def _revert(sr: Repository, case: Case) -> Acts:
    """In place or not: the disk that results is the one that the next revert is of."""
    disk, snapshot = _with_snapshot(sr, case)
    made = [disk]
    while True:
        _write(made.pop(), case)
        yield lambda: made.append(snapshot.revert_live_disk())


def _revert_vm(sr: Repository, case: Case) -> Acts:
    machines = Machines(sr)
    disks = [_new(sr, case) for _ in range(case.disks)]
    for disk in disks:
        _write(disk, case)
    machine = machines.make(*disks)
    snapshot = machine.snapshot()
    try:
        while True:
            for ref in machine.disks().values():
                _write(VDI(sr, ref), case)
            yield snapshot.revert
    finally:
        machines.clear()


def _delete(sr: Repository, case: Case) -> Acts:
    while True:
        disk = _new(sr, case)
        _write(disk, case)
        yield disk.destroy


def _resize(sr: Repository, case: Case) -> Acts:
    disk = _new(sr, case)
    size = case.size
    while True:
        size += BLOCK
        yield lambda size=size: disk.resize(size)  # type: ignore[misc]


def _attach(sr: Repository, case: Case) -> Acts:
    disk, _ = _with_snapshot(sr, case)
    vbd = sr.create_vbd(disk.ref)
    while True:
        yield lambda: sr.api.VBD.plug(vbd)
        sr.api.VBD.unplug(vbd)


def _scan(sr: Repository, case: Case) -> Acts:
    _with_snapshot(sr, case)
    while True:
        yield sr.scan


def _coalesce(sr: Repository, case: Case) -> Acts:
    """Two base copies and a leaf become one disk."""
    disk = _new(sr, case)
    while True:
        for snapshot in [_written_snapshot(disk, case) for _ in range(2)]:
            snapshot.destroy()
        yield sr.collect


OPERATIONS: Final[dict[str, Callable[[Repository, Case], Acts]]] = {
    "create": _create,
    "snapshot": _snapshot,
    "clone": _clone,
    "revert": _revert,
    "fallback": _revert,
    "revert vm": _revert_vm,
    "delete": _delete,
    "resize": _resize,
    "attach": _attach,
    "scan": _scan,
    "coalesce": _coalesce,
}


def acts(sr: Repository, case: Case) -> Acts:
    """Get a case ready, and do it as often as one asks."""
    return OPERATIONS[case.operation](sr, case)


def _new(sr: Repository, case: Case) -> VDI:
    disk = sr.create(case.size)
    if case.cbt:
        sr.api.VDI.enable_cbt(disk.ref)
    return disk


def _with_snapshot(sr: Repository, case: Case) -> tuple[VDI, VDI]:
    """A disk as deep as the case says, and its last snapshot."""
    disk = _new(sr, case)
    snapshots = [_written_snapshot(disk, case) for _ in range(case.depth)]
    return disk, snapshots[-1]


def _written_snapshot(disk: VDI, case: Case) -> VDI:
    _write(disk, case)
    return disk.snapshot()


def _write(disk: VDI, case: Case) -> None:
    blocks = case.size // BLOCK
    count = -(-int(blocks * case.written) // 100) if case.written else 0
    if case.written:
        page = noise("written", _PAGE)
        count = max(1, count)
        disk.write([Span(number * blocks // count * BLOCK, page) for number in range(count)])


#: Cases that take turns; before each group the SR is empty.
Groups = tuple[tuple[Case, ...], ...]

_LIFE: Final = tuple(
    Case(name) for name in ("create", "snapshot", "clone", "delete", "resize", "attach", "scan")
)

QUICK: Final[Groups] = (
    _LIFE,
    (Case("revert", GIB), Case("revert"), Case("revert", LARGEST), Case("fallback")),
    (
        *(Case("revert", SMALL, written=percent) for percent in (0, 100)),
        Case("revert", cbt=True),
        *(Case("revert vm", disks=count) for count in (1, 3)),
    ),
    tuple(Case("revert", SMALL, depth=depth) for depth in (1, 29)),
    (Case("coalesce", 64 * MiB, written=100),),
)

FULL: Final[Groups] = (
    *(
        tuple(Case(case.operation, size) for case in _LIFE)
        for size in (GIB, 100 * GIB, LARGEST - GIB)
    ),
    tuple(
        Case(name, size) for size in (GIB, 100 * GIB, LARGEST) for name in ("revert", "fallback")
    ),
    (
        *(Case("revert", SMALL, written=percent) for percent in (0, 10, 50, 100)),
        Case("revert", cbt=True),
        *(Case("revert vm", disks=count) for count in (1, 2, 4, 7)),
    ),
    tuple(Case("revert", SMALL, depth=depth) for depth in (1, 8, 15, 22, 29)),
    tuple(Case("coalesce", size, written=100) for size in (64 * MiB, GIB)),
)
