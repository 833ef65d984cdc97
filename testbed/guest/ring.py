"""A duplex byte stream over shared memory, with serial lines as doorbells.

A User-Mode Linux serial line goes deaf for ever once 3969 bytes are unread (the kernel's
throttle takes the descriptor out of epoll and unthrottle never puts it back). So bulk bytes
travel through a memory region that host and guest map (`/dev/mmapper` in the guest), and a
serial line carries a single byte only when the other side said that it sleeps: at most two
bytes are ever unread.

Layout of the region, per direction: one page of counters, then `capacity` bytes of data.

    word 0    head: bytes produced since the start        written by the producer
    word 1    tail: bytes consumed since the start        written by the consumer
    word 8    the consumer sleeps and wants a "data" byte
    word 16   the producer sleeps and wants a "space" byte

Words are 8 bytes, in native order, and the flags live on cache lines of their own. The first
half of the region carries host to guest, the second guest to host. The same file runs on
both sides.
"""

import os
import select
import threading
from typing import Final

PAGE: Final = 4096
_HEAD, _TAIL, _CONSUMER_SLEEPS, _PRODUCER_SLEEPS = 0, 1, 8, 16

#: A lost doorbell would cost this long, not a hang. None was ever seen to get lost.
SAFETY_NET_MS: Final = 500


def region_size(capacity: int) -> int:
    """Bytes of shared memory that a ring with `capacity` bytes per direction needs."""
    return 2 * (PAGE + capacity)


class PeerGone(EOFError):
    """The other side of the ring closed its doorbell: it powered off, crashed or was killed."""


class _Half:
    """One direction: counters, data, and the doorbell line this side reads and rings."""

    def __init__(self, region: memoryview, offset: int, capacity: int, bell: "Bell") -> None:
        self._words = region[offset : offset + PAGE].cast("Q")
        self._data = region[offset + PAGE : offset + PAGE + capacity]
        self._capacity = capacity
        self._bell = bell
        self._fence = threading.Lock()

    def _barrier(self) -> None:
        # x86 may let a later load pass an earlier store; taking any lock is a full barrier.
        with self._fence:
            pass

    def release(self) -> None:
        self._words.release()
        self._data.release()


class Bell:
    """A doorbell: one byte wakes the peer. `read` and `write` are descriptors of this side."""

    def __init__(self, read: int, write: int) -> None:
        self.read = read
        self._write = write
        self._ringing = threading.Lock()
        self._poll = select.poll()
        self._poll.register(read, select.POLLIN)

    def ring(self) -> None:
        """Wake the peer. Raises PeerGone when nobody listens any more, or after `hang_up`."""
        with self._ringing:
            try:
                os.write(self._write, b"!")
            except OSError as error:
                raise PeerGone("the doorbell line is closed") from error

    def hang_up(self) -> None:
        """Close the ringing end: the peer sees the end of its input.

        Under the lock, because a number that was closed may name another file a moment later.
        """
        with self._ringing:
            if self._write >= 0:
                os.close(self._write)
                self._write = -1

    def wait(self, timeout_ms: int) -> None:
        """Sleep until the peer rings or the timeout is over. Raises PeerGone on hang-up."""
        if self._poll.poll(timeout_ms):
            self.silence()

    def silence(self) -> None:
        """Take the rings that are pending off the line. Raises PeerGone on hang-up."""
        try:
            rings = os.read(self.read, 64)
        except OSError as error:
            raise PeerGone("the doorbell line broke") from error
        if not rings:
            raise PeerGone("the peer closed its doorbell line")


