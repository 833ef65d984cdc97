"""A host of a pool: a kernel, devices and the storage drivers, but no toolstack of its own."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from testbed import dom0
from testbed.collecting import Collected
from testbed.errors import DeviceRefused, GuestFault, KernelDied
from testbed.fist import Fist, armed
from testbed.kernel.base import Kernel
from testbed.kernel.channel import Answer
from testbed.machine import Machine, pieces
from testbed.sessions import close_session, open_local_session, open_session
from xapi.backend import BackendUnavailable, DeviceBusy, HostError, PluginFailed, PluginReply
from xapi.server import XapiServer

_log = logging.getLogger(__name__)

_EBUSY = 16
PASSWORD = "testbed"


class Member(Machine):
    """A machine that is a host. Implements xapi's `HostBackend`."""

    #: Seconds after a scan, delete or revert until a garbage collector of the SR begins by
    #: itself; None: only `gc` collects.
    gc_pause: float | None = None

    # --- the toolstack -------------------------------------------------------------------

    @property
    @abstractmethod
    def xapi(self) -> XapiServer:
        """The toolstack."""

    @property
    def xapi_socket(self) -> Path:
        """Where drivers, and whoever else is local, reach the toolstack."""
        return self.state_directory / "xapi.sock"

    @property
    def ref(self) -> str:
        """The host's reference."""
        return self.xapi.host_of(self)

    def session(self) -> Any:
        """A logged-in session of the XenAPI client from PyPI, over a real TCP socket."""
        return open_session(self.xapi.url, "root", PASSWORD)

    def local_session(self) -> Any:
        """A session over the unix socket, with the rights of a driver."""
        return open_local_session(self.xapi_socket)

    # --- life ----------------------------------------------------------------------------

    def _offer_services(self, kernel: Kernel) -> None:
        kernel.offer("xapi", self.xapi_socket)

    def power_cut(self) -> None:
        """Cut the power: kernel, drivers and everything that was not flushed are gone."""
        super().power_cut()
        self.xapi.host_lost(self.ref)

    def _went_away(self) -> None:
        with suppress(DeviceRefused):  # the toolstack is not there yet, or not any more
            self.xapi.host_lost(self.ref)

    def _came_up(self, renamed: Mapping[str, str]) -> None:
        self.collect_after(self.gc_pause)

    def _came_back(self, renamed: Mapping[str, str]) -> None:
        self.collect_after(self.gc_pause)
        self.xapi.host_restarted(self.ref)
        self.rename_devices(renamed)

    def rename_devices(self, renamed: Mapping[str, str]) -> None:
        """Tell the host's PBDs where their disks are: names follow the order of plugging in."""
        if not renamed:
            return
        session = self.session()
        api = session.xenapi
        for pbd in api.host.get_PBDs(self.ref):
            config = api.PBD.get_device_config(pbd)
            if config.get("device") in renamed:
                now = {**config, "device": renamed[config["device"]]}
                api.PBD.set_device_config(pbd, now)
        close_session(session)

    def fist(self, name: str, action: str = "error") -> AbstractContextManager[Fist]:
        """Have drivers fail, wait, die or lose power at a named point; see testbed/fist.py."""
        return armed(self.kernel, name, action, self.power_cut)

    def collect_after(self, seconds: float | None) -> None:
        """Set `gc_pause`; a collector that waits already keeps its own."""
        self.gc_pause = seconds
        self.kernel.call("gc_pause", text="never" if seconds is None else str(seconds))

    def gc(self, sr_uuid: str) -> Collected:
        """Collect an SR's garbage until there is none, in place of a collector that runs.

        Raises:
            PluginFailed: the SR is not plugged in, or cannot be used.
        """
        return Collected.parse(
            self.plugin_call("gc", "run", {"srUuid": sr_uuid, "hostRef": self.ref})
        )

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

    def unplug(self, device: str, *, force: bool = False) -> None:
        """Disconnect dom0."""
        if lost := self._host_call("unplug", device=device, force=force):
            _log.warning("%s: disconnected by force: %s", self.hostname, lost)

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
