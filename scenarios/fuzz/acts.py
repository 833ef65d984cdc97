"""What the engine and its commands can do with the disk, log or journal ``disk.vhd``."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import BytesIO, TextIOWrapper
from pathlib import Path

from scenarios.fuzz import seeds
from srs import vhd
from srs.tools import cbt_util, td_util, vhd_util
from srs.vhd import cbt
from srs.vhd.reset import drop_data

MIB = 1 << 20
_MUCH = 64 * MIB
"""Bytes of a virtual disk up to which work in proportion to its size takes no second."""

_COMMANDS = (
    "vhd-util query -n DISK -vspfmdaS",
    "vhd-util query -n DISK -pu",
    "vhd-util read -n DISK -p",
    "vhd-util read -n DISK -a",
    "vhd-util read -n DISK -B",
    "vhd-util read -n DISK -b 1 -x",
    "vhd-util read -n DISK -m 1 -i 5000 -j 1 -t 5000 -c 3",
    "vhd-util read -n DISK -e 0 -c 9000",
    "vhd-util read -n DISK -r 4090 -c 12",
    "vhd-util check -n DISK -s",
    "vhd-util check -n DISK -iItbp",
    "vhd-util scan -v -a -M DISK",
    "vhd-util scan -f -p DISK",
    "vhd-util key -p -n DISK",
    "td-util query -vpfdb vhd DISK",
    "cbt-util get -n DISK -p",
    "cbt-util get -n DISK -s",
    "cbt-util get -n DISK -b",
)
_PROGRAMS = {"vhd-util": vhd_util.main, "td-util": td_util.main, "cbt-util": cbt_util.main}

Act = Callable[[], object]


class Finding(Exception):
    """A promise was broken without any exception; ``str()`` says which."""


class Acts:
    """The operations: ``looks`` must not change a byte, ``changes`` only the files they name.

    ``others`` are the files beside the disk that may be read, and are written by :meth:`merge`
    only; ``new`` is the file that some make.
    """

    def __init__(self, directory: Path) -> None:
        """Make a directory to work in, with a parent, a raw image, a log and a pipe."""
        self.disk = directory / "disk.vhd"
        self.new = directory / "new.vhd"
        self.parent, self.raw, self.log, self.resizing = (
            directory / name for name in ("parent.vhd", "raw", "log", "resizing.vhd")
        )
        seeds.make_others(directory)
        self.others = (self.parent, self.raw, self.log, self.resizing)
        self._originals = {path: path.read_bytes() for path in self.others}

    @property
    def looks(self) -> tuple[Act, ...]:
        """Operations that only read."""
        return (
            lambda: vhd.query(self.disk, resolve_parent=False, allocated=True),
            lambda: vhd.query(self.disk, depth=True),
            self._read,
            self._check,
            lambda: vhd.check(self.disk, parents=True, usage=True),
            lambda: sum(1 for _ in vhd.extents(self.disk)),
            lambda: list(vhd.scan([self.disk], ancestors=True, markers=True)),
            lambda: list(vhd.scan([self.disk], fast=True)),
            lambda: cbt.get_bitmap(self.disk),
        )

    @property
    def commands(self) -> tuple[Act, ...]:
        """Commands that only read, one of which each input chooses; they print into nothing."""
        return tuple(partial(self._run, command) for command in _COMMANDS)

    def _run(self, command: str) -> None:
        """To a command nothing is an exception: it has an exit code."""
        program, *argv = command.replace("DISK", str(self.disk)).split()
        with TextIOWrapper(BytesIO()) as out, redirect_stdout(out), redirect_stderr(out):
            try:
                _PROGRAMS[program](argv)
            except vhd.VHDError as error:
                raise Finding(f"{program} let an error out") from error

    @property
    def changes(self) -> tuple[Act, ...]:
        """Operations that write, one of which each input chooses."""
        return (
            self._write,
            self._zero,
            lambda: vhd.snapshot(self.new, self.disk),
            lambda: vhd.set_hidden(self.disk, 1),
            lambda: vhd.resize(self.disk, 6 * MIB),
            lambda: vhd.resize(self.disk, 300 * MIB, journal=self.new),
            lambda: vhd.resize(self.disk, 2 * MIB, journal=self.new),
            lambda: vhd.set_physical_size(self.disk, 8 * MIB),
            lambda: vhd.set_parent(self.disk, self.parent),
            lambda: vhd.set_parent(self.disk, self.raw, raw_parent=True),
            self.merge,
            lambda: vhd.coalesce(self.disk, output=self.new),
            lambda: vhd.copy(self.disk, self.new),
            lambda: vhd.copy(self.disk, self.new, differences=True),
            self._copy_raw,
            lambda: vhd.repair(self.disk),
            lambda: vhd.repair(self.disk, backup=True),
            self._fill,
            lambda: drop_data(self.disk),
            self._revert,
            lambda: cbt.set_fields(self.disk, consistent=1, size=8 * MIB),
            lambda: cbt.coalesce(self.log, self.disk),
        )

    def merge(self) -> None:
        """The disk into its parent, which gets back afterwards what it had."""
        with self._restored():
            vhd.coalesce(self.disk)

    @contextmanager
    def _restored(self) -> Iterator[None]:
        try:
            yield
        finally:
            for path, content in self._originals.items():
                path.write_bytes(content)

    def _spots(self, size: int) -> list[int]:
        """Where 8 KiB are read or written: both ends, a block's border, anywhere."""
        spots = (0, 2 * MIB - 4096, size // 2 + 1, size - 8192)
        return [spot for spot in spots if 0 <= spot <= size - 8192]

    def _read(self) -> None:
        with vhd.open_chain(self.disk) as chain:
            for spot in self._spots(chain.size):
                chain.read(spot, 8192)

    def _write(self) -> None:
        with vhd.open_chain(self.disk, writable=True) as chain:
            for spot in self._spots(chain.size):
                chain.write(spot, b"w" * 8192)
                chain.flush()

    def _zero(self) -> None:
        with vhd.open_chain(self.disk, writable=True) as chain:
            chain.zero(0, min(chain.size, 5 * MIB))

    def _check(self) -> None:
        """It reports whatever it finds, and raises nothing."""
        try:
            vhd.check(self.disk, blocks=True)
        except vhd.VHDError as error:
            raise Finding("check raised an error") from error

    def _copy_raw(self) -> None:
        if vhd.query(self.disk, resolve_parent=False).size <= _MUCH:
            vhd.copy(self.disk, self.new, raw_target=True)

    def _fill(self) -> None:
        if vhd.query(self.disk, resolve_parent=False).size <= _MUCH:
            vhd.fill(self.disk)

    def _revert(self) -> None:
        """The file as a journal, of a disk whose resize was interrupted."""
        shutil.copyfile(self.resizing, self.new)
        journal = self.disk.with_name("journal")
        journal.hardlink_to(self.disk)
        try:
            vhd.revert_journal(self.new, journal)
        finally:
            journal.unlink(missing_ok=True)