class Producer(_Half):
    """The writing end of one direction. One thread at a time."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Put all of `data` into the ring; sleeps while the ring is full."""
        words, capacity = self._words, self._capacity
        source = memoryview(data).cast("B")
        position, end = 0, len(source)
        while position < end:
            head = words[_HEAD]
            room = capacity - (head - words[_TAIL])
            if not room:
                self._sleep(head)
                continue
            count = min(room, end - position)
            start = head % capacity
            first = min(count, capacity - start)
            self._data[start : start + first] = source[position : position + first]
            self._data[: count - first] = source[position + first : position + count]
            words[_HEAD] = head + count
            self._barrier()
            if words[_CONSUMER_SLEEPS]:
                words[_CONSUMER_SLEEPS] = 0
                self._bell.ring()
            position += count

    def _sleep(self, head: int) -> None:
        words = self._words
        words[_PRODUCER_SLEEPS] = 1
        self._barrier()
        if self._capacity - (head - words[_TAIL]) == 0:
            self._bell.wait(SAFETY_NET_MS)
        words[_PRODUCER_SLEEPS] = 0


class Consumer(_Half):
    """The reading end of one direction. One thread at a time."""

    def take(self) -> bytes:
        """Whatever is there, without waiting; empty when nothing is."""
        words, capacity = self._words, self._capacity
        tail = words[_TAIL]
        count = words[_HEAD] - tail
        if not count:
            return b""
        start = tail % capacity
        first = min(count, capacity - start)
        taken = bytes(self._data[start : start + first])
        if first < count:
            taken += bytes(self._data[: count - first])
        words[_TAIL] = tail + count
        self._barrier()
        if words[_PRODUCER_SLEEPS]:
            words[_PRODUCER_SLEEPS] = 0
            self._bell.ring()
        return taken

    def doze(self) -> bool:
        """Ask the producer for a doorbell. False when data came meanwhile: do not sleep."""
        words = self._words
        words[_CONSUMER_SLEEPS] = 1
        self._barrier()
        return bool(words[_HEAD] == words[_TAIL])

    def wake(self) -> None:
        """No doorbell is needed any more."""
        self._words[_CONSUMER_SLEEPS] = 0


class Ring:
    """Both directions, seen from one side.

    Args:
        region: the shared memory, `region_size(capacity)` bytes, zeroed when it was made.
        capacity: data bytes per direction.
        host: True outside, False inside the guest.
        inbound: doorbell line of the host-to-guest direction.
        outbound: doorbell line of the guest-to-host direction.
    """

    def __init__(
        self, region: memoryview, capacity: int, *, host: bool, inbound: Bell, outbound: Bell
    ) -> None:
        to_guest, to_host = 0, PAGE + capacity
        receiving = outbound if host else inbound
        self._region = region
        self._sending = threading.Lock()
        self._bell = receiving
        if host:
            self._producer = Producer(region, to_guest, capacity, inbound)
            self._consumer = Consumer(region, to_host, capacity, outbound)
        else:
            self._producer = Producer(region, to_host, capacity, outbound)
            self._consumer = Consumer(region, to_guest, capacity, inbound)

    def fileno(self) -> int:
        """The descriptor to poll for input, between `doze` and `wake`."""
        return self._bell.read

    def send(self, data: bytes) -> None:
        """Write all of `data`; any thread. Raises PeerGone."""
        with self._sending:
            self._producer.write(data)

    def doze(self) -> bool:
        """Announce sleep; False when there is something to `receive` already."""
        return self._consumer.doze()

    def wake(self, *, rung: bool) -> None:
        """End of sleep; `rung` when `fileno` became readable. Raises PeerGone on hang-up."""
        self._consumer.wake()
        if rung:
            self._bell.silence()

    def receive(self) -> bytes:
        """Whatever has come, without waiting."""
        return self._consumer.take()

    def wait(self) -> bytes:
        """Block until something comes. Raises PeerGone."""
        while True:
            taken = self._consumer.take()
            if taken:
                return taken
            if self._consumer.doze():
                self._bell.wait(SAFETY_NET_MS)
            self._consumer.wake()

    def close(self) -> None:
        """Let go of the shared memory (the descriptors belong to the caller)."""
        self._producer.release()
        self._consumer.release()
        self._region.release()
