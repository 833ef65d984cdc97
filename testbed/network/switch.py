"""A learning Ethernet switch: ports are sockets, one thread forwards what arrives at them.

A port's cable is a pair of SEQPACKET sockets: one packet is one frame, and end of file says
that the machine at the other end is gone. As in a real switch a frame whose receiver's queue
is full is dropped; TCP copes. Trouble can be had on purpose: cut cables, delay, loss.
"""

import contextlib
import heapq
import itertools
import os
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_HEADER: Final = 14  # bytes: destination, source, type
_FRAME_MAX: Final = 1 << 16
#: Bytes that may wait at a port; the kernel gives an ordinary user less where it must.
_QUEUE: Final = 4 << 20
#: Frames taken from one port before the others have their turn.
_BURST: Final = 64
#: More frames than a queue holds.
_ALL: Final = 1 << 16


@dataclass(slots=True)
class Counters:
    """Frames of a port, from the switch's point of view.

    Attributes:
        received: came in here.
        sent: went out here.
        full: should have gone out here, but the queue was full.
        lost: should have gone out here, and fell victim to `Switch.impaired`.
        cut: should have gone out here, but the cable was cut.
    """

    received: int = 0
    sent: int = 0
    full: int = 0
    lost: int = 0
    cut: int = 0


@dataclass(eq=False, slots=True)
class Port:
    """One socket of the switch; a cable can be plugged into it again and again."""

    number: int
    counters: Counters = field(default_factory=Counters)
    cable: socket.socket | None = None


class Cut:
    """A cable that is cut, or two whose machines do not reach each other."""

    def __init__(self, ends: frozenset[Port]) -> None:
        self.ends = ends
        self._missed = threading.Event()

    def stops(self, source: Port, target: Port) -> bool:
        """Whether a frame between two ports, or at one, does not pass; it is noted, then."""
        stopped = self.ends in ({source}, {target}, {source, target})
        if stopped:
            self._missed.set()
        return stopped

    def wait_for_frame(self, seconds: float) -> bool:
        """Wait until a frame did not get through; says whether one did not."""
        return self._missed.wait(seconds)


