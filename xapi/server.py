"""The server: XenAPI over HTTP, on loopback and on a unix socket.

Every POST is an XML-RPC call, whatever its path. A body that is no XML-RPC gets HTTP 500 and a
line of HTML; what the XenAPI itself has to say comes with status 200, errors included.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cheroot import wsgi

from xapi import host, sm, wire
from xapi.backend import HostBackend
from xapi.database import Database
from xapi.datapath import Datapath
from xapi.dispatch import Dispatcher
from xapi.errors import XenAPIError
from xapi.policy import Policy
from xapi.session import Sessions
from xapi.smapiv1 import SMAPIv1
from xapi.toolstack import Plugin, Toolstack

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

REQUEST_LIMIT = 300 * 1024
#: To begin with, on each socket: more are added when all are busy.
_THREADS = 4
_MAX_CONNECTIONS = 500
_IDLE_TIMEOUT = 300


class XapiServer:
    """A toolstack for one host, and its way in.

    Args:
        backend: the host.
        address: where to listen; only loopback is safe, since passwords travel in the clear.
        port: 0 picks a free one, `url` tells which.
        unix_socket: a second way in; who can open it is local root, with any password.
        password: root's password over TCP.
        uuid_source: where uuids and references come from; it must never repeat itself.
        patience: for how many seconds a call waits for another operation to end.
        plugins: host plugins by name, for host.call_plugin.
    """

    def __init__(
        self,
        backend: HostBackend,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        unix_socket: Path | None = None,
        password: str = "testbed",
        uuid_source: Callable[[], str] | None = None,
        patience: float = 600.0,
        plugins: Mapping[str, Plugin] | None = None,
    ) -> None:
        db = Database(uuid_source or (lambda: str(uuid.uuid4())))
        pool, this_host, dom0 = host.populate(db, backend.hostname)
        sessions = Sessions(db, password)
        storage = SMAPIv1(db, sessions, backend, this_host)
        self.xapi = Toolstack(
            db=db,
            sessions=sessions,
            policy=Policy(db, patience),
            storage=storage,
            datapath=Datapath(db, storage, backend, this_host),
            backend=backend,
            plugins=plugins or {},
            pool=pool,
            host=this_host,
            dom0=dom0,
        )
        dispatcher = Dispatcher(self.xapi)
        self._tcp = _http_server((address, port), dispatcher, local=False)
        self._servers = [self._tcp]
        self._unix_socket = unix_socket
        if unix_socket is not None:
            self._servers.append(_http_server(str(unix_socket), dispatcher, local=True))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where clients connect to, once the server has started."""
        address, port = self._tcp.bind_addr
        return f"http://{address}:{port}"

    def start(self) -> None:
        """Listen, and ask the host's storage drivers what they can do."""
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
        self.discover_drivers()

    def stop(self) -> None:
        """Let running calls end, then close everything. Calls that wait for others give up."""
        self.xapi.policy.close()
        stopping = [threading.Thread(target=server.stop) for server in self._servers]
        for thread in stopping:
            thread.start()
        for thread in (*stopping, *self._threads):
            thread.join()
        if self._unix_socket is not None:
            self._unix_socket.unlink(missing_ok=True)

    def discover_drivers(self) -> None:
        """Bring the SM records in line with the drivers that the host has now."""
        sm.discover(self.xapi)

    def host_restarted(self) -> None:
        """The host lost power and came back: what was plugged in on it is not any more."""
        host.restarted(self.xapi)


def _http_server(bind: tuple[str, int] | str, dispatcher: Dispatcher, *, local: bool) -> Any:
    application = _Application(dispatcher, local=local)
    server = wsgi.Server(bind, application, numthreads=_THREADS, timeout=_IDLE_TIMEOUT)
    server.max_request_body_size = REQUEST_LIMIT
    server.keep_alive_conn_limit = _MAX_CONNECTIONS
    server.expiration_interval = 0.1
    application.threads = server.requests
    return server


class _Application:
    """The WSGI application behind one socket. `threads` is the pool that runs it."""

    threads: Any

    def __init__(self, dispatcher: Dispatcher, *, local: bool) -> None:
        self._dispatcher = dispatcher
        self._local = local

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            return _answer(start_response, "405 Method Not Allowed", "text/html", b"POST only")
        # A call may wait long, for a driver or for another call: whoever takes the last idle
        # thread makes a new one, so that there is always one for the next call.
        if self.threads.idle == 0:
            self.threads.grow(1)
        body = environ["wsgi.input"].read()
        try:
            method, params = wire.parse_call(body)
        except wire.WireError as error:
            _log.info("a body that is no XML-RPC call: %s", error)
            page = b"<html><body><h1>500 Internal Server Error</h1></body></html>"
            return _answer(start_response, "500 Internal Server Error", "text/html", page)
        return _answer(start_response, "200 OK", "text/xml", self._reply(method, params))

    def _reply(self, method: str, params: tuple[object, ...]) -> bytes:
        if method == "system.listMethods":
            return wire.response(self._dispatcher.methods)
        try:
            return wire.success(self._dispatcher.call(method, params, local=self._local))
        except XenAPIError as error:
            return wire.failure(error.description)


def _answer(
    start_response: StartResponse, status: str, content_type: str, body: bytes
) -> Iterable[bytes]:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
