"""What a power cut can leave on a disk, from a log of what was written to it.

Everything before a flush that came back is there. Of what was written after it any part may
be: a disk with a cache writes in the order it likes, sector by sector, so a write may be there
in part, too, but never a part of a sector. The toolstack's database lives elsewhere and keeps
what it had at that moment, which the marks in the log tell.

LVM's own metadata are the exception. LVM writes a text and then the header that points to it,
without a flush in between: a disk that does the second and not the first has lost its volume
group, whatever a driver does. So in LVM's area writes stay in the order in which they came.
"""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from testbed.devices.writelog import Entry, Flag, Window, WriteLog

SECTOR: Final = 512
#: The mark of the database as the operation found it.
BEGIN: Final = "begin"
#: A window that gives so many known states in a row has no more.
_PATIENCE: Final = 60


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one write that is on the medium: bytes `begin` to `end` of the disk."""

    write: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class CrashState:
    """One thing that a power cut can leave.

    Attributes:
        window: number of the window between two flushes; everything before it is there.
        pieces: what is there of its own writes, in the order in which they were made.
        mark: the last mark that the database got to; BEGIN before the first.
        signature: equal for equal disks.
    """

    window: int
    pieces: tuple[Piece, ...]
    mark: str
    signature: int


def whole(write: Entry) -> Piece:
    """All of a write."""
    return Piece(write.number, write.offset, write.end)


def plan(
    log: WriteLog,
    image: int,
    windows: Sequence[Window],
    *,
    seed: str,
    limit: int,
    ordered: int = 0,
) -> list[CrashState]:
    """At most about `limit` different states, every flush among them, in the order of the log.

    Args:
        log: of an operation.
        image: descriptor of the disk as it was before.
        windows: of the log.
        seed: what is chosen beyond the flushes depends on it alone.
        limit: so many, or one for each flush if that is more.
        ordered: writes to the first bytes of the disk, so many, stay in order.
    """
    share = limit // max(1, sum(bool(window.writes) for window in windows))
    # Windows that have fewer states than their share leave room for the others.
    choose = partial(_choose, log, image, windows, seed, ordered)
    rooms = Counter(state.window for state in choose(4 * share))
    return choose(_level(rooms.values(), limit))


def _level(rooms: Collection[int], limit: int) -> int:
    """The height to which rooms can be filled with so much."""
    level = 1
    while level < max(rooms) and sum(min(room, level + 1) for room in rooms) <= limit:
        level += 1
    return level


def _choose(
    log: WriteLog, image: int, windows: Sequence[Window], seed: str, ordered: int, quota: int
) -> list[CrashState]:
    """See `plan`; so many of each window, and at least one."""
    chance = random.Random(seed)
    signatures = Signatures(log, image)
    chosen: list[CrashState] = []
    known: set[tuple[int, str]] = set()
    mark = BEGIN
    for number, window in enumerate(windows):
        parts = (_real(window.writes, pieces, ordered) for pieces in _parts(window, chance))
        marks = (mark, *window.marks)
        # The log ends when the operation has returned: the database is done with it, too.
        marks = marks[-1:] if number == len(windows) - 1 else marks
        fresh = _states(number, parts, marks, signatures, chance, known)
        chosen += islice(fresh, max(1, quota))
        mark = window.marks[-1] if window.marks else mark
        signatures.advance(window)
    return chosen


def _states(
    number: int,
    parts: Iterator[tuple[Piece, ...]],
    marks: tuple[str, ...],
    signatures: "Signatures",
    chance: random.Random,
    known: set[tuple[int, str]],
) -> Iterator[CrashState]:
    """The states of a window that are not known yet, until it seems to have no more."""
    repeated = 0
    for pieces in parts:
        signature = signatures.of(pieces)
        then = chance.choice(marks)
        repeated += 1
        if (signature, then) not in known:
            known.add((signature, then))
            repeated = 0
            yield CrashState(number, pieces, then, signature)
        if repeated > _PATIENCE:
            return


def _parts(window: Window, chance: random.Random) -> Iterator[tuple[Piece, ...]]:
    """Parts of a window's writes: those that a reader would think of, then any, without end.

    Nothing first; then in any order each beginning, each write alone, all but one; then parts
    of which some are torn.
    """
    writes = window.writes
    yield ()
    obvious = [tuple(map(whole, writes[:count])) for count in range(1, len(writes) + 1)]
    obvious += [(whole(write),) for write in writes]
    obvious += [tuple(whole(other) for other in writes if other != write) for write in writes]
    chance.shuffle(obvious)
    yield from obvious
    while writes:
        share, tear = chance.choice((0.2, 0.5, 0.8)), chance.choice((0.0, 0.3, 1.0))
        pieces: list[Piece] = []
        for write in writes:
            if chance.random() < share:
                pieces += _torn(write, chance) if chance.random() < tear else [whole(write)]
        yield tuple(pieces)
    while True:
        yield ()


def _torn(write: Entry, chance: random.Random) -> list[Piece]:
    """Some sectors of a write: its beginning, its end, its middle, or all but its middle."""
    first, last = sorted(chance.choices(range(write.length // SECTOR + 1), k=2))
    low, high = write.offset + first * SECTOR, write.offset + last * SECTOR
    spans = chance.choice(
        (
            [(write.offset, high)],
            [(low, write.end)],
            [(low, high)],
            [(write.offset, low), (high, write.end)],
        )
    )
    return [Piece(write.number, begin, end) for begin, end in spans if begin < end]


def _real(writes: Sequence[Entry], pieces: Sequence[Piece], ordered: int) -> tuple[Piece, ...]:
    """The pieces, less those that cannot be there without a write that is missing.

    Writes with FUA were durable when they came back, so the first ones of them are there; and
    likewise of the writes to the ordered part of the disk.
    """
    kept, lost = set(pieces), set()
    for chain in (
        [write for write in writes if write.flags & Flag.FUA],
        [write for write in writes if write.end <= ordered],
    ):
        missing = False
        for write in chain:
            if missing:
                lost.add(write.number)
            missing = missing or whole(write) not in kept
    return tuple(piece for piece in pieces if piece.write not in lost)


class Signatures:
    """Tells disks with different bytes apart, without looking at all of them.

    The signature of a disk is the sum of a hash for each sector that differs from the disk
    with which the log began.
    """

    def __init__(self, log: WriteLog, image: int) -> None:
        self._log = log
        self._image = image
        self._original: dict[int, int] = {}
        self._durable: dict[int, int] = {}
        self._signature = 0
        self._written: dict[int, dict[int, int]] = {}

    def advance(self, window: Window) -> None:
        """Everything of the next window is durable from now on."""
        self._signature, changed = self._with(map(whole, window.writes))
        self._durable.update(changed)
        self._written.clear()

    def of(self, pieces: Iterable[Piece]) -> int:
        """The signature of the disk with these pieces of the next window."""
        return self._with(pieces)[0]

    def _with(self, pieces: Iterable[Piece]) -> tuple[int, dict[int, int]]:
        signature = self._signature
        changed: dict[int, int] = {}
        for piece in pieces:
            hashes = self._hashes(piece.write)
            for sector in range(piece.begin // SECTOR, piece.end // SECTOR):
                before = changed.get(sector)
                if before is None:
                    before = self._durable.get(sector, 0)
                signature ^= before ^ hashes[sector]
                changed[sector] = hashes[sector]
        return signature, changed

    def _hashes(self, number: int) -> dict[int, int]:
        """Sector -> hash of what a write puts there; 0 for what was there in the beginning."""
        if number not in self._written:
            entry = self._log.entries[number]
            data, first = memoryview(self._log.data(entry)), entry.offset // SECTOR
            self._written[number] = {
                first + at // SECTOR: self._hash(first + at // SECTOR, data[at : at + SECTOR])
                for at in range(0, len(data), SECTOR)
            }
        return self._written[number]

    def _hash(self, sector: int, data: memoryview) -> int:
        original = self._original.get(sector)
        if original is None:
            before = os.pread(self._image, SECTOR, sector * SECTOR)
            original = self._original[sector] = _digest(sector, before)
        found = _digest(sector, data)
        return 0 if found == original else found


def _digest(sector: int, data: bytes | memoryview) -> int:
    key = sector.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "little")
