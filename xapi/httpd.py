"""The HTTP server under the XenAPI: cheroot, with threads for calls that wait long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: To begin with, on each socket: more are added when all are busy.
_THREADS = 4
_KEPT_ALIVE = 500
_IDLE_TIMEOUT = 300
_BACKLOG = 128
#: Seconds until a server that stops closes connections that are read from, and those whose
#: clients do not take their answers; calls under way end all the same.
_FAREWELL = 1
#: How long (seconds between two packets, bytes) a client that was refused may go on sending.
_PATIENCE = 2.0
_HEARD = 64 << 20
_CHUNK = 1 << 16


class _Request(HTTPRequest):
    """An application that says Connection: close means it: the rest of a body is not needed."""

    def parse_request(self) -> None:
        """See HTTPRequest."""
        super().parse_request()
        self.conn.is_talking = not self.ready

    def respond(self) -> None:
        """See HTTPRequest."""
        try:
            super().respond()
        finally:
            self.server.answering.pop(self.conn, None)

    def send_headers(self) -> None:
        """See HTTPRequest."""
        self.server.answering[self.conn] = time.monotonic()
        if (b"Connection", b"close") in self.outheaders:
            self.close_connection = True
            self.conn.is_talking = getattr(self.rfile, "remaining", 1) > 0
        super().send_headers()


class _Connection(HTTPConnection):
    """A client that is still sending is heard out for a while, or it would not hear the answer."""

    RequestHandlerClass = _Request
    is_talking = False

    def close(self) -> None:
        """See HTTPConnection."""
        if self.is_talking:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                self.socket.settimeout(_PATIENCE)
                heard = 0
                while heard < _HEARD and (data := self.socket.recv(_CHUNK)):
                    heard += len(data)
        super().close()


class HttpServer(wsgi.Server):
    """Serves an application on a TCP address or, when `bind` is a path, on a unix socket.

    A call may wait long: for a driver, for another call, for an event; and a client may connect
    and say nothing. So whoever takes the last idle thread doubles their number, and there is
    always one for the next connection.
    """

    ConnectionClass = _Connection
    keep_alive_conn_limit = _KEPT_ALIVE
    expiration_interval = 0.1
    #: Of a request's line and headers, in bytes.
    max_request_header_size = 64 << 10

    def __init__(self, bind: tuple[str, int] | str, application: WSGIApplication) -> None:
        super().__init__(
            bind,
            self._serve_one,
            numthreads=_THREADS,
            timeout=_IDLE_TIMEOUT,
            shutdown_timeout=_FAREWELL,
            request_queue_size=_BACKLOG,
        )
        self._application = application
        self._threads = _THREADS
        self._growing = threading.Lock()
        #: Connections that are written to, and since when.
        self.answering: dict[HTTPConnection, float] = {}

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int] | str) -> socket.socket:
        """See HTTPServer, which leaves a socket open whose address is taken."""
        try:
            socket_.bind(bind_addr)
        except OSError:
            socket_.close()
            raise
        return socket_

    def process_conn(self, conn: HTTPConnection) -> None:
        """See HTTPServer. A thread takes the connection, and waits there for a request."""
        super().process_conn(conn)
        self._make_room()

    def stop(self) -> None:
        """See HTTPServer. Calls under way end; an answer that takes too long is cut off."""
        stopped = threading.Event()
        watch = threading.Thread(target=self._hang_up, args=(stopped,), name="hang up")
        watch.start()
        super().stop()
        stopped.set()
        watch.join()

    def _hang_up(self, stopped: threading.Event) -> None:
        while not stopped.wait(_FAREWELL):
            overdue = time.monotonic() - _FAREWELL
            for connection, since in tuple(self.answering.items()):
                if since <= overdue:
                    with suppress(OSError):
                        connection.socket.shutdown(socket.SHUT_RDWR)

    def _serve_one(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        self._make_room()
        if "CONTENT_LENGTH" not in environ and not environ["wsgi.input_terminated"]:
            # Such a body ends with the connection.
            environ["wsgi.input"] = environ["wsgi.input"].rfile
        return self._application(environ, start_response)

    def _make_room(self) -> None:
        if self.requests.idle <= self.requests.qsize:
            with self._growing:
                # Who waited here may have taken the last one of those that were just added.
                if self.requests.idle <= self.requests.qsize:
                    self.requests.grow(self._threads)
                    self._threads *= 2
