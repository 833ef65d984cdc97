"""A machine: a kernel with disks and perhaps a network card. Hosts are machines, and so is storage.

Its files (disks, sockets, the kernel's own) are in a state directory on this machine. Cutting
the power kills the kernel, never the caller; the disks are there when it starts again.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from testbed.devices.disk import Disk, Shelf, create_file
from testbed.devices.layer import Layer
from testbed.devices.nfs import Export, NfsServer
from testbed.errors import DeviceRefused
from testbed.inventory import Inventory, load, save
from testbed.kernel import choose
from testbed.kernel.base import Kernel
from testbed.network import Network, Nic
from testbed.network.interface import Interface
from testbed.state import LastingDirectory, StateDirectory, base

#: Bytes that travel to or from the guest at once. On the way each process inside has several
#: copies of them and keeps the memory for the next ones; a guest has little.
_PIECE = 256 << 10


def pieces(offset: int, length: int) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of each piece of a range."""
    for at in range(offset, offset + length, _PIECE):
        yield at, min(_PIECE, offset + length - at)


def _batches(spans: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, memoryview]]]:
    """The same writes in the same order, in batches of at most `_PIECE` bytes."""
    batch: list[tuple[int, memoryview]] = []
    room = _PIECE
    for offset, data in spans:
        rest = memoryview(data)
        while rest:
            batch.append((offset, rest[:room]))
            offset, rest, room = offset + room, rest[room:], room - len(rest[:room])
            if not room:
                yield batch
                batch, room = [], _PIECE
    yield batch


class Equipment(Protocol):
    """What a machine has beside disks, such as a target with LUNs."""

    def plug(self) -> None:
        """Set it up in the kernel that runs now; its disks are plugged in already."""


