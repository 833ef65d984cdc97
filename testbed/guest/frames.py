"""Frames: what host and guest say to each other, over a ring or a socket.

    offset  size  field
    0       1     kind (see Kind)
    1       3     zero
    4       4     length of the body in bytes, little endian
    8       8     id: of the call, or of the stream

The body of CALL, RESULT and FAULT is a JSON document with its length in front (4 bytes,
little endian), then raw bytes: block contents never become text. The body of DATA is the
bytes of a stream. Calls are numbered by the host, streams by the guest. A stream is a byte
pipe: a driver's connection to xapi, or a shell.
"""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from testbed.guest.ring import PeerGone

_HEADER: Final = struct.Struct("<B3xIQ")
_LENGTH: Final = struct.Struct("<I")


class Kind:
    """Numbers on the wire (plain ints: importing `enum` costs time in the guest)."""

    HELLO: Final = 1  # guest: the agent is ready; body as RESULT
    CALL: Final = 2  # host: {"op": name, "args": {...}} + bytes
    RESULT: Final = 3  # guest: JSON + bytes
    FAULT: Final = 4  # guest: {"type", "message", "errno", "trace"}
    OPEN: Final = 5  # guest: a stream wants to reach a service of the host; body: its name
    DATA: Final = 6  # both: bytes of a stream
    CLOSE: Final = 7  # both: this side will send no more


class Frame(NamedTuple):
    """One frame, body still packed."""

    kind: int
    id: int
    body: bytes


class Link(Protocol):
    """A byte stream between host and guest: a `Ring`, or a `SocketLink`."""

    def fileno(self) -> int:
        """The descriptor to poll for input, between `doze` and `wake`."""

    def send(self, data: bytes) -> None:
        """Write all of `data`; any thread."""

    def doze(self) -> bool:
        """Before a poll; False when there is something to `receive` already."""

    def wake(self, *, rung: bool) -> None:
        """After a poll; `rung` when `fileno` was readable."""

    def receive(self) -> bytes:
        """Whatever has come, without waiting. Raises PeerGone at the end."""

    def wait(self) -> bytes:
        """Block until something comes. Raises PeerGone at the end."""

    def close(self) -> None:
        """Let go of what the link holds."""


class SocketLink:
    """A `Link` over a stream socket: what the local kernel's agent speaks."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(True)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Write all of `data`. The caller serialises threads."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise PeerGone(str(error)) from error

    def doze(self) -> bool:
        """A socket needs no announcement."""
        return True

    def wake(self, *, rung: bool) -> None:
        """A socket needs no announcement."""

    def receive(self) -> bytes:
        """Whatever has come, without waiting."""
        try:
            return self._checked(self._socket.recv(1 << 18, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return b""

    def wait(self) -> bytes:
        """Block until something comes."""
        return self._checked(self._socket.recv(1 << 18))

    @staticmethod
    def _checked(data: bytes) -> bytes:
        if not data:
            raise PeerGone("the peer closed the connection")
        return data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def pack(kind: int, id_: int, body: bytes = b"") -> bytes:
    """The bytes of one frame."""
    return _HEADER.pack(kind, len(body), id_) + body


def pack_body(document: Any, blob: bytes = b"") -> bytes:
    """A body of CALL, RESULT or FAULT: a JSON document and raw bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text + blob


def unpack_body(body: bytes) -> tuple[Any, bytes]:
    """The inverse of `pack_body`."""
    (length,) = _LENGTH.unpack_from(body)
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def describe(error: BaseException) -> dict[str, Any]:
    """A fault as a document: enough to rebuild the error outside, and to find its cause."""
    import traceback

    return {
        "type": type(error).__name__,
        "message": str(error),
        "errno": getattr(error, "errno", None),
        "trace": "".join(traceback.format_exception(error)),
    }


def died(who: str) -> dict[str, Any]:
    """The fault of a call whose process ended without an answer."""
    return describe(ChildProcessError(f"{who} died"))


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that are complete now; what is left waits for more."""
        pending = self._pending
        pending += data
        position = 0
        while len(pending) - position >= _HEADER.size:
            kind, length, id_ = _HEADER.unpack_from(pending, position)
            end = position + _HEADER.size + length
            if len(pending) < end:
                break
            yield Frame(kind, id_, bytes(pending[position + _HEADER.size : end]))
            position = end
        del pending[:position]
