"""The numbers that the toolstack promises, measured over HTTP against a server of its own.

The server is a process of its own with a host in memory, so what is measured is the toolstack:
its wire, its database, its threads. Times end with the last byte of the answer.
"""

import http.client
import json
import os
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from rich.console import Console
from rich.table import Table

from xapi.testing import serve

_VDIS = 1000
_WAITERS = 100
_GETTERS = 500
_ROUNDS = 7
_GIB = 1 << 30
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Number:
    """What was measured, beside what was promised."""

    what: str
    measured: float
    bound: float
    unit: str


class Server:
    """A server in a process of its own, and a session there."""

    def __init__(self, process: subprocess.Popen[str], url: str, seconds: float) -> None:
        self._process = process
        self.netloc = urlsplit(url).netloc
        self.start_seconds = seconds
        self._connection = self.connect()
        self.session = self("session.login_with_password", "root", "testbed", session=False)

    def connect(self) -> http.client.HTTPConnection:
        """One more connection."""
        return http.client.HTTPConnection(self.netloc)

    def body(self, method: str, *params: Any) -> str:
        """A call in the server's session, as JSON-RPC."""
        return json.dumps({"method": method, "params": [self.session, *params], "id": 1})

    def __call__(self, method: str, *params: Any, session: bool = True) -> Any:
        """The result of a call, in the server's session unless told otherwise."""
        given = [self.session, *params] if session else list(params)
        body = json.dumps({"method": method, "params": given, "id": 1})
        reply = json.loads(self.send(body))
        if reply["error"]:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def send(self, body: str) -> bytes:
        """One request on the server's connection, and the whole answer."""
        self._connection.request("POST", "/jsonrpc", body)
        return self._connection.getresponse().read()

    def seconds(self, body: str) -> float:
        """How long one request takes."""
        began = time.perf_counter()
        self.send(body)
        return time.perf_counter() - began

    def cpu_seconds(self) -> float:
        """Processor time of the process so far: the same on a busy machine as on an idle one."""
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().split()[13:15]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> int:
        """The most memory that the process ever had, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
        if found is None:
            raise RuntimeError("the kernel does not say how much memory the server had")
        return int(found[1]) * 1024

    def sr(self) -> str:
        """A plugged SR."""
        [host] = self("host.get_all")
        names = ("an SR", "", "mem", "user")
        return str(self("SR.create", host, {"device": "/dev/any"}, 0, *names, False, {}))

    def vdi(self, sr: str, size: int) -> str:
        """A VDI of so many bytes."""
        flags = {"type": "user", "sharable": False, "read_only": False}
        return str(
            self("VDI.create", {"SR": sr, "virtual_size": size, "other_config": {}, **flags})
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs for the time of the block."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("a process without its pipes")
        url = process.stdout.readline().strip()
        with closing(Server(process, url, time.perf_counter() - began)) as running:
            yield running
        process.stdin.close()


def _start() -> Iterator[Number]:
    seconds = []
    for _ in range(3):
        with server() as running:
            seconds.append(running.start_seconds)
    yield Number("server start, Python's own included", statistics.median(seconds), 1.0, "s")


def _records() -> Iterator[Number]:
    with server() as running:
        sr = running.sr()
        vdis = [running.vdi(sr, 512) for _ in range(_VDIS)]
        body, cpu = running.body("VDI.get_all_records"), running.cpu_seconds()
        taken = statistics.median(running.seconds(body) for _ in range(_ROUNDS)) * 1000
        worked = (running.cpu_seconds() - cpu) / _ROUNDS * 1000
        yield Number(f"VDI.get_all_records of {_VDIS:,} VDIs", taken, 100, "ms")
        yield Number("  the server's processor time for it", worked, 100, "ms")
        body = running.body("VDI.get_name_label", vdis[0])
        taken = statistics.median(running.seconds(body) for _ in range(_GETTERS)) * 1000
        yield Number("a getter over HTTP, median", taken, 3, "ms")


def _events() -> Iterator[Number]:
    with server() as running, ExitStack() as stack, selectors.DefaultSelector() as selector:
        [pool] = running("pool.get_all")
        waiters = [stack.enter_context(closing(running.connect())) for _ in range(_WAITERS)]
        taken = []
        for number in range(_ROUNDS):
            token = running("event.from", ["pool"], "", 0.0)["token"]
            for waiter in waiters:
                waiter.request(
                    "POST", "/jsonrpc", running.body("event.from", ["pool"], token, 60.0)
                )
                selector.register(waiter.sock, selectors.EVENT_READ, waiter)
            time.sleep(1)  # until all of them wait
            began = time.perf_counter()
            running("pool.set_name_label", pool, str(number))
            while selector.get_map():
                for key, _ in selector.select():
                    selector.unregister(key.fileobj)
            taken.append(time.perf_counter() - began)
            for waiter in waiters:
                if not json.loads(waiter.getresponse().read())["result"]["events"]:
                    raise RuntimeError("a waiter was told of nothing")
        reached = statistics.median(taken) * 1000
        yield Number(f"one change reaches {_WAITERS} waiters", reached, 200, "ms")


def _export() -> Iterator[Number]:
    with server() as running:
        vdi = running.vdi(running.sr(), _GIB)
        query = urlencode({"session_id": running.session, "vdi": vdi})
        began = time.perf_counter()
        with closing(running.connect()) as connection:
            connection.request("GET", f"/export_raw_vdi?{query}")
            response = connection.getresponse()
            length = sum(len(piece) for piece in iter(lambda: response.read(1 << 20), b""))
        if length != _GIB:
            raise RuntimeError(f"{length} bytes of {_GIB}")
        taken = time.perf_counter() - began
        yield Number(
            "export_raw_vdi of 1 GiB: the server's memory", running.peak_memory() / MB, 100, "MB"
        )
        yield Number(
            "export_raw_vdi of 1 GiB: time, the disk's own aside", taken, float("inf"), "s"
        )


_PARTS: tuple[Callable[[], Iterator[Number]], ...] = (_start, _records, _events, _export)


def bench() -> None:
    """Measure everything and print it."""
    table = Table("number", "measured", "promised", title="Toolstack", title_justify="left")
    for part in _PARTS:
        for number in part():
            style = "green" if number.measured <= number.bound else "bold red"
            promised = f"{number.bound:g} {number.unit}" if number.bound < float("inf") else ""
            table.add_row(number.what, f"[{style}]{number.measured:.2f} {number.unit}[/]", promised)
    Console().print(table)


def main() -> None:
    """The server's process: it says where it listens, and ends with its standard input."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, serve(Path(directory)) as rig:
        print(rig.server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
