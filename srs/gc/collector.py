"""A collector's work: one thing after the other until there is nothing left to do.

Each thing begins with a fresh look at the medium under the SR's lock, and ends under it. Of
what could be done, the first of these is done: what an earlier collector left half done;
garbage; a coalesce, from the roots up; a leaf-coalesce. What fails is not tried again by the same
collector, and keeps nothing else from being done.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from errno import ENOSPC
from time import monotonic
from typing import Final

from srs import vhd
from srs.errors import FistPoint, SRError, SRNoSpace
from srs.gc import leaf, notice
from srs.gc.control import Aborted
from srs.gc.medium import COALESCE, RELINK
from srs.gc.merge import Bases, copy_down
from srs.lvm import LVMError, LVMNoRoom
from srs.session import Failure
from srs.vdi import Disk

#: What can go wrong with one image, and leaves the others as they are.
_FAILURES: Final = (SRError, vhd.VHDError, LVMError, Failure, OSError)


@dataclass
class Report:
    """What a collector has done; images by their uuids.

    Attributes:
        garbage: removed, because nobody read them.
        coalesced: base copies whose data went down into their parents.
        leaves: disks that took the places of their parents.
        failed: what was left alone -> why.
        ended: `done`: there was nothing left to do; `aborted`: somebody needed the SR; `off`:
            SR.other_config says gc=false.
    """

    garbage: list[str] = field(default_factory=list)
    coalesced: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    ended: str = "done"

    def as_json(self) -> str:
        """For whoever asked for it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class _Copy:
    """Data on their way into a parent, while nobody holds the SR's lock."""

    disk: Disk
    parent: Disk
    path: str


