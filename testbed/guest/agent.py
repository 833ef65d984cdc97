"""The agent: the first process of a guest, and the host's hand inside it.

One thread, one poll loop. Calls that are over in a millisecond run in the loop; everything
that may block on a device is done by a worker process, because a loop stuck in the kernel
could not even report it. Streams carry drivers' connections to the xapi outside.
"""

import os
import socket
import sys
import time
from typing import Any

from testbed.guest import linux, ops, setup
from testbed.guest.frames import Decoder, Kind, Link, describe, died, pack, pack_body, unpack_body
from testbed.guest.loop import Loop
from testbed.guest.ring import PeerGone
from testbed.guest.streams import Streams
from testbed.guest.workers import Pool, Worker

XAPI_SOCKET = "/var/lib/xcp/xapi"
_POLL_MS = 1000


class Agent:
    """Serves one link until the other side goes away."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._decoder = Decoder()
        self._loop = Loop()
        self._streams = Streams(self._loop, link.send)
        self._slow = Pool(ops.slow_worker, "its worker", spare=2)
        self._once = Pool(ops.slow_worker, "its worker", spare=0)
        self._drivers = Pool(ops.driver_worker, "the driver's process", spare=2)

    def run(self) -> None:
        """Until PeerGone."""
        bell = self._link.fileno()
        self._loop.watch(bell, lambda: None)
        while True:
            ready = self._loop.wait(_POLL_MS if self._link.doze() else 0)
            self._link.wake(rung=any(fd == bell for fd, _ in ready))
            # Before the calls: they may close descriptors, and open others of the same number.
            self._loop.handle(ready)
            for frame in self._decoder.feed(self._link.receive()):
                self._dispatch(frame.kind, frame.id, frame.body)
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
            self._streams.deliver(id_, body)
        elif kind == Kind.CLOSE:
            self._streams.end(id_)

    def _call(self, id_: int, name: str, args: dict[str, Any], blob: bytes, body: bytes) -> None:
        if name == "sm":
            self._have_done(self._drivers, id_, blob)
        elif name == "shell":
            self.reply(Kind.RESULT, id_, self._open_shell(**args))
        elif name in ops.QUICK:
            self.reply(Kind.RESULT, id_, ops.QUICK[name](**args))
        elif name in ops.SLOW:
            self._have_done(self._slow, id_, body)
        elif name in ops.ONCE:
            self._have_done(self._once, id_, body)
        else:
            raise LookupError(f"the agent has no operation {name!r}")

    def _have_done(self, pool: Pool, id_: int, body: bytes) -> None:
        """Have an idle worker do it, or a new one."""
        worker = pool.idle()
        if worker is None:
            fresh = worker = pool.add()
            self._loop.watch(fresh.fileno(), lambda: self._from_worker(pool, fresh))
        worker.begin(id_, body)

    def _from_worker(self, pool: Pool, worker: Worker) -> None:
        try:
            answer = worker.collect()
        except EOFError:
            pool.forget(worker)
            self._dismiss(worker)
            if worker.call:
                self.reply(Kind.FAULT, worker.call, died(pool.title))
            return
        if answer is not None:
            self._link.send(pack(*answer))
            if not pool.settle(worker):
                self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        self._loop.watch(worker.fileno())
        worker.close()

    # --- streams -------------------------------------------------------------------------

    def serve_xapi(self) -> None:
        """Listen where drivers look for xapi, and carry each connection to the outside."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(XAPI_SOCKET)
        listener.listen(64)

        def accept() -> None:
            connection, _ = listener.accept()
            self._streams.open(connection.detach(), b"xapi")

        self._loop.watch(listener.fileno(), accept)

    def _open_shell(self, argv: list[str], rows: int, columns: int) -> int:
        """A process on a terminal of its own; returns the stream that carries it."""
        import fcntl
        import pty
        import struct
        import termios

        pid, fd = pty.fork()
        if pid == 0:
            # Whatever happens, this child must not return: it would be a second agent.
            try:
                os.chdir("/run")
                os.environ["TERM"] = "xterm-256color"
                os.execvp(argv[0], argv)
            except OSError as error:
                os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
            finally:
                os._exit(127)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        return self._streams.open(fd, b"shell")

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
    if config["drivers"]:
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
