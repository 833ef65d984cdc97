"""Data paths that serve one disk after the other: real processes, real files."""

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srs import paths, vhd
from srs.datapath.server import Server
from srs.datapath.store import Export
from srs.errors import TapdiskFailed

SIZE = 4 << 20


@pytest.fixture
def spares(sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that lets processes wait; those that do are ended."""
    monkeypatch.setattr(paths, "SPARE_SERVERS", str(tmp_path / "spare"))
    (tmp_path / "spare").mkdir()
    yield tmp_path / "spare"
    for name in os.listdir(tmp_path / "spare"):
        end(int(name))


def end(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [])
    os.close(process)


def serve(directory: Path, name: str) -> tuple[Server, int]:
    """A server of a fresh disk, and its process."""
    path = directory / f"{name}.vhd"
    vhd.create(path, SIZE)
    server = Server("sr", name)
    server.start(Export(name, str(path), raw=False, writable=True))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.socket_path)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return server, int.from_bytes(credentials[:4], "little")


def wait_for(spares: Path, pid: int) -> None:
    """Until a process waits for the next disk."""
    deadline = time.monotonic() + 30
    while not (spares / str(pid)).exists():
        assert time.monotonic() < deadline
        os.sched_yield()


def open_files(pid: int) -> list[str]:
    """What a process has open below a directory of files."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.endswith(".vhd")]


def test_a_stopped_process_serves_the_next_disk(spares: Path, tmp_path: Path) -> None:
    first, pid = serve(tmp_path, "first")
    first.stop()
    wait_for(spares, pid)
    assert open_files(pid) == []
    second, same = serve(tmp_path, "second")
    assert same == pid
    assert open_files(pid) == [str(tmp_path / "second.vhd")]
    assert not first.is_running()
    second.stop()
    wait_for(spares, pid)


def test_one_that_died_while_it_waited_is_passed_over(spares: Path, tmp_path: Path) -> None:
    first, pid = serve(tmp_path, "first")
    first.stop()
    wait_for(spares, pid)
    end(pid)
    second, other = serve(tmp_path, "second")
    assert other != pid
    assert os.listdir(spares) == []
    second.stop()
    wait_for(spares, other)


def test_a_start_that_fails_keeps_nothing_open(sockets: Path, spares: Path, tmp_path: Path) -> None:
    first, pid = serve(tmp_path, "first")
    first.stop()
    wait_for(spares, pid)
    # In the way of the control socket: the image is open already when that is found out.
    (sockets / "ctl" / "sr" / "second").mkdir()
    with pytest.raises(TapdiskFailed):
        serve(tmp_path, "second")
    wait_for(spares, pid)
    assert open_files(pid) == []


def test_without_the_directory_every_process_ends(spares: Path, tmp_path: Path) -> None:
    spares.rmdir()
    server, pid = serve(tmp_path, "only")
    process = os.pidfd_open(pid)
    server.stop()
    assert select.select([process], [], [], 30)[0]
    os.close(process)
    spares.mkdir()
