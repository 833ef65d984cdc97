"""Talking to a guest: calls, bytes, streams."""

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testbed.errors import GuestFault
from testbed.guest.streams import BACKLOG
from testbed.kernel.uml import UmlKernel

_MANY_KEYS = b"key\n" * (1 << 18)

_CALLS_HOME = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/var/lib/xcp/xapi")
s.sendall(b"question")
s.shutdown(socket.SHUT_WR)
answer = b""
while piece := s.recv(65536):
    answer += piece
print(len(answer), answer[:6].decode())
"""


def test_a_program_inside_is_on_another_kernel(guest: UmlKernel) -> None:
    release = guest.run(["uname", "-r"]).stdout.strip()
    assert release != os.uname().release
    assert guest.run(["hostname"]).stdout.strip() == "shared"


def test_status_and_both_outputs_come_back(guest: UmlKernel) -> None:
    done = guest.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_many_bytes_both_ways(guest: UmlKernel) -> None:
    """More than the ring holds, so it wraps and fills up."""
    data = os.urandom(5 << 20)
    guest.run(["touch", "/run/bytes"])
    guest.call("write", blob=data, path="/run/bytes", spans=[(0, len(data))], sync=True)
    answer = guest.exchange("read", {"path": "/run/bytes", "offset": 0, "length": len(data)})
    assert answer.blob == data
    guest.run(["rm", "/run/bytes"])


def test_calls_run_side_by_side(guest: UmlKernel) -> None:
    """The first call waits for what only the second one brings."""
    guest.run(["mkfifo", "/run/fifo"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(guest.run, ["cat", "/run/fifo"])
        guest.run(["sh", "-c", "echo here > /run/fifo"])
        assert waiting.result(30).stdout == "here\n"
    guest.run(["rm", "/run/fifo"])


def test_a_fault_inside_is_told_with_its_cause(guest: UmlKernel) -> None:
    with pytest.raises(GuestFault, match="FileNotFoundError") as caught:
        guest.call("size", path="/nowhere")
    assert (caught.value.operation, caught.value.errno) == ("size", 2)
    with pytest.raises(GuestFault, match="no operation 'dance'"):
        guest.call("dance")


def test_the_inside_reaches_out_while_a_call_is_running(guest: UmlKernel, tmp_path: Path) -> None:
    """What drivers do: a connection to xapi in the middle of their own call."""
    path = Path(os.path.relpath(tmp_path / "service"))
    answer = b"answer" + os.urandom(300_000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        guest.offer("xapi", path)
        heard = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while piece := connection.recv(65536):
                    heard.append(piece)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        done = guest.run(["/usr/bin/python3", "-I", "-S", "-c", _CALLS_HOME])
        server.join()
    assert (done.stdout, done.stderr) == (f"{len(answer)} answer\n", "")
    assert b"".join(heard) == b"question"


def test_a_terminal_inside(guest: UmlKernel) -> None:
    text, ended = bytearray(), threading.Event()

    def receive(data: bytes) -> None:
        text.extend(data)
        if not data:
            ended.set()

    stream = guest.open_shell(["/bin/sh"], (24, 132), receive)
    guest.channel.send_to_stream(stream, b"stty size; tty\nexit\n")
    assert ended.wait(30)
    assert b"24 132" in text
    assert b"/dev/pts/" in text


def test_a_program_that_does_not_exist(guest: UmlKernel) -> None:
    text, ended = bytearray(), threading.Event()

    def receive(data: bytes) -> None:
        text.extend(data)
        if not data:
            ended.set()

    guest.open_shell(["nosuchprogram"], (24, 80), receive)
    assert ended.wait(30)
    assert text == b"nosuchprogram: No such file or directory\r\n"
    agents = ["agent", "python3.11"]
    running = guest.call("census", roots=[])["processes"]
    assert sum(name in agents for name in running) == 1


def test_a_program_that_reads_no_keys_holds_nobody_up(guest: UmlKernel) -> None:
    """More keys than a terminal holds: calls are answered meanwhile, and no key is lost."""
    text, asleep, ended = bytearray(), threading.Event(), threading.Event()

    def receive(data: bytes) -> None:
        text.extend(data)
        if b"asleep" in text:
            asleep.set()
        if not data:
            ended.set()

    keys = os.urandom(200_000).hex().encode()
    guest.run(["mkfifo", "/run/gate"])
    script = f"stty raw -echo; echo asleep; cat /run/gate; head -c {len(keys)} | sha256sum"
    stream = guest.open_shell(["/bin/sh", "-c", script], (24, 80), receive)
    assert asleep.wait(30)
    guest.channel.send_to_stream(stream, keys)
    guest.call("make_directory", path="/run/still-there", timeout=30)
    guest.run(["sh", "-c", "echo awake > /run/gate"])
    assert ended.wait(30)
    assert hashlib.sha256(keys).hexdigest().encode() in text
    guest.run(["rm", "/run/gate"])


def test_keys_that_nobody_will_ever_read_end_their_terminal(guest: UmlKernel) -> None:
    ended = threading.Event()
    stream = guest.open_shell(
        ["/bin/sh", "-c", "stty raw -echo; echo asleep; exec sleep 1000"],
        (24, 80),
        lambda data: None if data else ended.set(),
    )
    for _ in range(BACKLOG // len(_MANY_KEYS) + 2):
        guest.channel.send_to_stream(stream, _MANY_KEYS)
    assert ended.wait(60)
    assert guest.run(["true"]).returncode == 0
