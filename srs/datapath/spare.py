"""Processes that have served a disk and wait for the next one.

In a small virtual machine a fork and its page faults are most of what it costs to activate a
disk. So a data path that was stopped may stay and be hired again. It has closed the image, and
kept nothing of it; what a new process would have been told by its parent it reads from a
socket. Whether processes may stay is for the host to say: where the directory of their
sockets does not exist, none does, and each disk has a process of its own from its first
moment to its last.
"""

import os
import socket
from typing import Final

from srs import paths

_ORDER_MAX: Final = 1 << 16
#: So many may wait at once: they hold memory.
_MOST: Final = 2
#: Seconds until one that does not answer is taken for stuck, and another is asked.
_PATIENCE: Final = 10


def hire(order: bytes) -> socket.socket | None:
    """Give a waiting process something to do; the connection to it, or None if none waits."""
    for path in _waiting():
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(path)
            sock.sendall(order)
            sock.shutdown(socket.SHUT_WR)
            # It says a byte when it has taken the order: two drivers may have found the same one.
            if sock.recv(1):
                sock.settimeout(None)
                return sock
        except OSError:
            pass
        sock.close()
        _remove(path)
    return None


def wait() -> tuple[bytes, socket.socket] | None:
    """In the process: the next order and the connection it came by; None if it should end."""
    path = os.path.join(paths.SPARE_SERVERS, str(os.getpid()))
    unready = os.path.join(paths.SPARE_SERVERS, f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX)
    try:
        if len(_waiting()) >= _MOST:
            return None
        # It gets its name when it listens: who finds a socket that does not takes it for dead.
        listener.bind(unready)
        listener.listen(1)
        os.rename(unready, path)
        while True:
            connection, _ = listener.accept()
            order = _read(connection)
            if order:
                connection.send(b"+")
                return order, connection
            connection.close()
    except OSError:
        return None  # nobody wants processes to wait
    finally:
        _remove(unready)
        _remove(path)
        listener.close()


def _read(connection: socket.socket) -> bytes:
    """A whole order; empty if the driver died on the way."""
    pieces = []
    while piece := connection.recv(_ORDER_MAX):
        pieces.append(piece)
    return b"".join(pieces)


def _waiting() -> list[str]:
    try:
        names = os.listdir(paths.SPARE_SERVERS)
    except FileNotFoundError:
        return []
    return [os.path.join(paths.SPARE_SERVERS, name) for name in names if name[0] != "."]


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
