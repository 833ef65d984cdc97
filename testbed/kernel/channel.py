"""Calls into a guest, from any number of threads, over one link.

A reader thread hands results to whoever waits for them, and bytes of streams to whoever
carries them. A stream that the guest opens is joined to a Unix socket of this machine: that
is how a driver inside reaches the xapi outside while its own call is still running.
"""

import contextlib
import itertools
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import GuestFault
from testbed.guest.frames import Decoder, Frame, Kind, Link, pack, pack_body, unpack_body
from testbed.guest.ring import PeerGone

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation of the agent gave back: a JSON value, and raw bytes."""

    value: Any
    blob: bytes


class _Pump:
    """One stream joined to a socket of this machine.

    Bytes for the socket wait in a queue and a thread of their own writes them: the reader
    thread of the channel must never block on a slow service.
    """

    def __init__(self, channel: "Channel", id_: int, sock: socket.socket) -> None:
        self._channel, self._id, self._socket = channel, id_, sock
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for work in (self._inwards, self._outwards):
            threading.Thread(target=work, name=f"stream-{id_}", daemon=True).start()

    def deliver(self, data: bytes) -> None:
        """Bytes from the guest; empty at the end."""
        self._outbox.put(data)

    def _outwards(self) -> None:
        try:
            while data := self._outbox.get():
                self._socket.sendall(data)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the service hung up; the other direction tells the guest

    def _inwards(self) -> None:
        try:
            while data := self._socket.recv(_CHUNK):
                self._channel.send_to_stream(self._id, data)
        except (OSError, PeerGone):
            pass
        self._channel.close_stream(self._id)
        self._socket.close()


class Channel:
    """The host's end of a link.

    Args:
        link: where the guest's agent listens.
        died: builds the error for calls that can get no answer any more.
        lost: called once the guest has gone, before anybody who waits hears of it.
    """

    def __init__(self, link: Link, died: Callable[[], Exception], lost: Callable[[], None]) -> None:
        self._link = link
        self._died = died
        self._lost = lost
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[str, Future[Answer]]] = {}
        self._streams: dict[int, Callable[[bytes], None]] = {}
        self._early: dict[int, list[bytes]] = {}
        self._services: dict[str, Path] = {}
        self._gone = False
        self.hello: Future[dict[str, Any]] = Future()
        self._reader = threading.Thread(target=self._read, name="channel", daemon=True)
        self._reader.start()

    # --- calls ---------------------------------------------------------------------------

    def call(
        self, operation: str, arguments: dict[str, Any], blob: bytes, timeout: float | None
    ) -> Answer:
        """Run an operation of the agent and wait for its answer.

        Raises:
            GuestFault: the operation failed.
            KernelDied: the guest went away before it answered.
            TimeoutError: no answer within `timeout` seconds.
        """
        future: Future[Answer] = Future()
        id_ = next(self._ids)
        with self._lock:
            if self._gone:
                raise self._died()
            self._waiting[id_] = (operation, future)
        body = pack_body({"op": operation, "args": arguments}, blob)
        try:
            self._send(pack(Kind.CALL, id_, body))
        except PeerGone:
            self._reader.join()
        try:
            return future.result(timeout)
        finally:
            with self._lock:
                self._waiting.pop(id_, None)

    def offer(self, service: str, path: Path) -> None:
        """Streams that ask for `service` are joined to the Unix socket at `path`."""
        self._services[service] = path

    # --- streams -------------------------------------------------------------------------

    def attach_stream(self, id_: int, receive: Callable[[bytes], None]) -> None:
        """Bytes of stream `id_` go to `receive`, what came before now first; empty at the end."""
        with self._lock:
            early = self._early.pop(id_, [])
            for data in early:
                receive(data)
            if b"" not in early:
                self._streams[id_] = receive

    def send_to_stream(self, id_: int, data: bytes) -> None:
        """Bytes for the guest's end of a stream. Raises PeerGone."""
        self._send(pack(Kind.DATA, id_, data))

    def close_stream(self, id_: int) -> None:
        """Nothing more will be sent. The stream is over when the guest says so too."""
        with contextlib.suppress(PeerGone):
            self._send(pack(Kind.CLOSE, id_))

    # --- the reader ----------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._link.send(frame)

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while True:
                for frame in decoder.feed(self._link.wait()):
                    self._handle(frame)
        except (PeerGone, OSError):
            self._end()

    def _handle(self, frame: Frame) -> None:
        if frame.kind in (Kind.RESULT, Kind.FAULT):
            self._answer(frame)
        elif frame.kind == Kind.DATA:
            self._deliver(frame.id, frame.body)
        elif frame.kind == Kind.CLOSE:
            self._deliver(frame.id, b"")
        elif frame.kind == Kind.OPEN:
            self._join(frame.id, frame.body.decode())
        elif frame.kind == Kind.HELLO:
            self.hello.set_result(unpack_body(frame.body)[0])

    def _answer(self, frame: Frame) -> None:
        with self._lock:
            operation, future = self._waiting.pop(frame.id, ("", None))
        if future is None:
            return  # the caller gave up waiting
        document, blob = unpack_body(frame.body)
        if frame.kind == Kind.RESULT:
            future.set_result(Answer(document, blob))
        else:
            future.set_exception(
                GuestFault(
                    operation,
                    document["type"],
                    document["message"],
                    document["errno"],
                    document["trace"],
                )
            )

    def _deliver(self, id_: int, data: bytes) -> None:
        with self._lock:
            receive = self._streams.get(id_)
            if receive is None:
                self._early.setdefault(id_, []).append(data)
                return
            if not data:
                del self._streams[id_]
        receive(data)

    def _join(self, id_: int, service: str) -> None:
        path = self._services.get(service)
        if path is None:
            return  # whoever made the call that opened it attaches to it
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(os.fspath(path))
        except OSError:
            sock.close()
            self.close_stream(id_)
        else:
            self.attach_stream(id_, _Pump(self, id_, sock).deliver)

    def _end(self) -> None:
        """The guest is gone: tell everybody who waits."""
        with self._lock:
            self._gone = True
            waiting, self._waiting = self._waiting, {}
            streams, self._streams = self._streams, {}
        try:
            for receive in streams.values():
                receive(b"")
            if self.hello.done():
                self._lost()
        finally:
            self._fail([future for _, future in waiting.values()])

    def _fail(self, waiting: list[Future[Answer]]) -> None:
        if self.hello.done() and not waiting:
            return
        error = self._died()
        for future in waiting:
            future.set_exception(error)
        if not self.hello.done():
            self.hello.set_exception(error)

    def close(self) -> None:
        """Wait for the reader to finish; the link must have been cut before."""
        if self._reader is not threading.current_thread():
            self._reader.join()
        self._link.close()
