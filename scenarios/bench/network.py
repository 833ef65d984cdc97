"""`ci/bench network`: guests on the switch, a pool, and SRs that its hosts share."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from scenarios.storage import Repository
from testbed.machine import Machine
from testbed.network import Network
from testbed.pool import Pool
from testbed.sharing import provision_shared
from testbed.storagehost import StorageKernel

_BYTES = 64 << 20
_ROUNDS = 500
_DISK = 16 << 20

#: Seconds from nothing to a disk of such an SR in two hosts.
_SHARED = {"nfs": 4, "lvhdoiscsi": 6, "lvhdohba": 3}

#: The receiver says in a pipe that it listens. First comes a byte to and fro, then everything.
_SERVE = f"""
import socket
listener = socket.create_server(("", 7))
open("/run/ready", "w").close()
connection, _ = listener.accept()
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range({_ROUNDS}):
    connection.sendall(connection.recv(1))
left = {_BYTES}
while left:
    left -= len(connection.recv(1 << 18))
connection.sendall(b"!")
"""
_CALL = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 7))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
began = time.monotonic()
for _ in range({_ROUNDS}):
    connection.sendall(b"?")
    connection.recv(1)
middle = time.monotonic()
connection.sendall(bytes({_BYTES}))
connection.recv(1)
print((middle - began) / {_ROUNDS}, {_BYTES} / (time.monotonic() - middle))
"""
_PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")


def _tcp(one: Machine, two: Machine) -> tuple[float, float]:
    """Seconds of a round trip, bytes per second."""
    two.kernel.run(["mkfifo", "/run/ready"])
    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(two.kernel.run, [*_PYTHON, _SERVE])
        two.kernel.run(["sh", "-c", "cat /run/ready; rm /run/ready"])
        done = one.kernel.run([*_PYTHON, _CALL, two.address])
        serving.result()
    round_trip, rate = map(float, done.stdout.split())
    return round_trip, rate


def _pool() -> Iterator[tuple[str, str, str]]:
    """A storage kernel, two hosts and xapi; then each kind of SR on both, and a disk in both."""
    began = time.monotonic()
    with Pool(hosts=2, storage=True) as pool:
        yield "storage kernel and two hosts up", f"{time.monotonic() - began:.2f} s", "<= 6 s"
        session = pool.session()
        for kind, bound in _SHARED.items():
            began = time.monotonic()
            sr = Repository(pool.hosts[0], session, provision_shared(pool, session, kind))
            made = time.monotonic()
            with ExitStack() as plugs:
                vdi = sr.create(_DISK)
                for host in pool.hosts:
                    plugs.enter_context(vdi.on(host).plugged("RO"))
                attached = time.monotonic()
            what = f"{kind}: server's part, SR.create and both PBDs + a disk in both hosts"
            parts = f"{made - began:.2f} + {attached - made:.2f} s"
            yield what, parts, f"<= {bound} s"


def _measure() -> Iterator[tuple[str, str, str]]:
    """What, measured, promised."""
    yield from _pool()
    with Network() as network, StorageKernel(network) as one, StorageKernel(network) as two:
        round_trip, rate = _tcp(one, two)
        yield "TCP round trip, one byte", f"{round_trip * 1e6:.0f} us", "-"
        yield f"TCP, {_BYTES >> 20} MiB one way", f"{rate / 1e6:.0f} MB/s", "-"
        counters = (one.nic.counters, two.nic.counters)
        full, sent = (sum(getattr(each, what) for each in counters) for what in ("full", "sent"))
        yield "frames dropped, of how many", f"{full} of {sent}", "-"


def bench() -> None:
    """Print the table."""
    table = Table("number", "measured", "promised", title="Network", title_justify="left")
    for row in _measure():
        table.add_row(*row)
    Console().print(table)
