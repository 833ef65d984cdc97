"""An SR on a disk that a power cut has left: attached, mended by its driver, and checked."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scenarios.crash.cases import Scene
from scenarios.crash.recording import STORAGE_CLASSES, Rows
from scenarios.invariants import check, check_everything
from scenarios.oracle import Content
from scenarios.storage import VDI, Repository
from testbed.devices.disk import Disk

#: A kernel has so many states before another takes its place.
_STATES_PER_KERNEL: Final = 64


class Wrong(AssertionError):
    """Something does not hold after a recovery."""


@dataclass(slots=True)
class Ledger:
    """Where the time went: seconds, by what was done."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def entry(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begun


class Bed:
    """A host on which SRs recover, one after the other, many in one kernel.

    Args:
        sr: the one that recovers; unplugged, and its disk is out of the host.
        ledger: gets the times.
    """

    def __init__(self, sr: Repository, ledger: Ledger) -> None:
        self._sr = sr
        self._ledger = ledger
        self._host = sr.host
        self._uses = 0
        self.renew()

    def renew(self) -> None:
        """A fresh kernel, without disks."""
        with self._ledger.entry("boot"):
            self._host.power_cut()
            self._host.restart()
        self._uses = 0

    @contextmanager
    def attached(self, image: Path, rows: Rows) -> Iterator[Repository]:
        """Plug the SR in on a disk, which its driver mends; afterwards it is gone again."""
        self._uses += 1
        if self._uses > _STATES_PER_KERNEL:
            self.renew()
        pbd, device = self.plug(image, rows)
        yield self._sr
        with self._ledger.entry("detach"):
            self._sr.api.PBD.unplug(pbd)
        with self._ledger.entry("unplug"):
            medium = self._sr.provisioned.medium
            if isinstance(medium, str):
                self._host.kernel.call("unmount", target=medium)
            self._host.kernel.remove_disk(device)

    def plug(self, image: Path, rows: Rows) -> tuple[str, str]:
        """Plug the SR in on a disk; returns its PBD, and the disk's device."""
        medium = self._sr.provisioned.medium
        with self._ledger.entry("plug"):
            device = self._host.kernel.add_disk(image, layered=True)
            if isinstance(medium, str):
                self._host.kernel.call("mount", source=device, target=medium, kind="ext4")
            self._put_rows(rows, device if isinstance(medium, Disk) else "")
            (pbd,) = self._sr.api.SR.get_PBDs(self._sr.ref)
        with self._ledger.entry("attach"):
            self._sr.api.PBD.plug(pbd)
        return pbd, device

    def _put_rows(self, rows: Rows, device: str) -> None:
        moved = {}
        for key, row in rows.items():
            if key.cls == "PBD" and device:
                row = {**row, "device_config": {**row["device_config"], "device": device}}
            moved[key] = row
        self._host.xapi.xapi.db.put_back(STORAGE_CLASSES, moved)
        self._host.xapi.host_restarted()


def without_disks(rows: Rows) -> Rows:
    """The database of a new pool, which learns of an SR's disks from a scan."""
    return {key: row for key, row in rows.items() if key.cls in ("SR", "PBD")}


def verify(sr: Repository, scene: Scene, *, fresh: bool, over: bool) -> None:
    """Check an SR that its driver has just mended, then use it.

    Args:
        sr: plugged in.
        scene: what may be there.
        fresh: the database knew nothing of the disks.
        over: the operation had returned before the power went.

    Raises:
        Wrong: something is not as it must be.
        XenAPI.Failure: an operation failed that must work.
    """
    if fresh:
        # An entry about disks that the database did not know is ended once a scan has found them.
        sr.scan()
    # Before any other scan, which would mend what the recovery left in the database.
    if not scene.collects:
        check(sr)
    found = look(sr)
    judge(found, scene, over=over)
    if not fresh:
        sr.scan()
    snapshot, disk = scene.pair
    if snapshot in found and disk in found and not fresh:
        VDI(sr, sr.api.VDI.get_by_uuid(snapshot)).revert_live_disk()
        found[disk] = found[snapshot]
    collected = sr.host.gc(sr.uuid)
    if collected.ended != "done" or collected.failed:
        raise Wrong(f"the garbage collector came to no end: {collected}")
    check_everything(sr, found, collected=True)
    if others := visible(sr).keys() - found.keys():
        raise Wrong(f"another revert, or the collection after it, made disks: {sorted(others)}")


def look(sr: Repository) -> dict[str, Content]:
    """What every visible disk holds, by uuid."""
    return {uuid: vdi.content() for uuid, vdi in visible(sr).items()}


def visible(sr: Repository) -> dict[str, VDI]:
    """All disks but base copies, by uuid."""
    vdis = [VDI(sr, ref) for ref in sr.vdis() - sr.base_copies()]
    return {vdi.uuid: vdi for vdi in vdis}


def judge(found: dict[str, Content], scene: Scene, *, over: bool) -> None:
    """Raise Wrong unless every disk is there, with what it may hold, and no other.

    Args:
        found: what the disks hold, by uuid.
        scene: what may be there.
        over: the operation had returned before the power went.
    """
    disks = scene.settled if over else scene.disks
    for uuid, expected in disks.items():
        if uuid in found:
            _judge_content(uuid, found[uuid], expected.contents)
        elif not expected.may_be_gone:
            raise Wrong(f"disk {uuid} is lost")
    made = found.keys() - disks.keys()
    for uuid in made:
        _judge_content(uuid, found[uuid], scene.newcomers)
    fewest = scene.makes if over else 0
    if not fewest <= len(made) <= scene.makes:
        raise Wrong(f"disks made: {sorted(made)}, not {fewest} to {scene.makes} of them")


def _judge_content(uuid: str, found: Content, allowed: frozenset[Content]) -> None:
    if found not in allowed:
        raise Wrong(f"disk {uuid} holds {found}, which is none of {sorted(map(str, allowed))}")
