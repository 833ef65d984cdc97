"""One XenServer storage host: a kernel, devices, the storage drivers, and a xapi in front.

    with Host() as host:
        session = host.session()
        sr = provision(host, session, "lvhd")

The toolstack runs in this process, the drivers inside the kernel: cutting the power kills
drivers and devices, never the caller.
"""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from testbed import dom0
from testbed.collecting import Collected
from testbed.devices.disk import Shelf
from testbed.errors import DeviceRefused, GuestFault, KernelDied
from testbed.fist import Fist, armed
from testbed.kernel.base import Kernel
from testbed.kernel.channel import Answer
from testbed.machine import Machine, pieces
from testbed.network import Network
from testbed.sessions import close_session, open_local_session, open_session
from xapi.backend import BackendUnavailable, DeviceBusy, HostError, PluginFailed, PluginReply
from xapi.server import XapiServer
from xapi.store import StateError

_EBUSY = 16
PASSWORD = "testbed"


def seeded_uuids(seed: int) -> Callable[[], str]:
    """A source of uuids that gives the same ones for the same seed: programs replay."""
    numbers = random.Random(seed)
    lock = threading.Lock()

    def next_uuid() -> str:
        with lock:
            return str(UUID(int=numbers.getrandbits(128), version=4))

    return next_uuid


class Host(Machine):
    """A host under test. Implements xapi's `HostBackend`.

    Args:
        kernel: "uml", "local" or "auto".
        name: host name.
        seed: where uuids come from; None for uuids that nobody had before.
        variants: Python files that register more drivers (see testbed/guest/smserver.py).
        directory: where disks and xapi's objects are kept when the host ends, and found when
            it starts again; None: they end with it.
        port: where xapi listens on loopback; 0 picks a free one.
        network: see Machine.
        address: see Machine.
        shelf: see Machine.
        gc_pause: seconds after a scan, delete or revert until a garbage collector of the SR
            begins by itself; None: only `gc` collects.
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
        network: Network | None = None,
        address: str = "",
        shelf: Shelf | None = None,
        gc_pause: float | None = 5.0,
    ) -> None:
        super().__init__(
            kernel=kernel,
            name=name,
            variants=variants,
            directory=directory,
            network=network,
            address=address,
            shelf=shelf,
        )
        self._seed = seed
        self._port = port
        self._gc_pause = gc_pause
        self._xapi: XapiServer | None = None

    # --- life ----------------------------------------------------------------------------

    def start(self) -> Self:
        """Boot the kernel, start xapi. Nothing is left behind when that fails.

        From a lasting directory come the disks and the objects of the last start; the SRs are
        not plugged in yet (see testbed/lasting.py).

        Raises:
            DeviceRefused: what the directory holds cannot be used.
        """
        try:
            return super().start()
        except StateError as error:
            raise DeviceRefused(str(error)) from error

    def _offer_services(self, kernel: Kernel) -> None:
        kernel.offer("xapi", self.state_directory / "xapi.sock")

    def _came_up(self, renamed: Mapping[str, str]) -> None:
        self.collect_after(self._gc_pause)
        self._xapi = self._start_xapi()
        self._rename_devices(renamed)

    def _came_back(self, renamed: Mapping[str, str]) -> None:
        self.collect_after(self._gc_pause)
        self.xapi.host_restarted()
        self._rename_devices(renamed)

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

    def close(self) -> None:
        """Stop xapi, power off and remove everything, unless `keep` was called. Idempotent."""
        if self._xapi is not None:
            self._xapi.stop()
            self._xapi = None
        super().close()

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

    # --- access --------------------------------------------------------------------------

    @property
    def xapi(self) -> XapiServer:
        """The toolstack."""
        if self._xapi is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        return self._xapi

    def session(self) -> Any:
        """A logged-in session of the XenAPI client from PyPI, over a real TCP socket."""
        return open_session(self.xapi.url, "root", PASSWORD)

    def local_session(self) -> Any:
        """A session over the host's own socket, with the rights of a driver."""
        return open_local_session(self.state_directory / "xapi.sock")

    def fist(self, name: str, action: str = "error") -> AbstractContextManager[Fist]:
        """Have drivers fail, wait, die or lose power at a named point; see testbed/fist.py."""
        return armed(self.kernel, name, action, self.power_cut)

    def collect_after(self, seconds: float | None) -> None:
        """Set `gc_pause`; a collector that waits already keeps its own."""
        self._gc_pause = seconds
        self.kernel.call("gc_pause", text="never" if seconds is None else str(seconds))

    def gc(self, sr_uuid: str) -> Collected:
        """Collect an SR's garbage until there is none, in place of a collector that runs.

        Raises:
            PluginFailed: the SR is not plugged in, or cannot be used.
        """
        return Collected.parse(self.plugin_call("gc", "run", {"srUuid": sr_uuid}))

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
        for at, size in pieces(0, len(data)):
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
