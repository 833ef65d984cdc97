"""Kernels on a network: real TCP/IP between two guests, and trouble on the wire."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.devices.disk import Shelf
from testbed.machine import Machine
from testbed.network import Network
from testbed.storagehost import StorageKernel

_MIB = 1 << 20

_RECEIVE = """
import hashlib, socket
listener = socket.create_server(("", 7))
open("/run/ready", "w").close()
connection, peer = listener.accept()
digest = hashlib.sha256()
while piece := connection.recv(1 << 18):
    digest.update(piece)
print(peer[0], digest.hexdigest())
"""
_SEND = """
import hashlib, os, socket, sys
data = os.urandom(4 << 20)
connection = socket.create_connection((sys.argv[1], 7))
connection.sendall(data)
print(connection.getsockname()[0], hashlib.sha256(data).hexdigest())
"""
# Nobody listens: the answer is a refusal, which takes a round trip, too.
_CONNECT = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 8))
except ConnectionRefusedError:
    print(time.monotonic() - began)
"""
_DATAGRAMS = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: never in pieces
for size in sys.argv[2:]:
    sock.sendto(bytes(int(size)), (sys.argv[1], 9))
"""


def python(machine: Machine, program: str, *arguments: str) -> str:
    done = machine.kernel.run(["/usr/bin/python3", "-I", "-S", "-c", program, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[StorageKernel, StorageKernel]]:
    with Network() as network, StorageKernel(network) as one, StorageKernel(network) as two:
        yield one, two


def transfer(sender: Machine, receiver: Machine) -> None:
    """4 MiB over TCP, and both saw the same bytes and the same peer."""
    receiver.kernel.run(["mkfifo", "/run/ready"])
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(python, receiver, _RECEIVE)
        receiver.kernel.run(["sh", "-c", "cat /run/ready; rm /run/ready"])
        sent = python(sender, _SEND, receiver.address)
        assert receiving.result(60) == sent
    assert sent.startswith(sender.address)


def test_two_guests_speak_tcp(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    transfer(one, two)
    transfer(two, one)
    assert one.nic.counters.full == two.nic.counters.full == 0


def test_a_packet_of_9000_bytes_is_one_frame(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    python(one, _DATAGRAMS, two.address, "1")  # they know each other's MAC from here on
    one.nic.network.switch.settle()
    before = one.nic.counters.received
    python(one, _DATAGRAMS, two.address, "8972", "1", "8972")
    one.nic.network.switch.settle()
    assert one.nic.counters.received == before + 3
    with pytest.raises(AssertionError, match="Message too long"):
        python(one, _DATAGRAMS, two.address, "8973")


def test_a_lossy_line_delays_tcp_and_harms_no_byte(
    pair: tuple[StorageKernel, StorageKernel],
) -> None:
    one, two = pair
    with one.nic.network.impaired(delay=0.001, loss=0.02):
        transfer(one, two)
    assert one.nic.counters.lost + two.nic.counters.lost > 0


def test_nothing_passes_a_cut(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    python(one, _DATAGRAMS, two.address, "1")
    with one.nic.network.cut(one.nic, two.nic):
        sent = two.nic.counters.sent
        python(one, _DATAGRAMS, two.address, "1", "1")
        one.nic.network.switch.settle()
        assert two.nic.counters.sent == sent
        assert two.nic.counters.cut >= 2
    transfer(one, two)


def test_a_machine_comes_back_at_its_address(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    address, disk = two.address, two.add_disk(16 * _MIB)
    two.write(disk.device, (0, b"kept"))
    two.power_cut()
    two.restart()
    assert two.address == address
    assert two.read("/dev/loop0", 0, 4) == b"kept"
    transfer(one, two)


def test_storage_has_no_drivers(pair: tuple[StorageKernel, StorageKernel]) -> None:
    running = pair[0].kernel.call("census", roots=[])["processes"]
    assert not [name for name in running if name.startswith("sm-")]


def test_two_machines_with_one_disk_see_the_same_bytes() -> None:
    with Shelf() as shelf, Machine(shelf=shelf) as one, Machine(shelf=shelf) as two:
        path = shelf.add_disk(16 * _MIB)
        disks = [machine.add_shared_disk(path) for machine in (one, two)]
        for number, (writer, reader) in enumerate([(one, two), (two, one), (one, two)]):
            data = bytes([number]) * _MIB
            writer.write(disks[0].device, (4 * _MIB, data))
            assert reader.read(disks[1].device, 4 * _MIB, _MIB) == data
        two.eject_disk(disks[1])
        assert path.exists()


def test_a_card_from_inside(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    python(one, _DATAGRAMS, two.address, "1")
    state = one.interface.state()
    assert (state.mac, state.mtu, state.up) == (one.nic.mac, 9000, True)
    assert state.addresses == [str(one.nic.address)]
    assert state.neighbours[two.address] == two.nic.mac
    assert state.sent > 0


def test_a_card_with_one_more_address(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    with two.interface.extra_address("192.168.77.200/24"):
        assert "192.168.77.200/24" in two.interface.state().addresses
        assert float(python(one, _CONNECT, "192.168.77.200")) > 0
    assert two.interface.state().addresses == [str(two.nic.address)]


def test_what_a_machine_does_to_what_it_sends(pair: tuple[StorageKernel, StorageKernel]) -> None:
    one, two = pair
    before = one.interface.state().queues
    with one.interface.shaped(delay=0.2, duplicate=0.5):
        assert one.interface.state().queues == ["netem"]
        assert float(python(one, _CONNECT, two.address)) >= 0.2
    assert one.interface.state().queues == before
