"""Does with a disk whatever the engine can do, and says what must not have happened."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scenarios.fuzz import seeds
from scenarios.fuzz.picture import Picture
from srs import vhd

MIB = 1 << 20
MEMORY = 64 * MIB
SECONDS = 1.0
_PAGE = resource.getpagesize()
_STRIDE = vhd.BLOCK + 4096


class Finding(Exception):
    """A promise was broken without any exception; ``str()`` says which."""


class Judge:
    """Runs pictures in a directory of its own, which holds a parent to stand on."""

    def __init__(self, directory: Path) -> None:
        self.disk = directory / "disk.vhd"
        self.parent = directory / "parent.vhd"
        self.new = directory / "new.vhd"
        self.raw = directory / "raw"
        self.raw.write_bytes(b"raw." * (seeds.SIZE // 4))
        os.mkfifo(directory / "pipe")
        seeds.make_parent(self.parent)
        self._originals = {path: path.read_bytes() for path in (self.parent, self.raw)}
        self._expected = {*directory.iterdir(), self.disk}
        self._directory = directory

    def __call__(self, data: bytes) -> None:
        """Run one input.

        Raises:
            Finding: too slow, or a file appeared, changed or grew that should not.
            Exception: anything that the engine raised besides VHDError; MemoryError when it
                took more than its share.
        """
        picture = Picture.unpack(data)
        picture.draw(self.disk)
        for look in self._looks:
            with self._untouched(self.disk, self.parent, self.raw):
                self._attempt(look)
        before = self.disk.stat().st_size
        change = self._changes[picture.act % len(self._changes)]
        with self._untouched(*([self.disk] if change == self._coalesce else self._originals)):
            self._attempt(change)
        self._judge_growth(before)
        self.new.unlink(missing_ok=True)
        if {*self._directory.iterdir()} != self._expected:
            raise Finding(f"files are {os.listdir(self._directory)}")

    @property
    def acts(self) -> int:
        """How many operations a picture can choose from."""
        return len(self._changes)

    @property
    def _looks(self) -> tuple[Callable[[], object], ...]:
        return (
            lambda: vhd.query(self.disk, resolve_parent=False, allocated=True),
            lambda: vhd.query(self.disk, depth=True),
            self._read,
            self._check,
            lambda: vhd.check(self.disk, parents=True, usage=True),
        )

    @property
    def _changes(self) -> tuple[Callable[[], object], ...]:
        return (
            self._write,
            self._zero,
            lambda: vhd.snapshot(self.new, self.disk),
            lambda: vhd.set_hidden(self.disk, True),
            lambda: vhd.resize(self.disk, 6 * MIB),
            lambda: vhd.set_physical_size(self.disk, 8 * MIB),
            lambda: vhd.set_parent(self.disk, self.parent),
            lambda: vhd.set_parent(self.disk, self.raw, raw_parent=True),
            lambda: vhd.coalesce(self.disk, output=self.new),
            self._coalesce,
        )

    def _read(self) -> None:
        with vhd.open_chain(self.disk) as chain:
            for start in (0, 2 * MIB - 4096, chain.size // 2, chain.size - 8192):
                if 0 <= start <= chain.size - 8192:
                    chain.read(start, 8192)

    def _write(self) -> None:
        with vhd.open_chain(self.disk, writable=True) as chain:
            for start in (0, 2 * MIB - 4096, chain.size // 2 + 1, chain.size - 8192):
                if 0 <= start <= chain.size - 8192:
                    chain.write(start, b"w" * 8192)
                    chain.flush()

    def _zero(self) -> None:
        with vhd.open_chain(self.disk, writable=True) as chain:
            chain.zero(0, min(chain.size, 5 * MIB))

    def _coalesce(self) -> None:
        try:
            vhd.coalesce(self.disk)
        finally:
            for path, content in self._originals.items():
                path.write_bytes(content)

    def _check(self) -> None:
        """Reports whatever it finds: to it nothing is an error."""
        try:
            vhd.check(self.disk, blocks=True)
        except vhd.VHDError as error:
            raise Finding("check raised an error") from error

    def _attempt(self, action: Callable[[], object]) -> None:
        began = time.process_time()
        with bounded_memory():
            try:
                action()
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
        """A disk may grow by all of its blocks, one for every one that a crash could have cut."""
        after = self.disk.stat().st_size
        try:
            blocks = vhd.query(self.disk, resolve_parent=False).size // vhd.BLOCK
        except vhd.VHDError:
            blocks = 0
        if after > max(before, 8 * MIB) + (blocks + 4) * _STRIDE:
            raise Finding(f"the file of {before} bytes was written at {after}")


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
