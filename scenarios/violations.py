"""What an invariant that does not hold is reported as."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not hold.

    Attributes:
        rule: which invariant, by its name in docs/reference/invariants.md.
        where: the disk, volume, record or file.
    """

    rule: str
    where: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: expected {self.expected}, found {self.found}"


class InvariantsBroken(AssertionError):
    """What a scenario, or a recovery, left is not as it must be.

    Attributes:
        violations: all of them.
    """

    def __init__(self, sr: str, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        lines = "\n  ".join(str(violation) for violation in self.violations)
        super().__init__(f"{len(self.violations)} broken on {sr}:\n  {lines}")


#: What a rule yields.
Found = Iterator[Violation]
