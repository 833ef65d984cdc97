"""Processes that carry out what the agent must not wait for, one job at a time each.

The agent's loop must never wait for a device, and a fork for every job would cost more than
most jobs do. So a worker stays after its first job and waits for the next one; as many exist
as jobs were ever under way at once. One that is stuck in the kernel is simply not used again.
Workers speak frames (testbed/guest/frames.py): a CALL in, a RESULT or FAULT out, with a CLOSE
in front of it when the worker will not take another job.
"""

import os
import socket
from collections.abc import Callable

from srs.forking import fork, name_process
from testbed.guest.frames import Decoder, Frame, Kind, describe, pack, pack_body

_CHUNK = 1 << 18

#: The body of a CALL -> the body of its RESULT.
Job = Callable[[bytes], bytes]


def serve(sock: socket.socket, job: Job, *, may_go_on: Callable[[], bool]) -> None:
    """In the worker: jobs, until the agent hangs up or the last one left something behind."""
    decoder = Decoder()
    while data := sock.recv(_CHUNK):
        for frame in decoder.feed(data):
            try:
                reply = pack(Kind.RESULT, frame.id, job(frame.body))
            except Exception as error:
                reply = pack(Kind.FAULT, frame.id, pack_body(describe(error)))
            if not _agrees(may_go_on):
                sock.sendall(pack(Kind.CLOSE, frame.id) + reply)
                return
            sock.sendall(reply)


def _agrees(may_go_on: Callable[[], bool]) -> bool:
    """Whether another job may follow; the answer of the last one is not to be lost over it."""
    try:
        return may_go_on()
    except Exception:
        return False


class Worker:
    """The agent's end of one worker."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = Decoder()
        #: The call that it works on; 0 while it is idle.
        self.call = 0
        #: It takes no other job.
        self.retired = False

    def fileno(self) -> int:
        """To poll for an answer."""
        return self._socket.fileno()

    def begin(self, call: int, body: bytes) -> None:
        """Hand it a job."""
        self.call = call
        self._socket.sendall(pack(Kind.CALL, call, body))

    def collect(self) -> Frame | None:
        """The answer, once it is complete; it ends the job.

        Raises:
            EOFError: the worker ended.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        answer = None
        for frame in self._decoder.feed(data):
            if frame.kind == Kind.CLOSE:
                self.retired = True
            else:
                self.call = 0
                answer = frame
        return answer

    def close(self) -> None:
        """Hang up: an idle worker ends."""
        self._socket.close()


class Pool:
    """Workers of one kind.

    Args:
        start: makes one more.
        title: what they are, for the fault of a call whose worker died.
        spare: so many may stay idle; memory is dear in a guest.
    """

    def __init__(self, start: Callable[[], Worker], title: str, *, spare: int) -> None:
        self._start = start
        self._spare = spare
        self._workers: list[Worker] = []
        self.title = title

    def idle(self) -> Worker | None:
        """One that waits for a job, the one that worked last: its memory is warm."""
        return next((worker for worker in reversed(self._workers) if not worker.call), None)

    def add(self) -> Worker:
        """Start another."""
        worker = self._start()
        self._workers.append(worker)
        return worker

    def settle(self, worker: Worker) -> bool:
        """After a job: whether the worker stays. Otherwise the caller closes it."""
        self._workers.remove(worker)
        if worker.retired or sum(not other.call for other in self._workers) >= self._spare:
            return False
        self._workers.append(worker)
        return True

    def forget(self, worker: Worker) -> None:
        """It died."""
        self._workers.remove(worker)


def forked(job: Job) -> Worker:
    """A worker that is a child of this process."""
    ours, theirs = socket.socketpair()
    if fork() == 0:
        try:
            # Nothing of the agent's: a shell hangs up when its last descriptor closes.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, 1 << 16)
            name_process("slow-call")
            serve(theirs, job, may_go_on=lambda: True)
        finally:
            os._exit(0)
    theirs.close()
    return Worker(ours)
