"""The server: a toolstack, and HTTP on loopback and on a unix socket as the way to it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from xapi import host, pool, sm
from xapi.backend import HostBackend
from xapi.database import Database
from xapi.datapath import Datapath
from xapi.disk_http import DiskTransfers
from xapi.dispatch import Dispatcher
from xapi.event import Events
from xapi.hosts import Hosts, Member
from xapi.httpd import HttpServer
from xapi.policy import Policy
from xapi.session import Sessions
from xapi.smapiv1 import Place, SMAPIv1
from xapi.toolstack import Toolstack
from xapi.web import Application


class XapiServer:
    """A toolstack for a pool of hosts, and its way in.

    Args:
        backend: the pool's first master.
        slaves: the other hosts.
        address: where to listen; only loopback is safe, since passwords travel in the clear.
        port: 0 picks a free one, `url` tells which.
        unix_socket: a second way in; who can open it is local root, with any password.
        password: root's password over TCP.
        uuid_source: where uuids and references come from; it must never repeat itself.
        patience: for how many seconds a call waits for another operation to end.
        state: the file that keeps the objects when the server ends; None: they end with it.

    Raises:
        StateError: the state file cannot be used.
    """

    def __init__(
        self,
        backend: HostBackend,
        *slaves: HostBackend,
        address: str = "127.0.0.1",
        port: int = 0,
        unix_socket: Path | None = None,
        password: str = "testbed",
        uuid_source: Callable[[], str] | None = None,
        patience: float = 600.0,
        state: Path | None = None,
    ) -> None:
        db = Database(uuid_source or (lambda: str(uuid.uuid4())), state)
        backends = (backend, *slaves)
        pool_ref, refs = host.populate(db, [one.hostname for one in backends])
        sessions, hosts = Sessions(db, password), Hosts(db)
        for ref, one in zip(refs, backends, strict=True):
            hosts.join(_member(db, sessions, Place(ref, one)))
        self.xapi = Toolstack(
            db=db,
            sessions=sessions,
            events=Events(db),
            policy=Policy(db, patience),
            storage=SMAPIv1(db, sessions, lambda sr: _place(hosts.of_sr(sr))),
            hosts=hosts,
            pool=pool_ref,
        )
        self.dispatcher = dispatcher = Dispatcher(self.xapi)
        self._tcp = HttpServer((address, port), _application(self.xapi, dispatcher, local=False))
        self._servers = [self._tcp]
        self._unix_socket = unix_socket
        if unix_socket is not None:
            local = _application(self.xapi, dispatcher, local=True)
            self._servers.append(HttpServer(str(unix_socket), local))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where clients connect to, once the server has started."""
        address, port = self._tcp.bind_addr
        return f"http://{address}:{port}"

    def start(self) -> None:
        """Listen, and ask the hosts' storage drivers what they can do.

        Raises:
            OSError: it cannot listen where it is to; everything is closed again.
        """
        try:
            self._listen()
            self.discover_drivers()
        except BaseException:
            self.stop()
            raise

    def _listen(self) -> None:
        for server in self._servers:
            server.prepare()
        if self._unix_socket is not None:
            self._unix_socket.chmod(0o600)
        self._threads = [
            threading.Thread(target=server.serve, name="xapi", daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let running calls end, then close everything. Calls that wait for others give up."""
        self.xapi.policy.close()
        self.xapi.events.close()
        stopping = [threading.Thread(target=server.stop) for server in self._servers]
        for thread in stopping:
            thread.start()
        for thread in (*stopping, *self._threads):
            thread.join()
        self.dispatcher.join()
        if self._unix_socket is not None:
            self._unix_socket.unlink(missing_ok=True)
        self.xapi.db.close()

    def discover_drivers(self) -> None:
        """Bring the SM records in line with the drivers that the hosts have now."""
        sm.discover(self.xapi)

    def host_lost(self, ref: str) -> None:
        """A host lost power, or its kernel died: it is not live any more."""
        host.lost(self.xapi, ref)

    def host_of(self, backend: HostBackend) -> str:
        """The reference of a host of the pool.

        Raises:
            StopIteration: it is none.
        """
        return next(member.ref for member in self.xapi.hosts if member.backend is backend)

    def host_restarted(self, ref: str = "") -> None:
        """A host lost power and came back: what was plugged in on it is not any more.

        Without a reference it is the master.
        """
        host.restarted(self.xapi, ref or self.xapi.host)

    def emergency_transition(self, ref: str) -> None:
        """Make another host the master, whose own master is gone.

        What somebody on that host's console would do: pool-emergency-transition-to-master.

        Raises:
            XenAPIError: HOST_NOT_LIVE [host], HANDLE_INVALID.
        """
        pool.make_master(self.xapi, ref)


def _member(db: Database, sessions: Sessions, place: Place) -> Member:
    storage = SMAPIv1(db, sessions, lambda _sr: place)
    datapath = Datapath(db, storage, place.backend, place.host)
    dom0: str = db.get("host", place.host, "control_domain")
    return Member(place.host, dom0, place.backend, storage, datapath)


def _place(member: Member) -> Place:
    return Place(member.ref, member.backend)


def _application(xapi: Toolstack, dispatcher: Dispatcher, *, local: bool) -> Application:
    return Application(dispatcher, DiskTransfers(xapi, local=local).handlers, local=local)
