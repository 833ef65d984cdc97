"""Runs inputs, and says what must not have happened."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scenarios.fuzz.acts import MIB, Act, Acts, Finding
from scenarios.fuzz.picture import Picture
from srs import vhd

MEMORY = 64 * MIB
SECONDS = 1.0
_PAGE = resource.getpagesize()
_STRIDE = vhd.BLOCK + 4096
_SMALL = 8 * MIB


class Judge:
    """Runs pictures in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.acts = Acts(directory)
        self._directory = directory
        self._expected = {*directory.iterdir(), self.acts.disk}

    def __call__(self, data: bytes) -> None:
        """Run one input.

        Raises:
            Finding: too slow, or a file appeared, changed or grew that should not.
            Exception: anything that the engine raised besides VHDError; MemoryError when it
                took more than its share.
        """
        acts = self.acts
        picture = Picture.unpack(data)
        picture.draw(acts.disk)
        before = acts.disk.stat().st_size
        command = acts.commands[picture.act % len(acts.commands)]
        for look in (*acts.looks, command):
            with self._untouched(acts.disk, *acts.others):
                self._attempt(look)
        change = acts.changes[picture.act % len(acts.changes)]
        with self._untouched(*([acts.disk] if change == acts.merge else acts.others)):
            self._attempt(change)
        self._judge_growth(before)
        acts.new.unlink(missing_ok=True)
        if {*self._directory.iterdir()} != self._expected:
            raise Finding(f"files are {os.listdir(self._directory)}")

    def _attempt(self, act: Act) -> None:
        began = time.process_time()
        with bounded_memory():
            try:
                act()
            except vhd.VHDError as error:
                _ = f"{error} {error.hint} {error.errno}"
        seconds = time.process_time() - began
        if seconds > SECONDS:
            raise Finding(f"it took {seconds:.1f} s")

    @contextmanager
    def _untouched(self, *paths: Path) -> Iterator[None]:
        before = [_state(path) for path in paths]
        yield
        for path, state in zip(paths, before, strict=True):
            if _state(path) != state:
                raise Finding(f"{path.name} was changed")

    def _judge_growth(self, before: int) -> None:
        """A disk may grow by all of its blocks, twice: as many may have been cut off by a crash."""
        acts = self.acts
        for path in (acts.disk, acts.new):
            if path.exists():
                try:
                    size = vhd.query(path, resolve_parent=False).size
                except vhd.VHDError:
                    size = 0
                after = path.stat().st_size
                if after > max(before, _SMALL) + 2 * (size // vhd.BLOCK + 4) * _STRIDE:
                    raise Finding(f"{path.name} of {before} bytes was written at {after}")


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let the process have no more than :data:`MEMORY` bytes beside what it has already."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
