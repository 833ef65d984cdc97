"""A host on which SRs recover, one after the other, many in one kernel."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scenarios.crash.diskfile import DiskFile, files_of
from scenarios.crash.recording import STORAGE_CLASSES, Rows
from scenarios.lvmtext import SECTOR, Volume, read_group
from scenarios.storage import Repository
from testbed.devices.disk import Disk

#: A kernel has so many states before another takes its place.
_STATES_PER_KERNEL: Final = 64
#: Where a file system is mounted to see what is on it.
_LOOK: Final = "/mnt/look"


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


class Opened(Repository):
    """An SR that is plugged in; its medium is read from the file of its disk.

    Args:
        sr: which.
        fd: descriptor of the disk's file.
    """

    def __init__(self, sr: Repository, fd: int) -> None:
        super().__init__(sr.host, sr.session, sr.provisioned)
        self._fd = fd

    @property
    def source(self) -> DiskFile:
        """The disk; where files lie on it is asked for each time."""
        if self.on_volumes:
            return DiskFile(self._fd)
        layout = self.host.kernel.call("layout", directory=self.directory)
        return DiskFile(self._fd, files_of(layout, self.directory, _filesystem(self, self._fd)))


def _filesystem(sr: Repository, fd: int) -> Volume:
    """Where on its disk a file SR's file system is: on all of it, or on a volume."""
    if isinstance(sr.provisioned.medium, str):
        return Volume("", False, frozenset(), ((0, os.fstat(fd).st_size),))
    return read_group(lambda offset, length: os.pread(fd, length, offset)).volumes[sr.uuid]


class Bed:
    """See the module. When something fails, `renew` it before it is used again.

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
    def attached(self, image: Path, rows: Rows) -> Iterator[Opened]:
        """Plug the SR in on a disk, which its driver mends; afterwards it is gone again."""
        directory = self._directory
        with self._inserted(image) as (device, fd):
            if directory:
                self._mount(device, directory)
            pbd = self._attach(device, rows)
            yield Opened(self._sr, fd)
            with self._ledger.entry("detach"):
                self._sr.api.PBD.unplug(pbd)
            if directory:
                self._unmount(directory)

    def plug(self, image: Path, rows: Rows) -> None:
        """Plug the SR in on a disk, until the power goes."""
        device = self._insert(image)
        if self._directory:
            self._mount(device, self._directory)
        self._attach(device, rows)

    def stored(self, image: Path) -> dict[str, Any]:
        """What is stored on an SR's disk that was not plugged in yet, by file or volume.

        A file system replays its journal for that, so its disk is not the same afterwards.
        """
        if self._sr.on_volumes:
            fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return DiskFile(fd).stored_volumes()
            finally:
                os.close(fd)
        with self._inserted(image) as (device, fd):
            volume = _filesystem(self._sr, fd)
            layout = self._layout(device, volume)
            return DiskFile(fd, files_of(layout, "", volume)).stored_files()

    def _layout(self, device: str, volume: Volume) -> Any:
        """Mount a file system, past LVM and the driver, and see where its files lie."""
        kernel, table, begin = self._host.kernel, [], 0
        for start, length in volume.segments:
            table.append((begin, length // SECTOR, "linear", f"{device} {start // SECTOR}"))
            begin += length // SECTOR
        mapped = kernel.call("dm_create", name="look", table=table)
        self._mount(mapped, _LOOK)
        where = _LOOK + ("/sr" if self._directory else "")
        layout = kernel.call("layout", directory=where)
        self._unmount(_LOOK)
        kernel.call("dm_remove", name="look")
        return layout

    @property
    def _directory(self) -> str:
        """What the disk of an SR of kind file is mounted on; the others do it themselves."""
        medium = self._sr.provisioned.medium
        return medium if isinstance(medium, str) else ""

    @contextmanager
    def _inserted(self, image: Path) -> Iterator[tuple[str, int]]:
        """A disk's device inside, and a descriptor of its file."""
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            device = self._insert(image)
            yield device, fd
            with self._ledger.entry("unplug"):
                self._host.kernel.remove_disk(device)
        finally:
            os.close(fd)

    def _insert(self, image: Path) -> str:
        self._uses += 1
        if self._uses > _STATES_PER_KERNEL:
            self.renew()
        with self._ledger.entry("plug"):
            return self._host.kernel.add_disk(image, layered=True)

    def _mount(self, device: str, target: str) -> None:
        with self._ledger.entry("mount"):
            self._host.kernel.call("mount", source=device, target=target, kind="ext4")

    def _unmount(self, target: str) -> None:
        with self._ledger.entry("mount"):
            self._host.kernel.call("unmount", target=target)

    def _attach(self, device: str, rows: Rows) -> str:
        """Put the database back, and plug the SR in; returns its PBD."""
        named = isinstance(self._sr.provisioned.medium, Disk)
        with self._ledger.entry("attach"):
            self._put_rows(rows, device if named else "")
            (pbd,) = self._sr.api.SR.get_PBDs(self._sr.ref)
            self._sr.api.PBD.plug(pbd)
        return str(pbd)

    def _put_rows(self, rows: Rows, device: str) -> None:
        moved = {}
        for key, row in rows.items():
            if key.cls == "PBD" and device:
                row = {**row, "device_config": {**row["device_config"], "device": device}}
            moved[key] = row
        self._host.xapi.xapi.db.put_back(STORAGE_CLASSES, moved)
        self._host.xapi.host_restarted()
