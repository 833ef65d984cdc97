"""Leaf-coalesce: a disk L that is alone on its parent P; P takes L's data, and L's place.

The last step needs L to hold still, under the SR's lock, so it must be short. While L holds
too much for that, an internal snapshot turns its data into a base copy, which is coalesced as
any other, without L noticing; what is written to L meanwhile is less each time, or the disk is
left alone (`Tracker`).

What P was is forgotten; L keeps its uuid, its record and, if it is attached, its users.
"""

import os
import time
from typing import Final, NoReturn

from srs import fist, records, snapshot, vhd
from srs.errors import LeafGCSkip
from srs.gc.medium import LEAF
from srs.gc.merge import Bases
from srs.vdi import Disk

#: Bytes that may be copied while the disk holds still, as long as nobody knows how fast we are.
_SMALL: Final = 20 << 20
#: Bytes of a copy that tells how fast we are.
_TELLING: Final = 4 << 20
#: Seconds that the last copy is expected to take at most, and those after which it is given up.
_EXPECTED: Final = 5.0
_PATIENCE: Final = 10.0
#: Rounds of snapshot and coalesce, those without progress, and those in which the disk grew.
_ROUNDS: Final = 20
_IDLE_ROUNDS: Final = 3
_GROWTH: Final = 1.2
_GROWTH_ROUNDS: Final = 2


class Tracker:
    """Whether it is worth another round, told by the bytes that the disk holds in each."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._idle = 0
        self._grown = 0

    def begin_round(self, size: int) -> None:
        """A round begins with a disk that holds so many bytes.

        Raises:
            LeafGCSkip: so did the ones before; it is written to faster than it is copied.
        """
        fist.point("cleanup_tracker_no_progress", _no_progress)
        if self._sizes:
            self._idle += size >= min(self._sizes)
            self._grown += size > self._sizes[-1] * _GROWTH
        self._sizes.append(size)
        if len(self._sizes) > _ROUNDS or self._idle >= _IDLE_ROUNDS or self._grown > _GROWTH_ROUNDS:
            _no_progress()


def _no_progress() -> NoReturn:
    raise LeafGCSkip("the disk is written to faster than it is coalesced")


class Speed:
    """How fast data were copied on an SR, bytes a second: the last ten times.

    Args:
        path: the file that keeps it.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def _values(self) -> list[float]:
        try:
            with open(self._path, encoding="ascii") as file:
                return [float(line) for line in file]
        except FileNotFoundError:
            return []

    def note(self, size: int, seconds: float) -> None:
        """So many bytes took so long; a few tell nothing."""
        if size >= _TELLING and seconds > 0:
            values = [*self._values(), size / seconds][-10:]
            with open(self._path + ".new", "w", encoding="ascii") as file:
                file.writelines(f"{value:.0f}\n" for value in values)
            os.rename(self._path + ".new", self._path)

    @property
    def limit(self) -> int:
        """Bytes that a disk may hold for its last copy."""
        values = self._values()
        return int(sum(values) / len(values) * _EXPECTED) if values else _SMALL


def split_off(bases: Bases, leaf: Disk) -> Disk:
    """Turn the disk's data into a base copy between it and its parent; the base copy."""
    fist.point("LVHDRT_coaleaf_delay_1")
    ref = bases.sr.session.vdi_ref(leaf.uuid)
    params = {"type": "internal"}
    made = snapshot.branch(bases.sr, leaf.uuid, ref, params, clone=False)
    return bases.sr.disk(made["uuid"])


def take_place(bases: Bases, leaf: Disk, parent: Disk, *, hurry: bool) -> None:
    """The last step, on a disk that is small enough, or may be held still however long it takes.

    Args:
        bases: the SR.
        leaf: the disk.
        parent: what it stands on.
        hurry: give the copy up when it takes long.

    Raises:
        LeafGCSkip: it took too long; all is as it was.
    """
    session, medium = bases.sr.session, bases.medium
    fist.point("LVHDRT_coaleaf_delay_2")
    ref = session.vdi_ref(leaf.uuid)
    with bases.sr.paused(leaf.uuid, ref):
        fist.point("LVHDRT_coaleaf_delay_3")
        medium.journal.create(LEAF, leaf.uuid, parent.uuid)
        with fist.undone_by(lambda: _give_up(bases, leaf, parent)):
            medium.begin_merge(leaf, parent)
            fist.point("LVHDRT_coaleaf_before_coalesce")
            vhd.coalesce(medium.path(leaf), progress=_Deadline() if hurry else None)
            fist.point("LVHDRT_coaleaf_after_coalesce")
            medium.take_place(leaf, parent)
        _close(bases, leaf, parent)
    fist.point("LVHDRT_coaleaf_after_vdirec")
    records.adjust_space(session, bases.sr.ref, bases.sr.space(), 0)


def _give_up(bases: Bases, leaf: Disk, parent: Disk) -> None:
    bases.medium.end_leaf(leaf.uuid, parent.uuid)
    _close(bases, leaf, parent)


def _close(bases: Bases, leaf: Disk, parent: Disk) -> None:
    """Drop the entry, when the database knows what became of both."""
    bases.tell(leaf.uuid)
    bases.tell(parent.uuid)
    fist.point("LVHDRT_coaleaf_before_remove_j")
    bases.medium.journal.remove(LEAF, leaf.uuid)


class _Deadline:
    """Ends a copy that takes too long for a disk that holds still."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _PATIENCE

    def __call__(self, behind: int, blocks: int) -> None:
        if behind < blocks and time.monotonic() > self._end:
            raise LeafGCSkip(f"the last copy takes more than {_PATIENCE:.0f} s")
