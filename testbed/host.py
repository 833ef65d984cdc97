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
from pathlib import Path
from typing import Self
from uuid import UUID

from testbed.devices.disk import Shelf
from testbed.errors import DeviceRefused
from testbed.member import PASSWORD, Member
from testbed.network import Network
from xapi.server import XapiServer
from xapi.store import StateError


def seeded_uuids(seed: int) -> Callable[[], str]:
    """A source of uuids that gives the same ones for the same seed: programs replay."""
    numbers = random.Random(seed)
    lock = threading.Lock()

    def next_uuid() -> str:
        with lock:
            return str(UUID(int=numbers.getrandbits(128), version=4))

    return next_uuid


class Host(Member):
    """A host under test, with a xapi of its own.

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
        extra_memory: see Machine.
        tree: see Machine.
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
        extra_memory: int = 0,
        tree: Path | None = None,
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
            extra_memory=extra_memory,
            tree=tree,
        )
        self._seed = seed
        self._port = port
        self.gc_pause = gc_pause
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

    def _came_up(self, renamed: Mapping[str, str]) -> None:
        super()._came_up(renamed)
        self._xapi = self._start_xapi()
        self.rename_devices(renamed)

    def _start_xapi(self) -> XapiServer:
        xapi = XapiServer(
            self,
            port=self._port,
            unix_socket=self.xapi_socket,
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

    # --- access --------------------------------------------------------------------------

    @property
    def xapi(self) -> XapiServer:
        """The toolstack."""
        if self._xapi is None:
            raise DeviceRefused(f"{self.hostname} was closed")
        return self._xapi
