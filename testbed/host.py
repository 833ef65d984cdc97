"""One XenServer storage host: a kernel, devices, the storage drivers, and a xapi in front.

    with Host() as host:
        session = host.session()
        sr = provision(host, session, "lvhd")

The toolstack runs in this process, the drivers inside the kernel: cutting the power kills
drivers and devices, never the caller.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from testbed import dom0
from testbed.devices.disk import Disk, create_file
from testbed.devices.layer import Layer
from testbed.errors import DeviceRefused, GuestFault, KernelDied
from testbed.fist import Fist, armed
from testbed.inventory import Inventory, load, save
from testbed.kernel import choose
from testbed.kernel.base import Kernel
from testbed.kernel.channel import Answer
from testbed.sessions import close_session, open_local_session, open_session
from testbed.state import LastingDirectory, StateDirectory, base
from xapi.backend import BackendUnavailable, DeviceBusy, HostError, PluginFailed, PluginReply
from xapi.server import XapiServer
from xapi.store import StateError

_EBUSY = 16
PASSWORD = "testbed"
#: Bytes that travel to or from the guest at once. On the way each process inside has several
#: copies of them and keeps the memory for the next ones; a guest has little.
_PIECE = 256 << 10


def seeded_uuids(seed: int) -> Callable[[], str]:
    """A source of uuids that gives the same ones for the same seed: programs replay."""
    numbers = random.Random(seed)
    lock = threading.Lock()

    def next_uuid() -> str:
        with lock:
            return str(UUID(int=numbers.getrandbits(128), version=4))

    return next_uuid


def _pieces(offset: int, length: int) -> Iterator[tuple[int, int]]:
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


class Host:
    """A host under test. Implements xapi's `HostBackend`.

    Args:
        kernel: "uml", "local" or "auto".
        name: host name.
        seed: where uuids come from; None for uuids that nobody had before.
        variants: Python files that register more drivers (see testbed/guest/smserver.py).
        directory: where disks and xapi's objects are kept when the host ends, and found when
            it starts again; None: they end with it.
        port: where xapi listens on loopback; 0 picks a free one.
    """

    def __init__(
        self,
        *,
        kernel: str = "auto",
        name: str = "host",
        seed: int | None = None,
        variants: Sequence[Path] = (),
        directory: Path | None = None,
        port: int = 0,
    ) -> None:
        self.hostname = name
        self._kind = choose(kernel)
        self._variants = tuple(variants)
        self._seed = seed
        self._directory = directory
        self._port = port
        self._disks: list[Disk] = []
        self._disk_numbers = itertools.count()
        self._directories: dict[str, Disk] = {}
        self._state: StateDirectory | None = None
        self._kernel: Kernel | None = None
        self._xapi: XapiServer | None = None
        self.boot_seconds = 0.0

    # --- life ----------------------------------------------------------------------------

    def start(self) -> Self:
        """Boot the kernel, start xapi. Nothing is left behind when that fails.

        From a lasting directory come the disks and the objects of the last start; the SRs are
        not plugged in yet (see testbed/lasting.py).

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
            renamed = self._replug()
            self._xapi = self._start_xapi()
            self._rename_devices(renamed)
        except StateError as error:
            self.close()
            raise DeviceRefused(str(error)) from error
        except BaseException:
            self.close()
            raise
        return self

    def _start_xapi(self) -> XapiServer:
        xapi = XapiServer(
            self,
            port=self._port,
            unix_socket=self.state_directory / "xapi.sock",
            password=PASSWORD,
            uuid_source=None if self._seed is None else seeded_uuids(self._seed),
            state=None if self._directory is None else self.state_directory / "xapi.db",
        )
        try:
            xapi.start()
        except OSError as error:
            raise DeviceRefused(f"xapi cannot listen on port {self._port}: {error}") from error
        return xapi

    def _boot(self) -> None:
        if self._state is None:
            raise DeviceRefused("the host was closed")
        self._kernel = self._kind(self._state, self.hostname, self._variants)
        self._kernel.offer("xapi", self.state_directory / "xapi.sock")
        self.boot_seconds = self._kernel.boot()

    def close(self) -> None:
        """Power off and remove everything, unless `keep` was called. Idempotent."""
        if self._xapi is not None:
            self._xapi.stop()
            self._xapi = None
        if self._kernel is not None:
            self._kernel.power_off()
            self._kernel = None
        if self._state is not None:
            self._state.close()
            self._state = None

    def keep(self) -> Path:
        """Leave the state directory (disks, logs) in place after `close`."""
        if self._state is None:
            raise DeviceRefused("the host was closed")
        self._state.keep = True
        (self._state.path / "console.log").write_text(self.kernel.console(10_000))
        return self._state.path

    def power_cut(self) -> None:
        """Cut the power: kernel, drivers and everything that was not flushed are gone."""
        self.kernel.power_cut()

    def fist(self, name: str, action: str = "error") -> AbstractContextManager[Fist]:
        """Have drivers fail, wait, die or lose power at a named point; see testbed/fist.py."""
        return armed(self.kernel, name, action, self.power_cut)

    def restart(self) -> None:
        """Boot again with the same disks, after a power cut or in good order."""
        self.kernel.power_off()
        self._boot()
        renamed = self._replug()
        self.xapi.host_restarted()
        self._rename_devices(renamed)

    def _replug(self) -> dict[str, str]:
        """Plug in what was there before; returns how devices are called now, by their old names."""
        before, self._disks = self._disks, []
        renamed = {
            disk.device: self._plug(disk.path, disk.size, layered=disk.layered).device
            for disk in before
        }
        for path, disk in self._directories.items():
            self.kernel.call("mount", source=self._like(disk).device, target=path, kind="ext4")
        return {old: new for old, new in renamed.items() if old != new}

    def _rename_devices(self, renamed: Mapping[str, str]) -> None:
        """Tell the PBDs where their disks are: names follow the order of plugging in."""
        if not renamed:
            return
        session = self.session()
        api = session.xenapi
        for pbd, record in api.PBD.get_all_records().items():
            config = record["device_config"]
            if config.get("device") in renamed:
                now = {**config, "device": renamed[config["device"]]}
                api.PBD.set_device_config(pbd, now)
        close_session(session)

    def _write_inventory(self) -> None:
        if self._directory is not None:
            save(self.state_directory, Inventory(self._disks, self._directories))

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
            raise DeviceRefused("the host was closed")
        return self._kernel

    @property
    def xapi(self) -> XapiServer:
        """The toolstack."""
        if self._xapi is None:
            raise DeviceRefused("the host was closed")
        return self._xapi

    @property
    def state_directory(self) -> Path:
        """Files of this host on this machine."""
        if self._state is None:
            raise DeviceRefused("the host was closed")
        return self._state.path

    def session(self) -> Any:
        """A logged-in session of the XenAPI client from PyPI, over a real TCP socket."""
        return open_session(self.xapi.url, "root", PASSWORD)

    def local_session(self) -> Any:
        """A session over the host's own socket, with the rights of a driver."""
        return open_local_session(self.state_directory / "xapi.sock")

    # --- devices -------------------------------------------------------------------------

    def add_disk(self, size: int, *, layered: bool = False) -> Disk:
        """Hot-plug a new, empty disk of `size` bytes. Only what is written takes space.

        With `layered`, faults can be put below it: see `layer`.
        """
        paths = (self.state_directory / f"disk{number}" for number in self._disk_numbers)
        path = next(path for path in paths if not path.exists())
        create_file(path, size)
        disk = self._plug(path, size, layered=layered)
        self._write_inventory()
        return disk

    def _plug(self, path: Path, size: int, *, layered: bool) -> Disk:
        disk = Disk(path, size, self.kernel.add_disk(path, layered=layered), layered)
        self._disks.append(disk)
        return disk

    def _like(self, old: Disk) -> Disk:
        """The disk that stands on the same file now."""
        return next(disk for disk in self._disks if disk.path == old.path)

    def layer(self, disk: Disk | str) -> Layer:
        """What lies below a disk that was added with a layer, or below a directory on one.

        Raises:
            DeviceRefused: it has no layer.
        """
        plugged = self.disk_below(disk) if isinstance(disk, str) else self._like(disk)
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

    def disk_below(self, path: str) -> Disk:
        """The disk that is mounted on what `add_directory` made."""
        return self._like(self._directories[path])

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

    # --- blocks: what a VM would see -----------------------------------------------------

    def read(self, device: str, offset: int, length: int) -> bytes:
        """Bytes of a block device of the host, past its page cache; fewer at its end."""
        return b"".join(
            self.kernel.exchange("read", {"path": device, "offset": at, "length": size}).blob
            for at, size in _pieces(offset, length)
        )

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
        """Mounts, loops, nbds, device-mapper devices, processes, and files below `roots`."""
        result: dict[str, list[str]] = self.kernel.call("census", roots=list(roots))
        return result

    # --- HostBackend: what xapi asks of a host -------------------------------------------

    def driver_types(self) -> list[str]:
        """SR types of all drivers, variants included."""
        return [str(name) for name in self._driver_call(None, "").value]

    def sm_call(self, driver: str, document: str) -> PluginReply:
        """Run a driver inside, in a process that has no other call meanwhile."""
        try:
            answer = self._driver_call(driver, document)
        except GuestFault as fault:
            return PluginReply("", f"{fault}\n{fault.trace}", 1)
        text = answer.blob.decode()
        return PluginReply(text, answer.value["stderr"], answer.value["returncode"])

    def _driver_call(self, driver: str | None, document: str) -> Any:
        try:
            return self.kernel.driver_call(driver, document)
        except KernelDied as error:
            raise BackendUnavailable(str(error)) from error

    def plugin_call(self, plugin: str, fn: str, args: Mapping[str, str]) -> str:
        """Run a plugin: `testbed` from outside, any other one inside, beside driver calls."""
        try:
            if plugin == "testbed":
                return dom0.plugin(self.kernel, fn, args)
            answer = self.kernel.plugin_call(plugin, fn, args)
        except KernelDied as error:
            raise BackendUnavailable(str(error)) from error
        except GuestFault as fault:
            raise PluginFailed(fn, fault.kind, str(fault)) from fault
        if "error" in answer:
            code, *params = answer["error"]
            raise PluginFailed(*params, code=code)
        return str(answer["value"])

    def plug(self, attached: Mapping[str, object], *, writable: bool) -> str:
        """Connect dom0 to a VDI that was attached and activated."""
        return str(self._host_call("plug", attached=dict(attached), writable=writable))

    def unplug(self, device: str) -> None:
        """Disconnect dom0."""
        self._host_call("unplug", device=device)

    def copy(self, source: str, destination: str, size: int) -> None:
        """Copy between two plugged devices."""
        self._host_call("copy", source=source, destination=destination, length=size)

    def used_blocks(self, device: str, size: int, *, base: str = "") -> Sequence[int]:
        """Numbers of the blocks that hold something, compared inside."""
        blocks: list[int] = self._host_call("used", path=device, unit=size, base=base)
        return blocks

    def read_blocks(self, device: str, offset: int, length: int) -> bytes:
        """Bytes of a plugged device."""
        arguments = {"path": device, "offset": offset, "length": length}
        return self._host_exchange("read", arguments).blob

    def write_blocks(self, device: str, offset: int, data: bytes) -> None:
        """Write to a plugged device."""
        for at, size in _pieces(0, len(data)):
            arguments = {"path": device, "offset": offset + at}
            self._host_exchange("store", arguments, data[at : at + size])

    def clear_blocks(self, device: str, offset: int, length: int) -> None:
        """Make bytes of a plugged device zero."""
        self._host_call("clear", path=device, offset=offset, length=length)

    def _host_call(self, operation: str, /, **arguments: Any) -> Any:
        return self._host_exchange(operation, arguments).value

    def _host_exchange(
        self, operation: str, arguments: Mapping[str, Any], blob: bytes = b""
    ) -> Answer:
        try:
            return self.kernel.exchange(operation, arguments, blob=blob)
        except KernelDied as error:
            raise BackendUnavailable(str(error)) from error
        except GuestFault as error:
            refused = DeviceBusy if error.errno == _EBUSY else HostError
            raise refused(str(error)) from error
