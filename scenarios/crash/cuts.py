"""Real power cuts: at FIST points, and at any moment of an operation.

The explorer knows what may be on a disk; here the power really goes while a driver works, and
the toolstack lives through it: its call fails, or has just succeeded. Each cut begins with the
disk and the database that the operation found, so scenes are made only once.
"""

import random
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import XenAPI

from scenarios.crash.bed import Ledger
from scenarios.crash.explorer import Judge
from scenarios.crash.recording import STORAGE_CLASSES, Recording, record
from scenarios.crash.states import BEGIN
from srs.fist import NAMES
from testbed.devices.sparse import copy_sparse
from testbed.errors import TestbedError
from testbed.fist import POWER_CUT
from testbed.host import Host
from xapi.backend import HostError

#: A leaf that becomes a base copy with two leaves.
_SPLIT: Final = ("FileSR_clone", "FileSR_fail", "LVHDRT_clone")
#: Where an operation comes by, by the beginnings of the points' names.
POINTS: Final = {
    "revert": ("FileSR_revert", "LVM_revert"),
    "revert-written": ("FileSR_revert", "LVM_revert", *_SPLIT),
    "revert-blank": ("FileSR_revert", "LVM_revert"),
    "revert-older": ("FileSR_revert", "LVM_revert"),
    "snapshot": _SPLIT,
    "clone": _SPLIT,
    "delete": (),
    "resize": ("LVHDRT_inflate", "resize_after"),
    "coalesce": ("LVHDRT_coalescing", "LVHDRT_inflating", "LVHDRT_before_create", "LVHDRT_relink"),
    "leaf-coalesce": ("LVHDRT_coaleaf",),
}


@dataclass(slots=True)
class Cuts:
    """What cutting the power in a case came to.

    Attributes:
        kind: of SR.
        case: name of the operation.
        cuts: how often the power went.
        finished: of those, after the operation had returned.
        cycles: seconds from each cut to the end of the check.
        failures: what did not hold, and after which cut.
    """

    kind: str
    case: str
    cuts: int = 0
    finished: int = 0
    cycles: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def cycle(self) -> float:
        """Seconds that half of the cycles did not take."""
        return statistics.median(self.cycles) if self.cycles else 0.0


class Cutter:
    """Cuts the power of one host in one case, again and again.

    Args:
        host: it runs, and has no disk.
        session: of it.
        kind: of SR.
        case: name of the operation.
    """

    def __init__(self, host: Host, session: Any, kind: str, case: str) -> None:
        self.result = Cuts(kind, case)
        self._host = host
        self._recording: Recording = record(host, session, kind, case)
        self._judge = Judge(self._recording.sr, self._recording.scene, Ledger())
        self._image = host.state_directory / "cut"
        #: The SR is plugged in, or was when the power went.
        self._in_use = False

    def at_random(self, count: int, seed: str) -> Cuts:
        """Cut it so often, each time at another moment of the operation, or just after it."""
        chance = random.Random(seed)
        longest = self._duration()
        for number in range(count):
            delay = chance.uniform(0, 1.1 * longest)
            timer = threading.Timer(delay, self._host.power_cut)
            self._begin()
            timer.start()
            over = self._act()
            timer.join()
            self._end(f"cut {number}, after {1000 * delay:.0f} ms", over=over)
        return self.result

    def at_points(self) -> Cuts:
        """Cut it once at each FIST point that the operation comes by.

        An operation that has points and comes by none has failed: nothing was tried.
        """
        points = POINTS[self.result.case]
        for name in sorted(NAMES):
            if name.startswith(points):
                self._begin()
                with self._host.fist(name, action=POWER_CUT) as point:
                    over = self._act()
                if point.reached:
                    self._end(f"cut at {name}", over=over)
        if points and not self.result.cuts:
            self.result.failures.append(f"came by no point that begins with {' or '.join(points)}")
        return self.result

    def _duration(self) -> float:
        """Seconds that the operation takes if nobody disturbs it."""
        self._begin()
        begun = time.perf_counter()
        self._act()
        return time.perf_counter() - begun

    def _begin(self) -> None:
        """A host without disks, then the SR as the operation found it."""
        if self._in_use:
            self._judge.bed.renew()
        self._in_use = True
        copy_sparse(self._recording.image, self._image)
        self._judge.bed.plug(self._image, self._recording.rows[BEGIN])

    def _act(self) -> bool:
        """Whether the operation came to its end."""
        try:
            self._recording.scene.act()
        except (XenAPI.Failure, TestbedError, HostError):
            return False
        return True

    def _end(self, when: str, *, over: bool) -> None:
        """Boot, plug the SR in with the database as the toolstack has it now, and check."""
        begun = time.perf_counter()
        rows = self._host.xapi.xapi.db.copy(STORAGE_CLASSES)
        self._judge.bed.renew()
        why = self._judge.why_not(self._image, rows, fresh=False, over=over)
        self._in_use = False
        self.result.cycles.append(time.perf_counter() - begun)
        self.result.cuts += 1
        self.result.finished += over
        if why:
            self.result.failures.append(f"{when}: {why}")
