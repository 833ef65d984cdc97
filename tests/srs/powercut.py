"""Power cuts for tests: a tape of what reached some files, and these files after a cut.

Every write, truncation, sync, removal and sync of a directory that the engine makes is taped,
the syncs are not done. A cut behind any of them leaves what a sync covered. Of the rest each
sector is there or not by chance, so that writes reach the medium in any order that no sync
forbids. Files that were made or removed since the last sync of the directory did so in their
order, up to some point.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from srs.vhd import journal
from srs.vhd.backing import Backing, Buffer


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is write, truncate, sync, make, remove or sync directory."""

    kind: str
    path: str
    where: int = 0
    data: bytes = b""


class Tape:
    """What happened to the files ``paths``, which may not exist yet, since the tape began."""

    def __init__(self, *paths: Path) -> None:
        self.before = {str(path): path.read_bytes() if path.exists() else None for path in paths}
        self.events: list[Event] = []
        self._there = {name for name, raw in self.before.items() if raw is not None}

    def __len__(self) -> int:
        return len(self.events)

    def note(self, kind: str, path: str, where: int = 0, data: bytes = b"") -> None:
        """Put an event on the tape, if it is about one of the files."""
        if kind == "sync directory":
            self.events.append(Event(kind, path))
        elif path in self.before:
            if path not in self._there:
                self.events.append(Event("make", path))
                self._there.add(path)
            if kind == "remove":
                self._there.discard(path)
            self.events.append(Event(kind, path, where, data))

    def cut(self, at: int, chance: random.Random) -> None:
        """Give the files what they hold after a cut behind ``at`` events."""
        there = self._names(at, chance)
        for path, before in self.before.items():
            if path in there:
                content = self._content(path, before or b"", at, chance)
                Path(path).write_bytes(content)
            else:
                Path(path).unlink(missing_ok=True)

    def _names(self, at: int, chance: random.Random) -> set[str]:
        """The files that are there."""
        changes = [i for i in range(at) if self.events[i].kind in ("make", "remove")]
        synced = self._last("sync directory", at)
        durable = sum(i < synced for i in changes)
        there = {path for path, raw in self.before.items() if raw is not None}
        for i in changes[: chance.randint(durable, len(changes))]:
            event = self.events[i]
            (there.add if event.kind == "make" else there.discard)(event.path)
        return there

    def _last(self, kind: str, at: int, path: str = "") -> int:
        """The place behind the last such event, 0 if there is none."""
        found = (
            i + 1
            for i in range(at)
            if self.events[i].kind == kind and path in ("", self.events[i].path)
        )
        return max(found, default=0)

    def _content(self, path: str, before: bytes, at: int, chance: random.Random) -> bytes:
        image, synced = bytearray(before), self._last("sync", at, path)
        for event in self.events[:synced]:
            if event.path == path:
                _apply(image, event.kind, event.where, event.data)
        keep = chance.choice([0.0, 0.3, 0.7, 1.0])
        for event in self.events[synced:at]:
            # Single sectors where they matter, larger pieces in the midst of bulk data.
            step = 512 if len(event.data) < 64 << 10 else 32 << 10
            for offset in range(0, max(len(event.data), 1), step):
                if event.path == path and chance.random() < keep:
                    data = event.data[offset : offset + step]
                    _apply(image, event.kind, event.where + offset, data)
        return bytes(image)


def _apply(image: bytearray, kind: str, where: int, data: bytes) -> None:
    if kind == "write":
        image.extend(bytes(max(0, where + len(data) - len(image))))
        image[where : where + len(data)] = data
    elif kind == "truncate":
        image.extend(bytes(max(0, where - len(image))))
        del image[where:]


@contextmanager
def taping(*paths: Path) -> Iterator[Tape]:
    """A tape that runs in this block."""
    tape = Tape(*paths)
    write, truncate, unlink = Backing.write, Backing.truncate, os.unlink

    def taped_write(self: Backing, offset: int, *buffers: Buffer) -> None:
        write(self, offset, *buffers)
        tape.note("write", self.path, offset, b"".join(buffers))

    def taped_truncate(self: Backing, size: int) -> None:
        truncate(self, size)
        tape.note("truncate", self.path, size)

    def taped_unlink(path: str) -> None:
        unlink(path)
        tape.note("remove", path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backing, "write", taped_write)
        patch.setattr(Backing, "truncate", taped_truncate)
        patch.setattr(Backing, "sync", lambda self: tape.note("sync", self.path))
        patch.setattr(os, "unlink", taped_unlink)
        patch.setattr(journal, "sync_directory", lambda path: tape.note("sync directory", path))
        yield tape


@contextmanager
def device(*, pretend: bool = True) -> Iterator[None]:
    """In this block every file passes for a block device, if ``pretend``."""
    with pytest.MonkeyPatch.context() as patch:
        if pretend:
            patch.setattr("srs.vhd.backing.S_ISBLK", lambda mode: True)
            # Its number would be that of all files: none.
            patch.setattr("srs.vhd.backing._identity", lambda status: (-1, status.st_ino))
        yield
