"""How `testbed bench` says what it measured, on a terminal and on a page."""

import statistics
from collections.abc import Callable, Sequence
from typing import Final

from scenarios.bench.report import milliseconds
from scenarios.bench.results import Result


def size(count: int) -> str:
    """Bytes, with three digits that mean something."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"


#: Column -> what a result has there.
COLUMNS: Final[dict[str, Callable[[Result], str]]] = {
    "ms": lambda found: _spread(found.times),
    "driver": lambda found: milliseconds(statistics.median(found.driver_times)),
    "programs": lambda found: str(found.counts.programs),
    "commits": lambda found: str(found.counts.commits),
    "fsyncs": lambda found: str(found.counts.fsyncs),
    "flushes": lambda found: str(statistics.median_low(found.counted["flushes"])),
    "written": lambda found: size(statistics.median_low(found.counted["bytes"])),
    "peak": lambda found: size(found.counts.peak),
}


def _spread(times: Sequence[float]) -> str:
    median, least, most = (f(times) for f in (statistics.median, min, max))
    return f"{milliseconds(median)} ({milliseconds(least)}-{milliseconds(most)})"


def change(name: str, old: int, new: int) -> str:
    """Something counted that differs."""
    shown = size if name in ("bytes", "peak space") else str
    return f"{name} {shown(old)} -> {shown(new)}"
