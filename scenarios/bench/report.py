"""What `ci/bench` prints and saves."""

import json
import os
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scenarios.bench.pairs import Result


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers come from."""

    directory: str
    file_system: str
    cpus: int

    @classmethod
    def of(cls, directory: Path) -> "Place":
        """The machine and the file system below ``directory``."""
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
        path = directory.resolve()
        holding = (mount for mount in mounts if path.is_relative_to(mount[0]))
        # The last of several at one place hides the others.
        _, file_system = max(holding, key=lambda mount: len(mount[0]))
        return cls(str(directory), file_system, len(os.sched_getaffinity(0)))

    def __str__(self) -> str:
        return (
            f"{self.file_system} at {self.directory}, {self.cpus} CPUs; "
            "page cache warm; what is written is synced within its time"
        )


def milliseconds(seconds: float) -> str:
    """Three digits that mean something."""
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def print_table(console: Console, results: list[Result]) -> None:
    """One row a work, and the promises that were kept."""
    table = Table(title="VHD engine, milliseconds: medians", title_justify="left")
    table.add_column("work", no_wrap=True)
    for heading in ("ours", "(spread)", "qemu-img", "ratio", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("vhd-util, recorded", justify="right", no_wrap=True)
    for result in results:
        table.add_row(result.work.name, *_cells(result), result.work.recorded)
    console.print(table)
    counted = [result for result in results if result.work.target is not None]
    missed = [result.work.name for result in counted if not result.met]
    summary = f"{len(counted) - len(missed)} of {len(counted)} targets met"
    console.print(f"{summary}; missed: {', '.join(missed)}" if missed else summary)


def _cells(result: Result) -> list[str]:
    median, target = milliseconds(statistics.median(result.ours)), result.work.target
    style = "green" if result.met else "bold red"
    return [
        median if target is None else f"[{style}]{median}[/]",
        f"({milliseconds(min(result.ours))}-{milliseconds(max(result.ours))})",
        milliseconds(statistics.median(result.peer)) if result.peer else "-",
        f"{result.ratio:.2f}" if result.ratio else "-",
        "-" if target is None else f"<= {milliseconds(target)}",
    ]


def save(path: Path, place: Place, results: list[Result]) -> None:
    """Everything as JSON: seconds, in the order in which they were taken."""
    rows = [
        {
            "name": result.work.name,
            "target": result.work.target,
            "ours": result.ours,
            "peer": result.peer,
            "ratio": result.ratio,
        }
        for result in results
    ]
    path.write_text(json.dumps({"place": asdict(place), "results": rows}, indent=2) + "\n")
