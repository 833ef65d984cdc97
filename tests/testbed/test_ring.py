"""The ring between host and guest, with both ends in this process."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.guest.frames import Decoder, Frame, pack, pack_body, unpack_body
from testbed.guest.ring import Bell, PeerGone, Ring, region_size


@contextmanager
def ring(capacity: int) -> Iterator[tuple[Ring, Ring, list[int]]]:
    """Host's and guest's end over one region, with pipes for serial lines."""
    region = bytearray(region_size(capacity))
    lines = []
    for _ in range(2):
        inside_read, our_write = os.pipe()
        our_read, inside_write = os.pipe()
        lines.append((our_read, our_write, inside_read, inside_write))
    (a, b, c, d), (e, f, g, h) = lines
    fds = [a, b, c, d, e, f, g, h]
    host = Ring(memoryview(region), capacity, host=True, inbound=Bell(a, b), outbound=Bell(e, f))
    guest = Ring(memoryview(region), capacity, host=False, inbound=Bell(c, d), outbound=Bell(g, h))
    try:
        yield host, guest, fds
    finally:
        host.close()
        guest.close()
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                continue


def exactly(end: Ring, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += end.wait()
    return bytes(data)


@settings(max_examples=50, deadline=None)
@given(
    capacity=st.integers(1, 64),
    messages=st.lists(st.binary(max_size=300), max_size=12),
)
def test_every_byte_arrives_in_order(capacity: int, messages: list[bytes]) -> None:
    """However small the ring: the writer waits for room, the reader for bytes."""
    sent = b"".join(messages)
    with ring(capacity) as (host, guest, _):

        def echo() -> None:
            guest.send(exactly(guest, len(sent)))

        thread = threading.Thread(target=echo)
        thread.start()
        received = bytearray()

        def collect() -> None:
            received.extend(exactly(host, len(sent)))

        reader = threading.Thread(target=collect)
        reader.start()
        for message in messages:
            host.send(message)
        reader.join()
        thread.join()
    assert bytes(received) == sent


def test_nothing_there_is_no_wait() -> None:
    with ring(64) as (host, guest, _):
        assert host.receive() == b""
        assert guest.doze()
        host.send(b"x")
        assert os.read(guest.fileno(), 10) == b"!"
        guest.wake(rung=False)
        assert guest.receive() == b"x"


def test_a_doorbell_rings_only_for_a_sleeper() -> None:
    """The serial line below must never hold more than a byte or two."""
    with ring(4096) as (host, guest, fds):
        for _ in range(100):
            host.send(b"message")
        assert len(exactly(guest, 700)) == 700
        os.set_blocking(fds[2], False)
        with pytest.raises(BlockingIOError):
            os.read(fds[2], 1)


def test_the_end_of_the_peer_is_told() -> None:
    with ring(64) as (host, _, fds):
        os.close(fds[7])  # what the guest rings the host with
        with pytest.raises(PeerGone):
            host.wait()


@given(
    frames=st.lists(st.tuples(st.integers(1, 7), st.integers(0, 2**64 - 1), st.binary())),
    cuts=st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_survive_any_cutting(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(pack(kind, id_, body) for kind, id_, body in frames)
    decoder, position, turn = Decoder(), 0, 0
    decoded: list[Frame] = []
    while position < len(stream):
        piece = stream[position : position + cuts[turn % len(cuts)]]
        decoded += decoder.feed(piece)
        position += len(piece)
        turn += 1
    assert [tuple(frame) for frame in decoded] == frames


@given(document=st.dictionaries(st.text(), st.integers() | st.text()), blob=st.binary())
def test_a_body_carries_json_and_bytes(document: dict[str, object], blob: bytes) -> None:
    assert unpack_body(pack_body(document, blob)) == (document, blob)
