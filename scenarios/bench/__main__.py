"""The command `ci/bench`. Exit status: 0 it ran, whatever the numbers · 2 it could not run."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from scenarios.bench import network
from scenarios.bench.pairs import Result, Work, measure
from scenarios.bench.report import Place, print_table, save
from scenarios.bench.toolstack import bench
from scenarios.bench.works import WORKS
from srs.vhd import VHDError

COULD_NOT_RUN = 2
_NEEDED = 6 << 30
_TABLE = 110
"""Columns of the table when the output is no terminal, or a narrow one."""


class Refused(Exception):
    """The benchmark cannot begin; ``str()`` says why and what to do."""


def main() -> int:
    """Entry point."""
    options = _parser().parse_args()
    try:
        options.run(options)
    except (Refused, VHDError, OSError) as error:
        print(f"ci/bench: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except subprocess.CalledProcessError as error:
        print(f"ci/bench: {error}\n{error.stderr}", file=sys.stderr)
        return COULD_NOT_RUN
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    toolstack = commands.add_parser("xapi", help="the toolstack's numbers")
    toolstack.set_defaults(run=lambda _options: bench())
    wire = commands.add_parser("network", help="kernels on a network")
    wire.set_defaults(run=lambda _options: network.bench())
    vhd = commands.add_parser(
        "vhd", help="the VHD engine, beside qemu-img where it can do the work"
    )
    vhd.set_defaults(run=_bench)
    vhd.add_argument("--dir", type=Path, help="where disks are made; a real disk, not tmpfs")
    vhd.add_argument("--rounds", type=_positive, default=3, help="of ours, peer, peer, ours (3)")
    vhd.add_argument("--only", metavar="NAME", help="works whose name contains this")
    vhd.add_argument("--json", type=Path, metavar="FILE", help="write every single time, too")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _bench(options: argparse.Namespace) -> None:
    works = [work for work in WORKS if (options.only or "") in work.name]
    if not works:
        names = ", ".join(work.name for work in WORKS)
        raise Refused(f"no work is called {options.only!r}; there are: {names}")
    console = Console()
    console.width = max(console.width, _TABLE)
    with tempfile.TemporaryDirectory(prefix="bench-vhd-", dir=options.dir) as directory:
        place = Place.of(Path(directory))
        free = shutil.disk_usage(directory).free
        if free < _NEEDED:
            raise Refused(f"{directory}: {free >> 30} GiB free, {_NEEDED >> 30} are needed (--dir)")
        console.print(str(place), highlight=False)
        results = [_one(work, Path(directory), options.rounds, console) for work in works]
    print_table(console, results)
    if options.json:
        save(options.json, place, results)


def _one(work: Work, directory: Path, rounds: int, console: Console) -> Result:
    """Measure one work in a directory of its own, which is gone before the next begins."""
    with (
        console.status(work.name),
        tempfile.TemporaryDirectory(dir=directory) as own,
    ):
        return measure(work, Path(own), rounds)


if __name__ == "__main__":
    sys.exit(main())
