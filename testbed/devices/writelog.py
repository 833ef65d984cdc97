"""What was written to a disk, write by write: the log of device-mapper's target log-writes.

The log knows all that a power cut can do: what was written before a flush that came back is on
the medium, and of what was written since then any part may be.

    with recorded(host, disk, image, log) as recorder:   a disk with a layer below it
        ...                                              drivers work
        recorder.mark("half done")

    Exception
    └── BadLog   the file is no log, or ends too early

The format, version 1 (reference: the kernel's documentation of dm-log-writes); numbers are
little endian, and count in sectors of the log's own size:

    sector 0       magic, version, number of entries, bytes of a sector
    then, each     one sector: sector, sectors, flags, bytes of a mark's text, that text
                   the data that was written; none for a mark, a discard, or a bare flush

The kernel logs a write when the next flush comes back, just before that flush, and a mark at
once: so a mark is in front of what was written but not flushed when it was made.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from testbed.devices.disk import Disk, GiB
from testbed.devices.layer import Layer
from testbed.devices.sparse import copy_sparse
from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.host import Host

_MAGIC: Final = 0x6A736677736872
_VERSION: Final = 1
_SUPER: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")
#: The kernel's own mark when it closes a log.
_END: Final = "dm-log-writes-end"
#: Of the disk that a log is written to; only what is written takes space.
_ROOM: Final = 64 * GiB


class BadLog(TestbedError):
    """A file is no log of writes, or is not whole."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} is no log of writes: {reason}")


class Flag(IntFlag):
    """What an entry is."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8
    METADATA = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        number: its place in the log, from 0.
        offset: bytes from the start of the disk.
        length: bytes; 0 for a mark or a bare flush.
        flags: what it is.
        text: a mark's.
        data_at: where in the log's file the data begin.
    """

    number: int
    offset: int
    length: int
    flags: Flag
    text: str = ""
    data_at: int = 0

    @property
    def end(self) -> int:
        """Where on the disk it ends, in bytes."""
        return self.offset + self.length

    def __str__(self) -> str:
        if self.flags & Flag.MARK:
            return f"{self.number}: mark {self.text}"
        words = [str(flag.name).lower() for flag in Flag if flag & self.flags] or ["write"]
        where = f" {self.offset}+{self.length}" if self.length else ""
        return f"{self.number}: {' '.join(words)}{where}"


class WriteLog:
    """A log that is complete.

    Args:
        path: the log's file.

    Raises:
        BadLog: it is none, or it ends before its last entry.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.entries = tuple(self._read(path))
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _read(self, path: Path) -> Iterator[Entry]:
        end = os.fstat(self._fd).st_size
        head = os.pread(self._fd, _SUPER.size, 0)
        if len(head) < _SUPER.size:
            raise BadLog(path, "it is too short")
        magic, version, count, sector = _SUPER.unpack(head)
        if (magic, version) != (_MAGIC, _VERSION) or sector < 512:
            raise BadLog(path, "it begins with something else")
        at = sector
        for number in range(count):
            header = os.pread(self._fd, sector, at)
            if len(header) < sector:
                raise BadLog(path, f"it ends before entry {number} of {count}")
            first, sectors, flags, text_length = _ENTRY.unpack_from(header)
            text = header[_ENTRY.size : _ENTRY.size + text_length] if flags & Flag.MARK else b""
            at += sector
            yield Entry(
                number,
                first * sector,
                sectors * sector,
                Flag(flags),
                text.rstrip(b"\0").decode(errors="replace"),
                at,
            )
            if not flags & Flag.DISCARD:
                at += sectors * sector
        if at > end:
            raise BadLog(path, f"it has {end} bytes, its entries {at}")

    def data(self, entry: Entry) -> bytes:
        """What was written; zeros for a discard."""
        if entry.flags & Flag.DISCARD:
            return bytes(entry.length)
        return os.pread(self._fd, entry.length, entry.data_at)

    def find(self, mark: str) -> int:
        """The number of the first mark with this text. Raises LookupError."""
        for entry in self.entries:
            if entry.flags & Flag.MARK and entry.text == mark:
                return entry.number
        raise LookupError(f"the log has no mark {mark!r}")

    def replay(self, entries: Iterable[Entry], image: int) -> None:
        """Do the writes again, in order.

        Args:
            entries: of this log.
            image: descriptor of a file as large as the disk.
        """
        for entry in entries:
            if entry.length:
                os.pwrite(image, self.data(entry), entry.offset)


@dataclass(frozen=True, slots=True)
class Window:
    """What lay between two flushes: at a power cut in here any part of it may get lost.

    Attributes:
        writes: in the order in which they were made. One with FUA was durable when it came
            back, so the ones that are kept are the first ones of those.
        marks: texts of the marks that were made meanwhile.
    """

    writes: tuple[Entry, ...]
    marks: tuple[str, ...]


def windows(entries: Iterable[Entry]) -> list[Window]:
    """Cut a log at its flushes. The last window is what no flush followed.

    A flush that carries data flushes what was before it; its own data are in the next window.
    """
    cut: list[Window] = []
    writes: list[Entry] = []
    marks: list[str] = []
    for entry in entries:
        if entry.flags & Flag.MARK and entry.text != _END:
            marks.append(entry.text)
        if entry.flags & Flag.FLUSH:
            cut.append(Window(tuple(writes), tuple(marks)))
            writes, marks = [], []
        if entry.length:
            writes.append(entry)
    cut.append(Window(tuple(writes), tuple(marks)))
    return cut


@dataclass(frozen=True, slots=True)
class Recorder:
    """Notes moments in a log that is being written."""

    layer: Layer

    def mark(self, text: str) -> None:
        """Note a moment: it comes after everything that was flushed before."""
        # Device-mapper takes a message apart at its blanks.
        self.layer.message("mark " + text.replace("\\", "\\\\").replace(" ", "\\ "))


@contextmanager
def recorded(host: "Host", disk: Disk | str, image: Path, log: Path) -> Iterator[Recorder]:
    """Log what is written to a disk while the block runs.

    Args:
        host: it runs.
        disk: one with a layer, or a directory on one.
        image: becomes a copy of the disk as it is when the log begins.
        log: becomes the log, when the block has ended.
    """
    layer = host.layer(disk)
    plugged = host.disk_below(disk) if isinstance(disk, str) else disk
    paper = host.add_disk(_ROOM)
    host.kernel.require("dm-log-writes")
    layer.suspend()  # so that the copy and the beginning of the log are one moment
    try:
        copy_sparse(plugged.path, image)
        layer.switch([(0, layer.sectors, "log-writes", f"{layer.below} {paper.device}")])
    except BaseException:
        layer.resume()
        raise
    try:
        yield Recorder(layer)
    finally:
        if host.kernel.running:
            layer.pass_through()  # its end writes what the log has not yet got
            host.eject_disk(paper)
            paper.path.rename(log)
