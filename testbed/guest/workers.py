"""Processes that carry out slow operations, one at a time each.

The agent's loop must never wait for a device, and a fork for every operation would cost more
than most operations do. So a worker stays after its first job and waits for the next one; as
many exist as jobs were ever under way at once. One that is stuck in the kernel is simply not
used again. Workers speak frames (testbed/guest/frames.py): a CALL in, a RESULT or FAULT out.
"""

import os
import socket

from srs.forking import fork
from testbed.guest import ops
from testbed.guest.frames import Decoder, Frame, Kind, describe, pack, pack_body, unpack_body

_CHUNK = 1 << 18


def _serve(sock: socket.socket) -> None:
    decoder = Decoder()
    while data := sock.recv(_CHUNK):
        for frame in decoder.feed(data):
            try:
                request, blob = unpack_body(frame.body)
                document, answer = ops.SLOW[request["op"]](blob, **request["args"])
                reply = pack(Kind.RESULT, frame.id, pack_body(document, answer))
            except Exception as error:
                reply = pack(Kind.FAULT, frame.id, pack_body(describe(error)))
            sock.sendall(reply)


class Worker:
    """The agent's end of one worker."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._decoder = Decoder()
        #: The call that it works on; 0 while it is idle.
        self.call = 0
        if fork() == 0:
            try:
                # Nothing of the agent's: a shell hangs up when its last descriptor closes.
                os.closerange(3, theirs.fileno())
                os.closerange(theirs.fileno() + 1, 1 << 16)
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def fileno(self) -> int:
        """To poll for an answer."""
        return self._socket.fileno()

    def begin(self, call: int, body: bytes) -> None:
        """Hand it a job."""
        self.call = call
        self._socket.sendall(pack(Kind.CALL, call, body))

    def collect(self) -> list[Frame] | None:
        """Answers that are complete, or None when it died."""
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            return None
        return list(self._decoder.feed(data))

    def close(self) -> None:
        """Forget one that died."""
        self._socket.close()
