"""XenAPI over the toolstack's unix socket: how a driver reads and writes the database.

    Exception
    ├── Failure                       the toolstack refused a call: method, details
    └── APISession (150, srs.errors)  the toolstack cannot be reached

One connection per session, kept alive, because a driver makes a handful of calls and each
new connection costs more than the call. The few lines of HTTP that this takes are here:
the library's client would cost a driver's whole call as much again, in a small machine.
"""

import re
import socket
import xmlrpc.client
from collections.abc import Callable
from typing import Any, Final, Self
from xml.parsers.expat import ExpatError

from srs import paths
from srs.errors import APISession

Record = dict[str, Any]
NULL_REF: Final = "OpaqueRef:NULL"

#: Seconds to wait for an answer; the toolstack may have to wait for a lock of its own.
_TIMEOUT: Final = 120


class Failure(Exception):
    """The toolstack refused a call.

    Attributes:
        details: XenAPI's error: the code, then its parameters.
    """

    def __init__(self, method: str, details: list[str]) -> None:
        self.method = method
        self.details = details
        super().__init__(f"{method}: {', '.join(details)}")

    @property
    def error(self) -> str:
        """XenAPI's error code, such as HANDLE_INVALID."""
        return self.details[0] if self.details else ""


class _Hangup(Exception):
    """The server closed the connection before it answered anything."""


class _Connection:
    """HTTP/1.1 over a unix socket, as far as XML-RPC needs it: POST, with Content-Length."""

    _LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def post(self, headers: str, body: bytes) -> bytes:
        """Send a request and return the body of the answer.

        Raises:
            _Hangup: an idle connection had been closed; nothing was done with the request.
            OSError: the socket failed, or what came is not an answer with status 200.
        """
        fresh = self._socket is None
        sock = self._socket or self._connect()
        head = f"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}"
        try:
            sock.sendall(head.encode() + b"\r\n\r\n" + body)
            data = sock.recv(1 << 16)
        except (BrokenPipeError, ConnectionResetError):
            if fresh:
                raise
            raise _Hangup from None
        if not data and not fresh:
            raise _Hangup
        return self._answer(sock, data)

    def _connect(self) -> socket.socket:
        sock = self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_TIMEOUT)
        sock.connect(self._path)
        return sock

    def _answer(self, sock: socket.socket, data: bytes) -> bytes:
        while b"\r\n\r\n" not in data:
            data += self._more(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        length = self._LENGTH.search(head)
        if status != [b"200"] or length is None:
            raise OSError(f"HTTP answer {head.splitlines()[0].decode(errors='replace')}")
        pieces, missing = [body], int(length[1]) - len(body)
        while missing > 0:
            pieces.append(self._more(sock))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    @staticmethod
    def _more(sock: socket.socket) -> bytes:
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the toolstack hung up in the middle of its answer")
        return data

    def close(self) -> None:
        """Close the socket; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Session:
    """The toolstack, seen with one session's rights.

    Args:
        ref: session reference out of the request.
        subtask_of: task that the calls belong to; sent as header `Subtask-of`.
        host: reference of the host that this process runs on.
        path: the toolstack's socket.
    """

    def __init__(
        self, ref: str, subtask_of: str = "", host: str = "", path: str = paths.XAPI_SOCKET
    ) -> None:
        self.ref = ref
        self.host = host
        self._headers = "Content-Type: text/xml\r\n"
        if subtask_of:
            self._headers += f"Subtask-of: {subtask_of}\r\n"
        self._path = path
        self._connection = _Connection(path)

    @classmethod
    def login(cls, originator: str, path: str = paths.XAPI_SOCKET) -> Self:
        """A session of this process's own; it ends with `logout`.

        Raises:
            Failure, APISession: as `call`.
        """
        # Of the login's parameters the user's name stands where calls have their session.
        nobody = cls("root", path=path)
        try:
            ref = nobody.call("session.login_with_password", "", "1.0", originator)
        finally:
            nobody.close()
        return cls(str(ref), path=path)

    def logout(self) -> None:
        """End the session, if it is there still."""
        try:
            ignoring(("SESSION_INVALID",), lambda: self.call("session.logout"))
        finally:
            self.close()

    def call(self, method: str, *args: Any) -> Any:
        """Call `Class.method` with the session as first argument; returns its value.

        Raises:
            Failure: the toolstack refused.
            APISession: there is no toolstack behind the socket.
        """
        body = xmlrpc.client.dumps((self.ref, *args), method, allow_none=True).encode()
        try:
            answer = self._post(body)
            answered = xmlrpc.client.loads(answer)[0][0]
        except OSError as error:
            self._connection.close()
            raise APISession(f"{method} through {self._path}: {error}") from error
        except (ExpatError, xmlrpc.client.Error, ValueError) as error:
            raise APISession(f"{method}: no XML-RPC answer: {error}") from error
        if not isinstance(answered, dict) or "Status" not in answered:
            raise APISession(f"{method}: not a XenAPI answer")
        if answered["Status"] != "Success":
            raise Failure(method, [str(item) for item in answered.get("ErrorDescription", [])])
        return answered.get("Value")

    def _post(self, body: bytes) -> bytes:
        try:
            return self._connection.post(self._headers, body)
        except _Hangup:
            # A server may close a connection that was idle.
            self._connection.close()
            return self._connection.post(self._headers, body)

    def close(self) -> None:
        """Close the connection; the session itself belongs to the caller of the driver."""
        self._connection.close()

    # What drivers ask for again and again, in the words of the database.

    def vdi_record(self, ref: str) -> Record:
        """All fields of a VDI."""
        record: Record = self.call("VDI.get_record", ref)
        return record

    def vdi_ref(self, uuid: str) -> str:
        """The reference of a VDI, by its uuid."""
        return str(self.call("VDI.get_by_uuid", uuid))

    def vdi_records_of(self, sr_ref: str) -> dict[str, Record]:
        """The VDIs of an SR: reference -> record."""
        records: dict[str, Record] = self.call(
            "VDI.get_all_records_where", f'field "SR" = "{sr_ref}"'
        )
        return records

    def set_sm_config_key(self, vdi_ref: str, key: str, value: str) -> None:
        """Make one key of a VDI's sm_config have this value; empty removes the key."""
        self.call("VDI.remove_from_sm_config", vdi_ref, key)
        if value:
            self.call("VDI.add_to_sm_config", vdi_ref, key, value)


def ignoring(codes: tuple[str, ...], action: Callable[[], object]) -> bool:
    """Run a call whose refusal with one of these XenAPI codes is fine; say if it went through."""
    try:
        action()
    except Failure as failure:
        if failure.error in codes:
            return False
        raise
    return True
