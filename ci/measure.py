"""The numbers that the project promises, measured here and now, beside their bounds.

Times of a shared machine wobble: a bound that is missed is shown, and fails nothing. What
must hold exactly (one process per driver call, so no program was run) is in tests/.
"""

import argparse
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scenarios.bench.stand import TimedHost
from scenarios.oracle import BLOCK, awkward_spans
from scenarios.storage import Repository
from testbed.host import Host
from testbed.provision import provision
from testbed.sessions import close_session

MB = 1_000_000
REVERTS = 5


def guest_memory(host: Host) -> int:
    """Bytes of this machine's memory that a guest takes: its RAM as far as it was touched.

    The RAM is a deleted file that all processes of the guest map; what the main process has
    beside it is added. (Its helper threads look like processes with the same memory.)
    """
    process = Path("/proc") / str(host.kernel.pid)
    files = {os.readlink(fd): fd.stat() for fd in (process / "fd").iterdir()}
    ram = sum(
        status.st_blocks * 512 for name, status in files.items() if name.endswith("(deleted)")
    )
    rollup = (process / "smaps_rollup").read_text()
    beside = re.findall(r"^Pss_(?:Anon|File):\s+(\d+) kB", rollup, re.M)
    return ram + sum(int(kilobytes) * 1024 for kilobytes in beside)


def revert_seconds(host: TimedHost, kind: str) -> float:
    """Median time of vdi_revert on an SR of a kind, case A."""
    session = host.session()
    sr = Repository(host, session, provision(host, session, kind))
    disk = sr.create(8 * BLOCK)
    disk.write(awkward_spans("first", disk.size))
    snapshot = disk.snapshot()
    host.calls.clear()
    for number in range(REVERTS):
        disk.write(awkward_spans(f"lost {number}", disk.size))
        snapshot.revert_live_disk()
    close_session(session)
    return statistics.median(spent for call, spent in host.calls if call == "vdi_revert")


def measure() -> Iterator[tuple[str, float, float, str]]:
    """What, measured, bound, unit."""
    boots = []
    for _ in range(3):
        with TimedHost() as host:
            boots.append(host.boot_seconds)
    yield "agent ready", statistics.median(boots), 1.5, "s"
    with TimedHost() as host:
        for kind, bound in (("ext", 0.3), ("lvhd", 1.0)):
            yield f"vdi_revert on {kind}, in the guest", revert_seconds(host, kind), bound, "s"
        yield "memory of that guest", guest_memory(host) / MB, 150, "MB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--times",
        type=float,
        nargs=4,
        required=True,
        metavar="SECONDS",
        help="when ci/run began, was ready, had run the scenarios of VDI.revert, and the others",
    )
    began, ready, reverted, ended = parser.parse_args().times
    rows = [
        ("ci/run: installing and setting up", ready - began, 300, "s"),
        ("ci/run: VDI.revert on six kinds of SR", reverted - ready, 180, "s"),
        ("ci/run: both", reverted - began, 300, "s"),
        ("ci/run: every group", ended - began, 900, "s"),
        *measure(),
    ]
    table = Table("number", "measured", "bound", title="Numbers", title_justify="left")
    for what, value, bound, unit in rows:
        style = "green" if value <= bound else "bold red"
        table.add_row(what, f"[{style}]{value:.2f} {unit}[/]", f"{bound:g} {unit}")
    Console().print(table)


if __name__ == "__main__":
    main()