class Collector:
    """The collector of one SR; its process holds `gc_active`.

    Args:
        section: gives the SR as a driver's call has it: locked and mended.
        check: told how much is done, between 0 and 1; raises Aborted when it is to end.
        speed: how fast data were copied so far.
    """

    def __init__(
        self,
        section: Callable[[], AbstractContextManager[Bases]],
        check: Callable[[float], None],
        speed: leaf.Speed,
    ) -> None:
        self._section = section
        self._check = check
        self._speed = speed
        self._begun = False
        #: Things that were done, and those that there were to do at the last look.
        self._done, self._left = 0, 0
        #: Whether room was missing; None where none was needed.
        self._crowded: bool | None = None
        self._trackers: dict[str, leaf.Tracker] = {}
        self._report = Report()

    def run(self, finish: Callable[[Bases, Report], None]) -> Report:
        """Work until there is nothing left to do.

        Args:
            finish: called then, under the SR's lock: whoever starts a collector holds it, so
                nobody takes one that is about to end for one that will look again.

        Raises:
            Failure, SRError: the SR or the toolstack cannot be used at all.
            FistPoint: a test wants the collector to end here.
        """
        try:
            while self._do_one_thing(finish):
                self._done += 1
                self._tell_progress(0.0)
        except Aborted:
            self._report.ended = "aborted"
        return self._report

    def _tell_progress(self, share: float) -> None:
        """Of the thing at hand so much is done, between 0 and 1."""
        self._check((self._done + share) / max(1, self._done + self._left))

    def _do_one_thing(self, finish: Callable[[Bases, Report], None]) -> bool:
        with self._section() as bases:
            switches = bases.sr.session.call("SR.get_other_config", bases.sr.ref)
            if switches.get("gc") == "false":
                self._report.ended = "off"
                finish(bases, self._report)
                return False
            if not self._begun:
                bases.correct_records()
                self._begun = True
            while self._clean(bases):
                bases = Bases(bases.sr)
            self._left = len(bases.forest.coalesceable()) + len(bases.forest.leaf_coalesceable())
            may_coalesce = switches.get("coalesce") != "false"
            may_leaf = may_coalesce and switches.get("leaf-coalesce") != "false"
            copy = self._begin_copy(bases) if may_coalesce else None
            if copy is None:
                if may_leaf and self._do_a_leaf(bases):
                    return True
                self._tell(bases)
                finish(bases, self._report)
                return False
        self._carry_out(copy)
        return True

    # -- what others left

    def _clean(self, bases: Bases) -> bool:
        """End what a collector that died has begun, and remove garbage; says if there was any."""
        return self._clean_journal(bases) or self._remove_garbage(bases)

    def _clean_journal(self, bases: Bases) -> bool:
        for entry in bases.medium.journal.entries():
            if entry.kind not in (COALESCE, RELINK) or entry.id in self._report.failed:
                continue
            disk = bases.forest.disks.get(entry.id)
            parent = bases.forest.parent(disk) if disk else None
            if disk is None or parent is None:
                bases.medium.journal.remove(entry.kind, entry.id)
            elif entry.kind == RELINK:
                with self._noting(disk):
                    bases.relink(disk, parent)
                    self._report.coalesced.append(disk.uuid)
            else:
                bases.give_up(disk, parent)
            return True
        return False

    def _remove_garbage(self, bases: Bases) -> bool:
        # A base copy that is still to be relinked tells that its parent has its data.
        garbage = bases.forest.garbage(self._unlinked(bases))
        if garbage:
            bases.remove(garbage)
            self._report.garbage += [disk.uuid for disk in garbage]
        return bool(garbage)

    @staticmethod
    def _unlinked(bases: Bases) -> set[str]:
        found = {entry.id for entry in bases.medium.journal.entries() if entry.kind == RELINK}
        return found & bases.forest.disks.keys()

    # -- base copies

    def _begin_copy(self, bases: Bases) -> _Copy | None:
        for disk in bases.forest.coalesceable():
            parent = bases.forest.disks[disk.parent]
            if disk.uuid not in self._report.failed:
                with self._noting(disk):
                    return _Copy(disk, parent, bases.begin(disk, parent))
        return None

    def _carry_out(self, copy: _Copy) -> None:
        with self._noting(copy.disk):
            begun = monotonic()
            try:
                size = copy_down(copy.path, lambda at, end: self._tell_progress(at / end))
            except _FAILURES:
                with self._section() as bases:
                    bases.give_up(copy.disk, copy.parent)
                raise
            self._speed.note(size, monotonic() - begun)
            with self._section() as bases:
                bases.commit(copy.disk, copy.parent)
            self._report.coalesced.append(copy.disk.uuid)
            self._crowded = bool(self._crowded)

    # -- leaves

    def _do_a_leaf(self, bases: Bases) -> bool:
        for disk in bases.forest.leaf_coalesceable():
            if disk.uuid in self._report.failed:
                continue
            with self._noting(disk):
                record = bases.sr.session.vdi_record(bases.sr.session.vdi_ref(disk.uuid))
                wish = record["other_config"].get("leaf-coalesce", "")
                # A disk that starts anew with each boot, or is cached, is made from its parent.
                kept = record.get("on_boot") == "reset" or record.get("allow_caching")
                if wish == "false" or kept:
                    continue
                self._shorten(bases, disk, forced=wish == "force")
            return True
        return False

    def _shorten(self, bases: Bases, disk: Disk, *, forced: bool) -> None:
        """The last step, or one towards it."""
        size = bases.medium.allocated(disk)
        if forced or size <= self._speed.limit:
            leaf.take_place(bases, disk, bases.forest.disks[disk.parent], hurry=not forced)
            self._report.leaves.append(disk.uuid)
        else:
            self._trackers.setdefault(disk.uuid, leaf.Tracker()).begin_round(size)
            leaf.split_off(bases, disk)

    @contextmanager
    def _noting(self, disk: Disk) -> Iterator[None]:
        """What fails in this block is noted for the disk, and the collector goes on."""
        try:
            yield
        except FistPoint:
            raise
        except _FAILURES as error:
            self._report.failed[disk.uuid] = str(error)
            no_room = isinstance(error, SRNoSpace | LVMNoRoom)
            if no_room or getattr(error, "errno", None) == ENOSPC:
                self._crowded = True

    def _tell(self, bases: Bases) -> None:
        """Tell the SR's owner whether there was room, as far as that was seen."""
        if self._crowded is not None:
            (notice.no_space if self._crowded else notice.space_again)(bases.sr)
