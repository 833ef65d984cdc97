"""What programs are made of: plain data that can be compared, shortened, printed and saved.

Disks, VMs and their snapshots have names that a program gives them. A step may name something
that is not there: then it makes no sense (`World.makes_sense`) and is passed over, so whatever
is left of a program after steps were taken out of it is a program, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scenarios.oracle import noise


@dataclass(frozen=True, slots=True)
class Create:
    """A new disk."""

    disk: str
    size: int


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written durably: noise that depends on `fill`, zeros for 0.

    A disk that is not attached is attached for it.
    """

    disk: str
    offset: int
    length: int
    fill: int

    @property
    def data(self) -> bytes:
        """The bytes."""
        return noise(f"fill {self.fill}", self.length) if self.fill else bytes(self.length)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a disk, which may be a snapshot itself."""

    disk: str
    name: str


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone of a disk."""

    disk: str
    name: str


@dataclass(frozen=True, slots=True)
class Revert:
    """The disk that a snapshot was taken of becomes as it was then."""

    snapshot: str


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size, in bytes."""

    disk: str
    size: int


@dataclass(frozen=True, slots=True)
class Destroy:
    """A disk or snapshot goes."""

    disk: str


@dataclass(frozen=True, slots=True)
class Attach:
    """A disk is opened in dom0, `RO` or `RW`, and stays so."""

    disk: str
    mode: str


@dataclass(frozen=True, slots=True)
class Detach:
    """The opposite."""

    disk: str


@dataclass(frozen=True, slots=True)
class Track:
    """Changed block tracking is switched."""

    disk: str
    on: bool


@dataclass(frozen=True, slots=True)
class MakeVM:
    """A halted VM with some disks."""

    vm: str
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotVM:
    """A snapshot of a VM; that of its disk `a` is called `<name>.a`."""

    vm: str
    name: str


@dataclass(frozen=True, slots=True)
class RevertVM:
    """All disks of the VM go back, or none."""

    snapshot: str


@dataclass(frozen=True, slots=True)
class Scan:
    """SR.scan."""


@dataclass(frozen=True, slots=True)
class Replug:
    """The SR is detached and attached."""


@dataclass(frozen=True, slots=True)
class Collect:
    """The garbage collector runs to its end."""


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The host loses its power, and boots."""


Operation = (
    Create | Write | Snapshot | Clone | Revert | Resize | Destroy | Attach | Detach | Track
    | MakeVM | SnapshotVM | RevertVM | Scan | Replug | Collect | PowerCut
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crash:
    """An operation that meets a FIST point: `error`, `kill` or `power-cut`.

    If it does not come by that point, it must do its work.
    """

    step: Operation
    point: str
    action: str


Step = Operation | Crash
Program = tuple[Step, ...]


def operation(step: Step) -> Operation:
    """What is done, whatever happens meanwhile."""
    return step.step if isinstance(step, Crash) else step


def _kinds(program: Sequence[Step]) -> Iterator[str]:
    for step in program:
        yield type(step).__name__
        yield type(operation(step)).__name__


def as_scenario(program: Sequence[Step], why: str) -> str:
    """A module that pytest runs, and `testbed replay`; `why` is what it fails with."""
    names = ", ".join(sorted(set(_kinds(program))))
    steps = "".join(f"    {step!r},\n" for step in program)
    said = why.replace("\\", "\\\\").replace('"""', "'''")
    return f'''"""{said}
"""

from scenarios.plugin import RepositoryCache
from scenarios.property.runner import run
from scenarios.property.steps import {names}
from scenarios.storage import Repository

STEPS = (
{steps})


def test_program(sr: Repository, repositories: RepositoryCache) -> None:
    """What was promised above does not happen."""
    run(sr, repositories.restart, STEPS)
'''
