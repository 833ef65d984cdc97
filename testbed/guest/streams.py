"""Streams: byte pipes between a descriptor in the guest and something outside.

A driver's connection to xapi is one, a shell's terminal another. The agent's loop must never
wait for whoever reads the descriptor, so what does not fit now waits here, in order.
"""

import os
import socket
import stat
from collections.abc import Callable
from typing import Final

from testbed.guest.frames import Kind, pack
from testbed.guest.loop import Loop

_CHUNK: Final = 1 << 16

#: Bytes that may wait for a reader. One who is further behind is taken for dead: the guest's
#: memory is small, and the host sends as fast as it can.
BACKLOG: Final = 16 << 20


class Streams:
    """All streams of a guest.

    Args:
        loop: tells when a descriptor can be read or written.
        send: carries a frame to the host.
    """

    def __init__(self, loop: Loop, send: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._send = send
        self._open: dict[int, Stream] = {}
        self._next = 1

    def open(self, fd: int, service: bytes) -> int:
        """Carry `fd`, which is ours from now on; returns the stream's number."""
        id_ = self._next
        self._next += 1
        self._send(pack(Kind.OPEN, id_, service))
        self._open[id_] = Stream(
            fd,
            self._loop,
            send=lambda data: self._send(pack(Kind.DATA, id_, data)),
            ended=lambda: self._send(pack(Kind.CLOSE, id_)),
            over=lambda: self._forget(id_),
        )
        return id_

    def _forget(self, id_: int) -> None:
        del self._open[id_]

    def deliver(self, id_: int, data: bytes) -> None:
        """Bytes from the host."""
        if id_ in self._open:
            self._open[id_].deliver(data)

    def end(self, id_: int) -> None:
        """The host will send no more."""
        if id_ in self._open:
            self._open[id_].end()


class Stream:
    """One descriptor, closed when both sides said that they send no more.

    Args:
        fd: a socket or the near end of a terminal.
        loop: tells when it can be read or written.
        send: carries what was read to the host.
        ended: tells the host that nothing more will come.
        over: both sides are done, and the descriptor is closed.
    """

    def __init__(
        self,
        fd: int,
        loop: Loop,
        *,
        send: Callable[[bytes], None],
        ended: Callable[[], None],
        over: Callable[[], None],
    ) -> None:
        self._fd, self._loop = fd, loop
        self._send, self._ended, self._over = send, ended, over
        self._waiting = bytearray()
        self._inside_is_done = self._outside_is_done = False
        os.set_blocking(fd, False)
        self._watch()

    def deliver(self, data: bytes) -> None:
        """Pass bytes on, now or when there is room for them."""
        self._waiting += data
        self._write()
        if len(self._waiting) > BACKLOG:
            self._hang_up()

    def end(self) -> None:
        """The host sends no more. A terminal has no half to close: it is hung up."""
        self._outside_is_done = True
        if stat.S_ISSOCK(os.fstat(self._fd).st_mode):
            self._write()
        else:
            self._hang_up()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal whose last process is gone answers EIO
        if data:
            self._send(data)
            return
        self._inside_is_done = True
        self._ended()
        self._settle()

    def _write(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            pass  # the rest goes when there is room
        except OSError:
            self._waiting.clear()  # nobody reads any more; the end of input tells the host
        self._settle()

    def _hang_up(self) -> None:
        self._waiting.clear()
        if not self._inside_is_done:
            self._ended()
        self._inside_is_done = self._outside_is_done = True
        self._settle()

    def _settle(self) -> None:
        """Bring what is watched in line with what is left to do."""
        if self._outside_is_done and not self._waiting:
            if self._inside_is_done:
                self._loop.watch(self._fd)
                os.close(self._fd)
                self._over()
                return
            _shut_down(self._fd)
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(
            self._fd,
            None if self._inside_is_done else self._read,
            self._write if self._waiting else None,
        )


def _shut_down(fd: int) -> None:
    """Tell whoever reads the socket that nothing more comes."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # its other end is closed already
