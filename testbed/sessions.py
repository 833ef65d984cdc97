"""Sessions of the XenAPI client from PyPI: over TCP, and over a host's own socket."""

import http.client
import socket
from pathlib import Path
from typing import Any
from xmlrpc.client import Transport

import XenAPI


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class SocketTransport(Transport):
    """XML-RPC over a Unix socket.

    The client's own transport for that replaces every `_` of a path by `/`, so it cannot
    reach most sockets.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to the socket, whatever host is named."""
        known = self._connection[1] if self._connection is not None else None
        if known is not None:
            return known
        connection = _SocketConnection(self._path)
        self._connection = host, connection
        return connection


def close_session(session: Any) -> None:
    """Log out and hang up; the client by itself leaves its connection to the collector."""
    session.xenapi.session.logout()
    session("close")()


def open_session(url: str, user: str, password: str) -> Any:
    """Log in over TCP. Raises XenAPI.Failure."""
    session = XenAPI.Session(url)
    session.xenapi.login_with_password(user, password, "1.0", "sr-testbed")
    return session


def open_local_session(path: Path) -> Any:
    """Log in over a Unix socket, with the rights of a driver. Raises XenAPI.Failure."""
    session = XenAPI.Session("http://localhost/", transport=SocketTransport(path))
    session.xenapi.login_with_password("root", "", "1.0", "sr-testbed")
    return session