class Switch:
    """A switch that runs until it is closed.

    Args:
        seed: decides which frames are lost while some are.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._ports: list[Port] = []
        self._plugged: dict[int, Port] = {}  # descriptor -> port
        self._learned: dict[bytes, Port] = {}  # MAC -> port
        self._cuts: list[Cut] = []
        self._delay = 0.0
        self._loss = 0.0
        self._dice: dict[tuple[Port, Port], random.Random] = {}
        #: Frames on their way: (when they arrive, order, from, to, frame).
        self._flying: list[tuple[float, int, Port, Port, bytes]] = []
        self._order = itertools.count()
        # The thread holds it while it handles frames: what a caller changes counts at once.
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._closing = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._thread.start()

    # --- cables --------------------------------------------------------------------------

    def add_port(self) -> Port:
        """One more port."""
        with self._lock:
            port = Port(len(self._ports))
            self._ports.append(port)
            return port

    def plug(self, port: Port) -> socket.socket:
        """A fresh cable in a port, in place of an old one; returns its far end."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE)
        near.setblocking(False)
        with self._lock:
            self._unplug(port)
            port.cable = near
            self._plugged[near.fileno()] = port
            self._epoll.register(near, select.EPOLLIN)
        return far

    def _unplug(self, port: Port) -> None:
        if port.cable is not None:
            del self._plugged[port.cable.fileno()]
            port.cable.close()  # which takes it out of epoll too
            port.cable = None

    def close(self) -> None:
        """Stop; whoever is plugged in has no network any more. Idempotent."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        for port in self._ports:
            self._unplug(port)
        self._epoll.close()
        os.close(self._bell)

    # --- trouble -------------------------------------------------------------------------

    @contextlib.contextmanager
    def cut(self, port: Port, other: Port | None = None) -> Iterator[Cut]:
        """Meanwhile nothing passes a port, or nothing between two; not even what was flying."""
        cut = Cut(frozenset({port, other or port}))
        with self._lock:
            self._receive_all()
            self._cuts.append(cut)
        try:
            yield cut
        finally:
            with self._lock:
                self._receive_all()
                self._cuts.remove(cut)

    @contextlib.contextmanager
    def impaired(self, *, delay: float = 0.0, loss: float = 0.0) -> Iterator[None]:
        """Meanwhile frames take `delay` seconds, and a share of them (0 to 1) is lost.

        The seed alone decides which ones: the n-th frame from one port to another since the
        beginning of this trouble is lost, or not.
        """
        with self._lock:
            self._receive_all()
            before = self._delay, self._loss, self._dice
            self._delay, self._loss, self._dice = delay, loss, {}
        try:
            yield
        finally:
            with self._lock:
                self._receive_all()
                self._delay, self._loss, self._dice = before

    def settle(self) -> None:
        """Return when every frame that was sent before has been forwarded, or is flying."""
        with self._lock:
            self._receive_all()

    def _receive_all(self) -> None:
        """What was sent before a change counts by the rules from before the change."""
        for port in self._ports:
            self._receive(port, _ALL)
        os.eventfd_write(self._bell, 1)  # the thread does not know of frames that fly now

    def _is_cut(self, source: Port, target: Port) -> bool:
        stopped = [cut.stops(source, target) for cut in self._cuts]  # each takes note
        return any(stopped)

    def _is_lost(self, source: Port, target: Port) -> bool:
        if not self._loss:
            return False
        way = (source, target)
        if way not in self._dice:
            self._dice[way] = random.Random(f"{self._seed} {source.number} {target.number}")
        return self._dice[way].random() < self._loss

    # --- the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            ready = self._epoll.poll(self._patience())
            with self._lock:
                if self._closing:
                    return
                for fd, _ in ready:
                    if fd in self._plugged:
                        self._receive(self._plugged[fd], _BURST)
                    elif fd == self._bell:
                        os.eventfd_read(fd)
                self._land()

    def _patience(self) -> float | None:
        """Seconds until the next frame lands."""
        return max(0.0, self._flying[0][0] - time.monotonic()) if self._flying else None

    def _receive(self, port: Port, limit: int) -> None:
        for _ in range(limit):
            if port.cable is None:
                return
            try:
                frame = port.cable.recv(_FRAME_MAX)
            except BlockingIOError:
                return
            except OSError:  # the machine at the other end died with frames unread
                frame = b""
            if not frame:
                self._unplug(port)
                return
            port.counters.received += 1
            if len(frame) >= _HEADER and not self._is_cut(port, port):
                self._forward(port, frame)

    def _forward(self, port: Port, frame: bytes) -> None:
        receiver, sender = frame[:6], frame[6:12]
        if not sender[0] & 1:
            self._learned[sender] = port
        known = None if receiver[0] & 1 else self._learned.get(receiver)
        for target in self._ports if known is None else (known,):
            if target is not port:
                self._launch(port, target, frame)

    def _launch(self, source: Port, target: Port, frame: bytes) -> None:
        if self._is_lost(source, target):
            target.counters.lost += 1
        elif self._delay:
            arrival = time.monotonic() + self._delay
            heapq.heappush(self._flying, (arrival, next(self._order), source, target, frame))
        else:
            self._deliver(source, target, frame)

    def _land(self) -> None:
        while self._flying and self._flying[0][0] <= time.monotonic():
            _, _, source, target, frame = heapq.heappop(self._flying)
            self._deliver(source, target, frame)

    def _deliver(self, source: Port, target: Port, frame: bytes) -> None:
        counters = target.counters
        if self._is_cut(source, target):
            counters.cut += 1
        elif target.cable is not None:
            try:
                target.cable.send(frame)
                counters.sent += 1
            except BlockingIOError:
                counters.full += 1
            except OSError:  # it is gone; its end of file comes next
                return
