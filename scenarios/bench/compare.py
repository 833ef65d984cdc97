"""Is one tree of drivers slower than the other, or does it do more?

Times are compared by ratio. The estimate is that of Hodges and Lehmann, the interval around it
that of the rank test which it belongs to (of Wilcoxon for pairs, of Mann and Whitney otherwise):
neither asks how the times are distributed, and one that a busy machine spoilt counts as one.
What is counted is compared as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

from scenarios.bench.cases import Case
from scenarios.bench.results import Result

#: Of the normal distribution: 95 of 100 true ratios lie in their intervals.
_QUANTILE = 1.96
#: Blocks of metadata that two file systems of one content may differ in.
_SLACK = {"bytes": 32 << 10}


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old.

    Attributes:
        estimate: 1.2 is a fifth slower.
        low: lower end of the confidence interval.
        high: its upper end.
    """

    estimate: float
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.estimate:.2f} ({self.low:.2f}-{self.high:.2f})"


def paired(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """Of times that were taken in turns, the n-th of both one after the other."""
    logs = [math.log(b / a) for a, b in zip(old, new, strict=True)]
    count = len(logs)
    walsh = sorted((a + b) / 2 for a, b in combinations_with_replacement(logs, 2))
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    return _ratio(walsh, spread)


def unpaired(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """Of times that were taken at different times."""
    differences = sorted(math.log(b / a) for a, b in product(old, new))
    spread = math.sqrt(len(old) * len(new) * (len(old) + len(new) + 1) / 12)
    return _ratio(differences, spread)


def _ratio(values: Sequence[float], spread: float) -> Ratio:
    """The median of sorted logarithms; as many are outside the interval as the test allows."""
    count = len(values)
    outside = max(0, math.floor(count / 2 - _QUANTILE * spread))
    middle = (values[(count - 1) // 2] + values[count // 2]) / 2
    ends = (values[outside], values[count - 1 - outside])
    return Ratio(math.exp(middle), math.exp(ends[0]), math.exp(ends[1]))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One case on one kind of SR, old and new.

    Attributes:
        ratio: of the times of its driver calls.
        more: what is counted, and is more now: name -> old, new.
        less: the same for what is less.
    """

    kind: str
    case: Case
    ratio: Ratio
    more: dict[str, tuple[int, int]]
    less: dict[str, tuple[int, int]]

    def regressed(self, threshold: float) -> bool:
        """Whether it does more, or is slower by more than `threshold` (0.05: 5 percent)."""
        return bool(self.more) or self.ratio.low > 1 + threshold


def compare(old: Result, new: Result, *, in_turns: bool) -> Comparison:
    """Compare two results of the same case on the same kind of SR."""
    ratio = (paired if in_turns else unpaired)(old.driver_times, new.driver_times)
    more, less = {}, {}
    for name, before in old.counted.items():
        now = new.counted[name]
        # What has a spread, such as what ext4 writes by and by, differs if all differ.
        if min(now) > max(before) + _SLACK.get(name, 0):
            more[name] = (max(before), min(now))
        elif max(now) < min(before) - _SLACK.get(name, 0):
            less[name] = (min(before), max(now))
    return Comparison(new.kind, new.case, ratio, more, less)


def compare_all(
    old: dict[tuple[str, Case], Result], new: dict[tuple[str, Case], Result], *, in_turns: bool
) -> list[Comparison]:
    """Compare what both have, in the order of the new."""
    return [compare(old[key], new[key], in_turns=in_turns) for key in new if key in old]
