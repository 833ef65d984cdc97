"""The agent: the first process of a guest, and the host's hand inside it.

One thread, one poll loop. Calls that are over in a millisecond run in the loop; everything
that may block on a device is done by a worker process, because a loop stuck in the kernel
could not even report it. Streams carry drivers' connections to the xapi outside.
"""

import contextlib
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

from testbed.guest import linux, ops, setup
from testbed.guest.frames import Decoder, Kind, Link, describe, died, pack, pack_body, unpack_body
from testbed.guest.ring import PeerGone
from testbed.guest.workers import Worker

XAPI_SOCKET = "/var/lib/xcp/xapi"
_POLL_MS = 1000
_CHUNK = 1 << 16


class Agent:
    """Serves one link until the other side goes away."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._decoder = Decoder()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._streams: dict[int, int] = {}  # stream id -> descriptor
        self._half_closed: set[int] = set()
        self._workers: list[Worker] = []
        self._next_stream = 1
        self._poll.register(link.fileno(), select.POLLIN)

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` has input or ended."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def run(self) -> None:
        """Until PeerGone."""
        while True:
            sleeps = self._link.doze()
            ready = self._poll.poll(_POLL_MS if sleeps else 0)
            self._link.wake(rung=any(fd == self._link.fileno() for fd, _ in ready))
            for frame in self._decoder.feed(self._link.receive()):
                self._dispatch(frame.kind, frame.id, frame.body)
            for fd, _ in ready:
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler()
            self._reap()

    def reply(self, kind: int, id_: int, document: Any, blob: bytes = b"") -> None:
        """Answer a call."""
        self._link.send(pack(kind, id_, pack_body(document, blob)))

    # --- calls ---------------------------------------------------------------------------

    def _dispatch(self, kind: int, id_: int, body: bytes) -> None:
        if kind == Kind.CALL:
            request, blob = unpack_body(body)
            try:
                self._call(id_, request["op"], request["args"], blob, body)
            except Exception as error:
                self.reply(Kind.FAULT, id_, describe(error))
        elif kind == Kind.DATA:
            self._to_stream(id_, body)
        elif kind == Kind.CLOSE:
            self._outside_is_done(id_)

    def _call(self, id_: int, name: str, args: dict[str, Any], blob: bytes, body: bytes) -> None:
        if name == "sm":
            self._call_driver(id_, blob)
        elif name == "shell":
            self.reply(Kind.RESULT, id_, self._open_shell(**args))
        elif name in ops.QUICK:
            self.reply(Kind.RESULT, id_, ops.QUICK[name](**args))
        elif name in ops.SLOW:
            self._in_worker(id_, body)
        else:
            raise LookupError(f"the agent has no operation {name!r}")

    def _in_worker(self, id_: int, body: bytes) -> None:
        """Have an idle worker do it, or a new one."""
        worker = next((worker for worker in self._workers if not worker.call), None)
        if worker is None:
            worker = Worker()
            self._workers.append(worker)
            self.watch(worker.fileno(), lambda: self._from_worker(worker))
        worker.begin(id_, body)

    def _from_worker(self, worker: Worker) -> None:
        frames = worker.collect()
        if frames is None:
            self._workers.remove(worker)
            self._unwatch(worker.fileno())
            worker.close()
            self.reply(Kind.FAULT, worker.call, died("its worker"))
            return
        for frame in frames:
            worker.call = 0
            self._link.send(pack(*frame))

    def _call_driver(self, id_: int, request: bytes) -> None:
        """Hand a SMAPIv1 call to the driver server; its answer comes back as a body."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(ops.SM_SOCKET)
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        fd = sock.detach()
        answer = bytearray()  # the kind of the frame, then its body, to the end of input

        def more() -> None:
            try:
                data = os.read(fd, _CHUNK)
            except OSError:
                data = b""
            if data:
                answer.extend(data)
                return
            self._unwatch(fd)
            os.close(fd)
            if answer:
                self._link.send(pack(answer[0], id_, bytes(answer[1:])))
            else:
                self.reply(Kind.FAULT, id_, died("the driver's process"))

        self.watch(fd, more)

    # --- streams -------------------------------------------------------------------------

    def serve_xapi(self) -> None:
        """Listen where drivers look for xapi, and carry each connection to the outside."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(XAPI_SOCKET)
        listener.listen(64)

        def accept() -> None:
            connection, _ = listener.accept()
            self._open_stream(connection.detach(), b"xapi")

        self.watch(listener.fileno(), accept)

    def _open_stream(self, fd: int, service: bytes) -> int:
        id_ = self._next_stream
        self._next_stream += 1
        self._streams[id_] = fd
        self._link.send(pack(Kind.OPEN, id_, service))

        def more() -> None:
            try:
                data = os.read(fd, _CHUNK)
            except OSError:
                data = b""  # a terminal whose last process is gone answers EIO
            if data:
                self._link.send(pack(Kind.DATA, id_, data))
                return
            self._link.send(pack(Kind.CLOSE, id_))
            self._unwatch(fd)
            self._close_half(id_)

        self.watch(fd, more)
        return id_

    def _to_stream(self, id_: int, data: bytes) -> None:
        fd = self._streams.get(id_)
        view = memoryview(data)
        while fd is not None and view:
            try:
                view = view[os.write(fd, view) :]
            except OSError:
                return  # nobody reads any more; the end of input will say so to the host

    def _outside_is_done(self, id_: int) -> None:
        fd = self._streams.get(id_)
        if fd is None:
            return
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            # Its other end may be closed already.
            with socket.socket(fileno=os.dup(fd)) as sock, contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        elif fd in self._handlers:
            # A terminal has no half to close: hang up.
            self._link.send(pack(Kind.CLOSE, id_))
            self._unwatch(fd)
            self._close_half(id_)
        self._close_half(id_)

    def _close_half(self, id_: int) -> None:
        """A stream is over when both sides said that they send no more."""
        if id_ in self._half_closed:
            self._half_closed.remove(id_)
            os.close(self._streams.pop(id_))
        else:
            self._half_closed.add(id_)

    def _open_shell(self, argv: list[str], rows: int, columns: int) -> int:
        """A process on a terminal of its own; returns the stream that carries it."""
        import fcntl
        import pty
        import struct
        import termios

        pid, fd = pty.fork()
        if pid == 0:
            os.chdir("/run")
            os.environ["TERM"] = "xterm-256color"
            os.execvp(argv[0], argv)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        return self._open_stream(fd, b"shell")

    @staticmethod
    def _reap() -> None:
        # As the first process of its kernel the agent inherits every orphan.
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def main(config: dict[str, Any], link: Link, *, started: float) -> None:
    """Prepare the guest, say hello, serve. Never returns normally: raises PeerGone."""
    setup.prepare(config)
    # Code below a directory that is hidden now stays reachable by its other name: what is
    # imported from here on, and from packages that are imported already.
    sys.path[:] = [setup.HOST_ROOT + entry for entry in sys.path]
    for name in ("testbed", "testbed.guest", "srs"):
        package = sys.modules[name]
        package.__path__ = [setup.HOST_ROOT + entry for entry in package.__path__]
    agent = Agent(link)
    agent.serve_xapi()
    ops.start_driver_server(config["variants"])
    hello = {"pid": os.getpid(), "seconds": time.monotonic() - started}
    agent.reply(Kind.HELLO, 0, hello)
    try:
        agent.run()
    except PeerGone:
        if config["own_kernel"]:
            linux.power_off()
        raise