class Machine:
    """A kernel and what is plugged into it.

    Args:
        kernel: "uml", "local" or "auto".
        name: host name.
        variants: Python files that register more drivers (see testbed/guest/smserver.py).
        directory: where disks are kept when the machine ends, and found when it starts again;
            None: they end with it.
        drivers: whether storage drivers run inside.
        network: what its network card is plugged into; None for a machine without one.
        address: of the card; the network chooses one where none is given.
        shelf: whose disks it may plug in, beside its own.
        extra_memory: bytes beyond what its kernel usually has.
        tree: the directory that holds the package `srs` with its drivers; None for our own.
    """

    def __init__(
        self,
        *,
        kernel: str = "auto",
        name: str = "machine",
        variants: Sequence[Path] = (),
        directory: Path | None = None,
        drivers: bool = True,
        network: Network | None = None,
        address: str = "",
        shelf: Shelf | None = None,
        extra_memory: int = 0,
        tree: Path | None = None,
    ) -> None:
        self.hostname = name
        self._kind = choose(kernel)
        self._variants = tuple(variants)
        self._directory = directory
        self._drivers = drivers
        #: Its network cards: one, or none.
        self.nics: tuple[Nic, ...] = () if network is None else (network.plug(address),)
        self._shelf = shelf
        self._extra_memory = extra_memory
        self._tree = tree
        self._disks: list[Disk] = []
        self._disk_numbers = itertools.count()
        self._directories: dict[str, Disk] = {}
        #: Directories below its NFS exports, and whether clients may only read them.
        self._exported: dict[str, bool] = {}
        #: What stands on disks, and has to be set up again after each boot.
        self.equipment: list[Equipment] = []
        self._state: StateDirectory | None = None
        self._kernel: Kernel | None = None
        self._nfs: NfsServer | None = None
        self.boot_seconds = 0.0

    # --- life ----------------------------------------------------------------------------

    def start(self) -> Self:
        """Boot the kernel. Nothing is left behind when that fails.

        From a lasting directory come the disks of the last start.

        Raises:
            DeviceRefused: what the directory holds cannot be used.
        """
        if self._directory is None:
            self._state = StateDirectory(base(), self.hostname)
        else:
            self._state = LastingDirectory(self._directory)
        try:
            self._boot()
            if self._directory is not None:
                inventory = load(self.state_directory)
                self._disks, self._directories = list(inventory.disks), dict(inventory.mounts)
                self._exported = dict(inventory.exports)
            self._came_up(self._replug())
        except BaseException:
            self.close()
            raise
        return self

    def _boot(self) -> None:
        if self._state is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        self._kernel = self._kind(
            self._state,
            self.hostname,
            self._variants,
            nics=self.nics,
            drivers=self._drivers,
            shelf=None if self._shelf is None else self._shelf.path,
            extra_memory=self._extra_memory,
            tree=self._tree,
        )
        self._nfs = NfsServer(self._kernel, self.address if self.nics else "127.0.0.1")
        self._offer_services(self._kernel)
        self._kernel.when_lost = self._went_away
        self.boot_seconds = self._kernel.boot()

    def _offer_services(self, kernel: Kernel) -> None:
        """Before each boot: what the guest will reach outside."""

    def _went_away(self) -> None:
        """The kernel died by itself: a panic, a kill from outside. From any thread."""

    def _came_up(self, renamed: Mapping[str, str]) -> None:
        """After the first boot, the disks are plugged in; see `_replug` for `renamed`."""

    def _came_back(self, renamed: Mapping[str, str]) -> None:
        """After each later boot."""

    def close(self) -> None:
        """Power off and remove everything, unless `keep` was called. Idempotent."""
        if self._kernel is not None:
            self._kernel.power_off()
            self._kernel = None
        if self._state is not None:
            self._state.close()
            self._state = None

    def keep(self) -> Path:
        """Leave the state directory (disks, logs) in place after `close`."""
        if self._state is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        self._state.keep = True
        (self._state.path / "console.log").write_text(self.kernel.console(10_000))
        return self._state.path

    def power_cut(self) -> None:
        """Cut the power: kernel, drivers and everything that was not flushed are gone."""
        self.kernel.power_cut()

    def restart(self) -> None:
        """Boot again with the same disks, after a power cut or in good order."""
        self.kernel.power_off()
        self._boot()
        self._came_back(self._replug())

    def _replug(self) -> dict[str, str]:
        """Plug in what was there before; returns how devices are called now, by their old names."""
        before, self._disks = self._disks, []
        renamed = {
            disk.device: self._plug(disk.path, disk.size, disk.layered, disk.bare).device
            for disk in before
        }
        for path, disk in self._directories.items():
            self.kernel.call("mount", source=self.like(disk).device, target=path, kind="ext4")
        for path, read_only in self._exported.items():
            self.nfs.export(path, read_only=read_only)
        for item in self.equipment:
            item.plug()
        return {old: new for old, new in renamed.items() if old != new}

    def _write_inventory(self) -> None:
        if self._directory is not None:
            inventory = Inventory(self._disks, self._directories, self._exported)
            save(self.state_directory, inventory)

    def __enter__(self) -> Self:
        return self if self._kernel is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- access --------------------------------------------------------------------------

    @property
    def kernel(self) -> Kernel:
        """The kernel that runs now."""
        if self._kernel is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        return self._kernel

    @property
    def nfs(self) -> NfsServer:
        """The NFS server of its kernel, at its address, else at 127.0.0.1."""
        if self._nfs is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        return self._nfs

    @property
    def state_directory(self) -> Path:
        """Its files on this machine."""
        if self._state is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        return self._state.path

    @property
    def nic(self) -> Nic:
        """Its network card."""
        if not self.nics:
            raise DeviceRefused(f"{self.hostname} is on no network")
        return self.nics[0]

    @property
    def interface(self) -> Interface:
        """The same card as its kernel has it."""
        self.nic  # noqa: B018  # refused where there is none
        return Interface(self.kernel, "vec0")

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self.nic.ip

    # --- devices -------------------------------------------------------------------------

    def add_disk(self, size: int, *, layered: bool = False, bare: bool = False) -> Disk:
        """Hot-plug a new, empty disk of `size` bytes. Only what is written takes space.

        With `layered`, faults can be put below it: see `layer`. A `bare` one is for a LUN.

        Raises:
            DeviceRefused: no slot is left; or a LUN would have to last.
        """
        if bare and self._directory is not None:
            raise DeviceRefused("LUNs do not last", hint="use a host without a directory")
        paths = (self.state_directory / f"disk{number}" for number in self._disk_numbers)
        path = next(path for path in paths if not path.exists())
        create_file(path, size)
        disk = self._plug(path, size, layered, bare)
        self._write_inventory()
        return disk

    def _plug(self, path: Path, size: int, layered: bool = False, bare: bool = False) -> Disk:
        device = self.kernel.add_disk(path, layered=layered, bare=bare)
        disk = Disk(path, size, device, layered, bare)
        self._disks.append(disk)
        return disk

    def add_shared_disk(self, path: Path, *, bare: bool = False) -> Disk:
        """Hot-plug a disk of the shelf, which other machines may have plugged in, too."""
        return self._plug(path, path.stat().st_size, bare=bare)

    def like(self, old: Disk) -> Disk:
        """The disk that stands on the same file now."""
        return next(disk for disk in self._disks if disk.path == old.path)

    def layer(self, disk: Disk | str | Export) -> Layer:
        """What lies below a disk that was added with a layer, or a directory or export on one.

        Raises:
            DeviceRefused: it has no layer.
        """
        path = disk.directory if isinstance(disk, Export) else disk
        plugged = self.disk_below(path) if isinstance(path, str) else self.like(path)
        return Layer(self.kernel, self.kernel.below_layer(plugged.device), plugged.size)

    def eject_disk(self, disk: Disk) -> None:
        """Unplug a disk; its file stays. Raises DeviceRefused while it is in use."""
        self.kernel.remove_disk(disk.device)
        self._disks.remove(disk)
        self._write_inventory()

    def remove_disk(self, disk: Disk) -> None:
        """Unplug a disk and delete its file. Raises DeviceRefused while it is in use."""
        self.eject_disk(disk)
        disk.path.unlink()

    def add_directory(self, size: int, *, layered: bool = False) -> str:
        """A fresh ext4 file system on a disk of its own, mounted; returns its path inside."""
        disk = self.add_disk(size, layered=layered)
        path = f"/mnt/disks/{disk.path.name}"
        # No discard: ubd takes it in pieces of 32 KiB, and a fresh disk is a hole already.
        argv = ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init", disk.device]
        done = self.kernel.run(argv)
        if done.returncode:
            raise DeviceRefused(f"mkfs.ext4 of {disk.device} failed: {done.stderr}")
        self.kernel.call("mount", source=disk.device, target=path, kind="ext4")
        self._directories[path] = disk
        self._write_inventory()
        return path

    def remount_directory(self, path: str) -> None:
        """Unmount what `add_directory` made, repair what an error left in it, mount it again.

        Raises:
            DeviceRefused: it cannot be repaired.
        """
        device = self.disk_below(path).device
        self.kernel.call("unmount", target=path)
        done = self.kernel.run(["fsck.ext4", "-p", device])
        if done.returncode > 1:  # 1: errors were found and corrected
            raise DeviceRefused(f"fsck.ext4 of {device} failed: {done.stdout}{done.stderr}")
        self.kernel.call("mount", source=device, target=path, kind="ext4")

    def disk_below(self, path: str) -> Disk:
        """The disk that is mounted on what `add_directory` made."""
        return self.like(self._directories[path])

    def eject_directory(self, path: str) -> Disk:
        """Unmount what `add_directory` made, and unplug its disk, whose file stays."""
        disk = self.disk_below(path)
        self.kernel.call("unmount", target=path)
        del self._directories[path]
        self.eject_disk(disk)
        return disk

    def remove_directory(self, path: str) -> None:
        """Unmount what `add_directory` made, and remove its disk."""
        self.eject_directory(path).path.unlink()

    def add_export(self, size: int, *, layered: bool = False) -> Export:
        """A fresh file system like `add_directory`'s, exported by this machine's NFS server."""
        path = self.add_directory(size, layered=layered)
        try:
            return self.export(path)
        except BaseException:
            self.remove_directory(path)
            raise

    def export(self, directory: str, *, read_only: bool = False) -> Export:
        """Have the NFS server export a directory, after each boot again; see NfsServer.export."""
        export = self.nfs.export(directory, read_only=read_only)
        self._exported[directory] = read_only
        self._write_inventory()
        return export

    def withdraw(self, export: Export) -> None:
        """Undo `export`; see NfsServer.withdraw."""
        self.nfs.withdraw(export)
        del self._exported[export.directory]
        self._write_inventory()

    def remove_export(self, export: Export) -> None:
        """Take back what `add_export` made, and remove its disk."""
        self.withdraw(export)
        self.remove_directory(export.directory)

    # --- blocks: what a VM would see -----------------------------------------------------

    def read(self, device: str, offset: int, length: int) -> bytes:
        """Bytes of a block device of the host, past its page cache; fewer at its end."""
        return b"".join(
            self.kernel.exchange("read", {"path": device, "offset": at, "length": size}).blob
            for at, size in pieces(offset, length)
        )

    def read_pieces(self, places: Sequence[tuple[str, int, int]]) -> list[tuple[int, bytes]]:
        """Many small reads in one call.

        Args:
            places: path, offset and length of each; a negative offset counts from the end.

        Returns:
            For each place the size of what is at the path, -1 if nothing is, and the bytes.
        """
        answer = self.kernel.exchange("pieces", {"places": list(places)})
        found, at = [], 0
        for size, length in answer.value:
            found.append((size, answer.blob[at : at + length]))
            at += length
        return found

    def write(self, device: str, *spans: tuple[int, bytes]) -> None:
        """Write (offset, bytes) after (offset, bytes) to a block device, then sync it."""
        batches = list(_batches(spans))
        for number, batch in enumerate(batches, 1):
            self.kernel.call(
                "write",
                blob=b"".join(data for _, data in batch),
                path=device,
                spans=[(offset, len(data)) for offset, data in batch],
                sync=number == len(batches),
            )

    def digest(self, device: str) -> tuple[int, str]:
        """Size in bytes and SHA-256 of everything that a block device holds."""
        result = self.kernel.call("digest", path=device)
        return int(result["size"]), str(result["sha256"])

    @contextmanager
    def programs_run(self) -> Iterator[list[str]]:
        """Fills a list with the names of programs that are executed inside meanwhile."""
        names: list[str] = []
        self.kernel.call("accounting_start")
        try:
            yield names
        finally:
            names += self.kernel.call("accounting_stop")

    def census(self, *roots: str) -> dict[str, list[str]]:
        """What could be leaked, by kind, and the files below `roots`."""
        result: dict[str, list[str]] = self.kernel.call("census", roots=list(roots))
        return result
