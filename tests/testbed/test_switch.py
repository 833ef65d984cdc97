"""The switch: frames in, frames out."""

import socket
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import DeviceRefused
from testbed.network import Network
from testbed.network.switch import Port, Switch

_BROADCAST = b"\xff" * 6


def frame(receiver: bytes, sender: bytes, payload: bytes = b"") -> bytes:
    return receiver + sender + b"\x08\x00" + payload


def mac(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, number])


def arrived(cable: socket.socket) -> list[bytes]:
    """Everything that waits at the far end of a cable."""
    found = []
    cable.setblocking(False)
    while True:
        try:
            found.append(cable.recv(1 << 16))
        except BlockingIOError:
            return found


class Bench:
    """A switch with machines at its ports."""

    def __init__(self, ports: int, seed: int = 0) -> None:
        self.switch = Switch(seed=seed)
        self.ports: list[Port] = [self.switch.add_port() for _ in range(ports)]
        self.cables = [self.switch.plug(port) for port in self.ports]

    def close(self) -> None:
        self.switch.close()
        for cable in self.cables:
            cable.close()

    def take(self) -> list[list[bytes]]:
        """What each machine got."""
        self.switch.settle()
        return [arrived(cable) for cable in self.cables]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(3)
    yield made
    made.close()


# A step: the machine that sends, its MAC, the receiver's (None: everybody), and a cut: between
# two ports, of one port (twice the same), or none.
_port = st.integers(0, 3)
_steps = st.lists(
    st.tuples(
        _port,
        st.integers(0, 5),
        st.none() | st.integers(0, 5),
        st.none() | st.tuples(_port, _port),
    ),
    max_size=30,
)


@given(_steps)
def test_frames_go_where_a_learning_switch_sends_them(
    steps: list[tuple[int, int, int | None, tuple[int, int] | None]],
) -> None:
    bench = Bench(4)
    learned: dict[int, int] = {}
    try:
        for number, (port, sender, receiver, cut) in enumerate(steps):
            data = frame(
                _BROADCAST if receiver is None else mac(receiver), mac(sender), bytes([number])
            )
            ends = [bench.ports[end] for end in cut or ()]
            with bench.switch.cut(*ends) if ends else nullcontext():
                bench.cables[port].send(data)
            targets: set[int] = set()
            if cut != (port, port):
                learned[sender] = port
                targets = set(range(4))
                if receiver in learned:
                    targets = {learned[receiver]}
                targets -= {port, *({sum(cut) - port} if cut and port in cut else ())}
                if cut and cut[0] == cut[1]:
                    targets -= set(cut)
            assert bench.take() == [[data] if place in targets else [] for place in range(4)]
    finally:
        bench.close()


@given(st.lists(st.binary(min_size=1, max_size=9100).filter(lambda data: len(data) != 14)))
def test_frames_arrive_whole_and_in_order(payloads: list[bytes]) -> None:
    """Whatever is shorter than a header is none, and vanishes."""
    bench = Bench(2)
    try:
        for payload in payloads:
            bench.cables[0].send(b"\xff" + payload)
        whole = [b"\xff" + payload for payload in payloads if len(payload) >= 13]
        assert bench.take() == [[], whole]
    finally:
        bench.close()


def survivors(seed: int, loss: float, frames: int = 200) -> list[int]:
    bench = Bench(2, seed)
    try:
        with bench.switch.impaired(loss=loss):
            for number in range(frames):
                bench.cables[0].send(frame(mac(1), mac(0), bytes([number])))
        got = [data[-1] for data in bench.take()[1]]
        assert bench.ports[1].counters.lost == frames - len(got)
        return got
    finally:
        bench.close()


@given(st.integers(), st.floats(0, 1))
def test_the_seed_says_which_frames_are_lost(seed: int, loss: float) -> None:
    assert survivors(seed, loss, 20) == survivors(seed, loss, 20)


def test_as_many_are_lost_as_was_asked_for() -> None:
    everything = list(range(200))
    assert survivors(1, 0.0) == everything
    assert survivors(1, 1.0) == []
    few, others = survivors(1, 0.5), survivors(2, 0.5)
    assert 60 < len(few) < 140
    assert few == sorted(few)
    assert few != others


def test_frames_that_take_their_time(bench: Bench) -> None:
    began = time.monotonic()
    with bench.switch.impaired(delay=0.05):
        for number in range(3):
            bench.cables[0].send(frame(_BROADCAST, mac(0), bytes([number])))
        assert bench.take() == [[], [], []]
    bench.cables[1].settimeout(30)
    assert [bench.cables[1].recv(100)[-1] for _ in range(3)] == [0, 1, 2]
    assert time.monotonic() - began >= 0.05


def test_a_cut_catches_what_is_flying(bench: Bench) -> None:
    with bench.switch.impaired(delay=0.05):
        bench.cables[0].send(frame(_BROADCAST, mac(0)))
    with bench.switch.cut(bench.ports[0], bench.ports[1]) as cut:
        bench.cables[2].settimeout(30)
        assert bench.cables[2].recv(100) == frame(_BROADCAST, mac(0))
        assert cut.wait_for_frame(30)
    assert bench.take() == [[], [], []]
    assert bench.ports[1].counters.cut == 1


def test_a_cut_tells_whether_a_frame_came_to_it(bench: Bench) -> None:
    bench.cables[2].send(frame(_BROADCAST, mac(2)))
    with bench.switch.cut(bench.ports[0], bench.ports[1]) as cut:
        bench.cables[0].send(frame(mac(2), mac(0)))
        bench.switch.settle()
        assert not cut.wait_for_frame(0)
        bench.cables[0].send(frame(_BROADCAST, mac(0)))
        bench.switch.settle()
        assert cut.wait_for_frame(0)


def test_a_port_outlives_its_machine(bench: Bench) -> None:
    bench.cables[1].close()
    bench.cables[0].send(frame(mac(1), mac(0)))
    bench.switch.settle()
    bench.cables[1] = bench.switch.plug(bench.ports[1])
    bench.cables[0].send(frame(mac(1), mac(0), b"again"))
    assert bench.take()[1] == [frame(mac(1), mac(0), b"again")]


def test_a_full_queue_drops_frames_and_nothing_else(bench: Bench) -> None:
    sent = 0
    while not bench.ports[1].counters.full:
        bench.cables[0].send(frame(mac(1), mac(0), bytes(9000)))
        bench.switch.settle()
        sent += 1
    assert len(arrived(bench.cables[1])) == sent - 1
    bench.cables[0].send(frame(mac(1), mac(0), b"next"))
    assert bench.take()[1] == [frame(mac(1), mac(0), b"next")]


def test_addresses_are_given_out_once() -> None:
    with Network("10.1.2.0/29") as network:
        cards = [network.plug("10.1.2.2"), network.plug(), network.plug()]
        assert [card.ip for card in cards] == ["10.1.2.2", "10.1.2.1", "10.1.2.3"]
        assert len({card.mac for card in cards}) == 3
        for bad in ("10.1.2.1", "10.1.3.1"):
            with pytest.raises(DeviceRefused, match=bad):
                network.plug(bad)
