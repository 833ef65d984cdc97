"""All small programs: what hides in corners is found by trying all corners.

Up to three of eight kinds of operation, on one or two disks that hold something. Two programs
that differ only in which disk is called what are one. A program that others begin with is
tried with them, because every step is held against the model: so the longest are enough.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Final

from scenarios.oracle import BLOCK
from scenarios.property.model import World
from scenarios.property.steps import (
    Clone,
    Collect,
    Create,
    Destroy,
    Operation,
    PowerCut,
    Program,
    Resize,
    Revert,
    Snapshot,
    Write,
)

LONGEST: Final = 3
_DISKS: Final = ("a", "b")


def beginning(disks: int) -> tuple[Operation, ...]:
    """Disks that hold something in two blocks."""
    names = _DISKS[:disks]
    made = [Create(name, 2 * BLOCK) for name in names]
    written = [Write(name, BLOCK - 512, 1024, number) for number, name in enumerate(names, 1)]
    return (*made, *written)


def programs(disks: int, length: int = LONGEST) -> Iterator[Program]:
    """All programs of so many operations, behind a `beginning`."""
    # Bytes do not decide what comes next: these disks have one for each block.
    start = World()
    for name in _DISKS[:disks]:
        start.do(Create(name, 2))
    for steps in _grown(start, (), length):
        yield (*beginning(disks), *map(_in_bytes, steps))


def _in_bytes(step: Operation) -> Operation:
    return replace(step, size=step.size * BLOCK) if isinstance(step, Resize) else step


def count(disks: int) -> int:
    """How many programs there are of up to three operations."""
    return sum(1 for length in range(1, LONGEST + 1) for _ in programs(disks, length))


def _grown(
    world: World, steps: tuple[Operation, ...], length: int
) -> Iterator[tuple[Operation, ...]]:
    if len(steps) == length:
        yield steps
        return
    for step in _next(world, steps):
        after = deepcopy(world)
        if not isinstance(step, Write):
            after.do(step)
        yield from _grown(after, (*steps, step), length)


def _next(world: World, steps: Sequence[Operation]) -> Iterator[Operation]:
    """The operations that can be done now, and are not the same as another one."""
    fresh = "cdefgh"[len(steps)]
    for name, disk in world.disks.items():
        if name == "b" and not _told_apart(steps):
            continue  # nothing was done to either: what is done first is done to a
        yield Write(name, len(steps) * 4096, BLOCK, 3 + len(steps))
        yield Snapshot(name, fresh)
        yield Clone(name, fresh)
        yield Resize(name, disk.content.size + 1)
        yield Destroy(name)
        if disk.of and not world.refusal(Revert(name)):
            yield Revert(name)
    yield Collect()
    yield PowerCut()


def _told_apart(steps: Sequence[Operation]) -> bool:
    return any(not isinstance(step, (Collect, PowerCut)) for step in steps)
