"""A pool: several hosts, what they share, and one xapi in front.

    with Pool(hosts=3) as pool:
        session = pool.session()
        sr = provision_shared(pool, session, "lvhd")
        pool.hosts[1].power_cut()

Each host is a kernel of its own, with the pool's disks plugged in and a card in the pool's
network; what serves storage to them is another kernel there. Any of them can lose its power.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.devices.disk import Disk, Shelf
from testbed.errors import DeviceRefused
from testbed.host import seeded_uuids
from testbed.machine import Machine
from testbed.member import PASSWORD, Member
from testbed.network import Network
from testbed.sessions import open_session
from testbed.state import StateDirectory, base
from testbed.storagehost import StorageKernel
from xapi.server import XapiServer


class PoolHost(Member):
    """One of the hosts. After a restart its PBDs are unplugged, see `Pool.restart`.

    Args:
        pool: it belongs to.
        name: host name.
        variants: see Machine.
        gc_pause: see Member.
    """

    def __init__(
        self, pool: "Pool", name: str, variants: Sequence[Path], gc_pause: float | None
    ) -> None:
        super().__init__(
            kernel="uml", name=name, variants=variants, network=pool.network, shelf=pool.shelf
        )
        self._pool = pool
        self.gc_pause = gc_pause

    @property
    def xapi(self) -> XapiServer:
        """The pool's toolstack."""
        return self._pool.xapi

    @property
    def xapi_socket(self) -> Path:
        """The same for all hosts."""
        return self._pool.xapi_socket

    def eject_shared_disk(self, path: Path) -> None:
        """Unplug a disk of the shelf."""
        self.eject_disk(next(disk for disk in self._disks if disk.path == path))


class Pool:
    """Hosts under test.

    Args:
        hosts: how many.
        name: of the hosts, which also have numbers.
        seed: where uuids come from; None for uuids that nobody had before.
        variants: Python files that register more drivers (see testbed/guest/smserver.py).
        storage: whether there is a storage kernel.
        gc_pause: see Member.
        port: where xapi listens on loopback; 0 picks a free one.
    """

    def __init__(
        self,
        hosts: int = 3,
        *,
        name: str = "host",
        seed: int | None = None,
        variants: Sequence[Path] = (),
        storage: bool = False,
        gc_pause: float | None = None,
        port: int = 0,
    ) -> None:
        if hosts < 1:
            raise DeviceRefused(f"a pool of {hosts} hosts", hint="it has at least one")
        self._names = [f"{name}{number}" for number in range(hosts)]
        self._seed = seed
        self._variants = tuple(variants)
        self._wants_storage = storage
        self._gc_pause = gc_pause
        self._port = port
        self._open = ExitStack()
        self._xapi: XapiServer | None = None
        self.hosts: tuple[PoolHost, ...] = ()
        self._storage: StorageKernel | None = None

    # --- life ----------------------------------------------------------------------------

    def start(self) -> Self:
        """Boot all kernels at once, start xapi. Nothing is left behind when that fails."""
        with ExitStack() as undo:
            state = StateDirectory(base(), "pool")
            undo.callback(state.close)
            self.xapi_socket = state.path / "xapi.sock"
            self.shelf = undo.enter_context(Shelf())
            self.network = undo.enter_context(Network())
            self.hosts = tuple(
                PoolHost(self, name, self._variants, self._gc_pause) for name in self._names
            )
            self._storage = StorageKernel(self.network) if self._wants_storage else None
            self.at_once([self._starter(machine, undo) for machine in self.machines])
            self._xapi = self._start_xapi(undo)
            self._open = undo.pop_all()
        return self

    @staticmethod
    def _starter(machine: Machine, undo: ExitStack) -> Callable[[], object]:
        undo.callback(machine.close)
        return machine.start

    @staticmethod
    def at_once(works: Sequence[Callable[[], object]]) -> None:
        """Do all, at the same time; raise the first failure once all have ended."""
        with ThreadPoolExecutor(len(works) or 1) as threads:
            running = [threads.submit(work) for work in works]
        for work in running:
            work.result()

    def _start_xapi(self, undo: ExitStack) -> XapiServer:
        xapi = XapiServer(
            *self.hosts,
            port=self._port,
            unix_socket=self.xapi_socket,
            password=PASSWORD,
            uuid_source=None if self._seed is None else seeded_uuids(self._seed),
        )
        try:
            xapi.start()
        except OSError as error:
            raise DeviceRefused(f"xapi cannot listen on port {self._port}: {error}") from error
        undo.callback(xapi.stop)
        return xapi

    def close(self) -> None:
        """Stop xapi, power off and remove everything. Idempotent."""
        self._open.close()
        self._xapi = None

    def __enter__(self) -> Self:
        return self if self._xapi is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- access --------------------------------------------------------------------------

    @property
    def xapi(self) -> XapiServer:
        """The toolstack."""
        if self._xapi is None:
            raise DeviceRefused("the pool was closed")
        return self._xapi

    @property
    def storage(self) -> StorageKernel:
        """The storage kernel."""
        if self._storage is None:
            raise DeviceRefused("the pool has no storage kernel")
        return self._storage

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All hosts, and the storage kernel if there is one."""
        return self.hosts if self._storage is None else (*self.hosts, self._storage)

    @property
    def master(self) -> PoolHost:
        """The host that is the master now."""
        return next(host for host in self.hosts if host.ref == self.xapi.xapi.host)

    @property
    def slaves(self) -> tuple[PoolHost, ...]:
        """The other hosts."""
        master = self.master
        return tuple(host for host in self.hosts if host is not master)

    def session(self) -> Any:
        """A logged-in session of the XenAPI client from PyPI, over a real TCP socket."""
        return open_session(self.xapi.url, "root", PASSWORD)

    # --- devices and power ---------------------------------------------------------------

    def add_disk(self, size: int) -> Disk:
        """Hot-plug a new disk of `size` bytes into all hosts, under the same name.

        Raises:
            DeviceRefused: the name that one host gives it is another.
        """
        path = self.shelf.add_disk(size)
        disks = [host.add_shared_disk(path) for host in self.hosts]
        names = sorted({disk.device for disk in disks})
        if len(names) > 1:
            raise DeviceRefused(f"a shared disk is {' here and '.join(names)} there")
        return disks[0]

    def remove_disk(self, disk: Disk) -> None:
        """Take out what `add_disk` has plugged in."""
        for host in self.hosts:
            host.eject_shared_disk(disk.path)
        disk.path.unlink()

    def restart(self, machine: Machine, session: Any) -> None:
        """Boot a machine after a power cut; of a host plug its PBDs, as a real toolstack does."""
        machine.restart()
        if isinstance(machine, PoolHost):
            api = session.xenapi
            for pbd in api.host.get_PBDs(machine.ref):
                api.PBD.plug(pbd)

    def appoint(self, host: PoolHost) -> None:
        """Make a host the master whose master is gone: what one does on that host's console."""
        self.xapi.emergency_transition(host.ref)
