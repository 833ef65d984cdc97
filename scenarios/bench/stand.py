"""A host to measure on, and one measurement.

The clock is on this side, around the call of the XenAPI client, so it sees what a user waits
for; beside it stands the time between handing the same operation's SMAPIv1 calls to the guest
and their answers. What is counted (bytes and flushes at the SR's device, programs, LVM commits,
syncs) is the same on every machine.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scenarios.bench import notes
from scenarios.storage import Repository
from testbed.devices.disk import Disk
from testbed.devices.lio import Lun
from testbed.devices.nfs import Export
from testbed.host import Host
from testbed.provision import RECIPES, provision
from testbed.sessions import close_session
from xapi.backend import PluginReply

_HERE: Final = Path(__file__).resolve().parent
_VARIANTS: Final = (_HERE / "notes.py", _HERE.parent / "fallback" / "variants.py")
#: Bytes of an SR's device; sparse. Volumes are thick: some disks of 2 TiB fit.
_FILES, _VOLUMES = 8 << 30, 14 << 40
_NOTES_READ: Final = 1 << 20


class TimedHost(Host):
    """Notes how long driver calls take, from handing them to the guest to their answer.

    Attributes:
        calls: SMAPIv1 method and seconds of each, in their order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[tuple[str, float]] = []

    def sm_call(self, driver: str, document: str) -> PluginReply:
        """See Host."""
        began = time.monotonic()
        reply = super().sm_call(driver, document)
        found = re.search(r"<methodName>(\w+)</methodName>", document)
        if found:
            self.calls.append((found[1], time.monotonic() - began))
        return reply


@dataclass(frozen=True, slots=True)
class Sample:
    """One operation, measured.

    Attributes:
        seconds: of the XenAPI call.
        driver: seconds of its SMAPIv1 calls.
        cpu: seconds of processor time that the host's kernel took, all in there included.
        bytes: written to the SR's device until everything is there.
        flushes: of the device.
    """

    seconds: float
    driver: float
    cpu: float
    bytes: int
    flushes: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something that drivers did within an operation; as in scenarios/bench/notes.py."""

    what: str
    seconds: float
    commits: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What one operation did, counted.

    Attributes:
        programs: that were executed.
        commits: of LVM's metadata.
        fsyncs: that drivers asked for.
        calls: SMAPIv1 methods, in their order.
        peak: bytes that the SR had less of, at the worst moment, than before.
        steps: LVM commands, syncs and calls of the toolstack, in their order.
    """

    programs: int
    commits: int
    fsyncs: int
    calls: tuple[str, ...]
    peak: int
    steps: tuple[Step, ...]


class Stand:
    """One host with SRs of one kind.

    Args:
        host: it runs.
        session: of the XenAPI.
        kind: of SR.
    """

    def __init__(self, host: TimedHost, session: Any, kind: str) -> None:
        self.host = host
        self.kind = kind
        self._session = session
        self._made: dict[bool, Repository] = {}

    def sr(self, *, fallback: bool = False) -> Repository:
        """The SR, or another one whose driver has no revert."""
        if fallback not in self._made:
            recipe = RECIPES[self.kind]
            made = provision(
                self.host,
                self._session,
                self.kind,
                driver=f"{recipe.driver}-nocap" if fallback else "",
                size=_VOLUMES if recipe.driver.startswith("lvhd") else _FILES,
            )
            self._made[fallback] = Repository(self.host, self._session, made)
            self._calm(self._made[fallback])
        return self._made[fallback]

    def _calm(self, sr: Repository) -> None:
        """Have ext4 not go on making a fresh file system while somebody counts what it writes."""
        medium = sr.provisioned.medium
        if isinstance(medium, Lun) or sr.on_volumes:
            return
        path = medium.directory if isinstance(medium, Export) else medium
        mounted = path if isinstance(path, str) else sr.directory
        self.host.kernel.run(["mount", "-o", "remount,noinit_itable", mounted])

    def clear(self) -> None:
        """Empty the SRs."""
        for sr in self._made.values():
            sr.clear()

    def device(self, sr: Repository) -> str:
        """What an SR's bytes are written to."""
        medium = sr.provisioned.medium
        if isinstance(medium, Lun):
            return medium.disk.device
        if isinstance(medium, Disk):
            return medium.device
        path = medium.directory if isinstance(medium, Export) else medium
        return self.host.disk_below(path).device

    def measure(self, sr: Repository, action: Callable[[], object]) -> Sample:
        """Do something once, with everything on the medium before and after."""
        device = self.device(sr)
        before = self._written(device)
        self.host.calls.clear()
        cpu = self._cpu_seconds()
        began = time.perf_counter()
        action()
        seconds = time.perf_counter() - began
        cpu = self._cpu_seconds() - cpu
        driver = sum(spent for _, spent in self.host.calls)
        after = self._written(device)
        return Sample(
            seconds,
            driver,
            cpu,
            after["bytes"] - before["bytes"],
            after["flushes"] - before["flushes"],
        )

    def _written(self, device: str) -> dict[str, int]:
        self.host.kernel.call("sync")
        counted: dict[str, int] = self.host.kernel.call("written", device=device)
        return counted

    def _cpu_seconds(self) -> float:
        """Of the processes in the kernel's process group."""
        group, nanoseconds = self.host.kernel.pid, 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if int((process / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                    for task in (process / "task").iterdir():
                        nanoseconds += int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
        return nanoseconds / 1e9

    def count(self, action: Callable[[], object]) -> Counts:
        """Do something once, and note what is done for it."""
        self.host.calls.clear()
        with self._noted() as lines, self.host.programs_run() as programs:
            action()
        found = [json.loads(line) for line in lines]
        steps = [
            Step(note["what"], note["seconds"], note["commits"][1] - note["commits"][0])
            for note in found
        ]
        free = [space for note in found for space in note["free"] if self._tells(note)]
        return Counts(
            len(programs),
            sum(step.commits for step in steps),
            sum(step.what == "fsync" for step in steps),
            tuple(method for method, _ in self.host.calls),
            free[0] - min(free) if free else 0,
            tuple(steps),
        )

    def _tells(self, note: dict[str, Any]) -> bool:
        """Whether a note's `free` is about the SR: groups for volumes, else file systems."""
        return str(note["what"]).startswith("lvm ") == self.kind.startswith("lvhd")

    @contextmanager
    def _noted(self) -> Iterator[list[str]]:
        lines: list[str] = []
        self.host.kernel.run(["touch", notes.NOTES])
        try:
            yield lines
            ((_, text),) = self.host.read_pieces([(notes.NOTES, 0, _NOTES_READ)])
            lines += text.decode().splitlines()
        finally:
            self.host.kernel.run(["rm", notes.NOTES])


@contextmanager
def stand(kind: str, *, tree: Path | None = None, kernel: str = "auto") -> Iterator[Stand]:
    """A booted host to measure on.

    Args:
        kind: of SR.
        tree: where the drivers come from, see Machine.
        kernel: see Machine.
    """
    memory = RECIPES[kind].memory
    with TimedHost(
        kernel=kernel, name=kind, variants=_VARIANTS, extra_memory=memory, gc_pause=None, tree=tree
    ) as host:
        session = host.session()
        yield Stand(host, session, kind)
        close_session(session)
