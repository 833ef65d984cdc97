"""Makes a failing program short.

Hypothesis can do that, too, but knows nothing of steps: it tries some hundred variants, and on
volumes each takes a second or more. Any part of a program is a program, so steps can simply be
left out: first many at once, then one by one, and what is left is made smaller.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

from scenarios.oracle import BLOCK
from scenarios.property.steps import Crash, Create, Program, Step, Write, operation


def shortest(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A part of a failing program that still fails, and from which nothing can be taken.

    Args:
        program: it fails.
        fails: carries out a program.
    """
    tried: set[Program] = {program}

    def still(candidate: Program) -> bool:
        if candidate in tried:
            return False
        tried.add(candidate)
        return fails(candidate)

    program = next(filter(still, _families(program)), program)
    size = len(program) // 2
    while size:
        smaller = next(filter(still, _without(program, size)), None)
        if smaller is not None:
            program = smaller
        else:
            size //= 2
    for number in range(len(program)):
        for step in _simpler(program[number]):
            candidate = (*program[:number], step, *program[number + 1 :])
            if still(candidate):
                program = candidate
                break
    return program


def _families(program: Program) -> Iterator[Program]:
    """Only the steps of disks that have to do with each other; the last disk's first."""
    family: dict[str, str] = {}

    def head(name: str) -> str:
        while family.setdefault(name, name) != name:
            name = family[name]
        return name

    for step in program:
        first, *others = _names(step) or [""]
        for other in others:
            family[head(other)] = head(first)
    for wanted in dict.fromkeys(head(name) for name in reversed(family)):
        mine = [not names or head(names[0]) == wanted for names in map(_names, program)]
        named = [bool(_names(step)) for step in program]
        yield tuple(step for step, m, n in zip(program, mine, named, strict=True) if m and n)
        yield tuple(step for step, m in zip(program, mine, strict=True) if m)


def _names(step: Step) -> list[str]:
    """What a step is about."""
    values = (getattr(operation(step), field.name) for field in fields(operation(step)))
    return [name for value in values for name in _strings(value)]


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, tuple):
        return value
    return [value] if isinstance(value, str) and value not in ("RO", "RW") else []


def _without(program: Program, size: int) -> Iterator[Program]:
    """Without so many steps in a row, the last ones first."""
    for start in range(len(program) - size, -1, -size):
        yield program[:start] + program[start + size :]


def _simpler(step: Step) -> Iterator[Step]:
    """What could stand in a step's place, the simplest first."""
    match step:
        case Crash(step=done):
            yield done
        case Create(size=size) if size > BLOCK:
            yield replace(step, size=BLOCK)
        case Write(fill=fill):
            yield replace(step, offset=0, length=512, fill=1)
            yield replace(step, length=512, fill=min(fill, 1))
