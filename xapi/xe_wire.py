"""JSON-RPC over HTTP as far as `xe` needs it: one connection, one call after the other.

The standard library's clients would do, but importing them (XML, the parser of e-mail headers,
TLS) costs as much time as all the rest of a command. So the few lines of HTTP are written here.
"""

from __future__ import annotations

import json
import socket
from typing import Any

#: Lines of a header are not longer, nor are there more of them.
_LINE, _LINES = 1 << 16, 100


class Wire:
    """A connection to /jsonrpc of `server`, which is host:port; opened by the first call.

    Raises:
        OSError: the server cannot be reached, or hung up.
        ValueError: what came is no answer to JSON-RPC.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._socket: socket.socket | None = None

    def call(self, method: str, *params: object) -> Any:
        """The answer: {"result": ...} or {"error": {"message": code, "data": [...]}}."""
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": 0}
        body = json.dumps(request).encode()
        head = (
            f"POST /jsonrpc HTTP/1.1\r\nHost: {self._server}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if self._socket is None:
            host, _, port = self._server.rpartition(":")
            self._socket = socket.create_connection((host, int(port)))
            self._input = self._socket.makefile("rb")
        self._socket.sendall(head.encode() + body)
        reply = json.loads(self._read())
        if not isinstance(reply, dict) or not ("result" in reply or "error" in reply):
            raise ValueError("it does not speak JSON-RPC")
        return reply

    def _read(self) -> bytes:
        """The body of a response whose status is 200."""
        status = self._input.readline(_LINE).split()
        if not status:
            raise ConnectionResetError("the server hung up")
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"200":
            raise ValueError(b" ".join(status).decode(errors="replace"))
        length = -1
        for _ in range(_LINES):
            name, _, value = self._input.readline(_LINE).partition(b":")
            if not name.strip():
                break
            if name.lower() == b"content-length":
                length = int(value)
        if length < 0:
            raise ValueError("an answer without a length")
        body = self._input.read(length)
        if len(body) < length:
            raise ConnectionResetError("the server hung up")
        return body

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._input.close()
            self._socket.close()
            self._socket = None
