"""`testbed` as people use it: real processes, real kernels, and nothing left of them."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path: sockets have no room for pytest's. Nothing of the testbed's may remain."""
    with tempfile.TemporaryDirectory(prefix="tb") as directory:
        path = Path(directory)
        yield path
        wait_for_guards(path)


def wait_for_guards(path: Path) -> None:
    """Processes that name the path are guards, which end when everything else has."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            guard = os.pidfd_open(int(process.name))
        except ProcessLookupError:
            continue
        with open(guard), suppress(OSError):
            if str(path).encode() in (process / "cmdline").read_bytes():
                assert select.select([guard], [], [], 10)[0], f"{process.name} goes on"


def argv_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testbed", *arguments]


def environment(base: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "SR_TESTBED_STATE": str(base / "s"), **more}


class Up:
    """A `testbed up` that serves; `said` is what it printed before."""

    def __init__(self, base: Path, *arguments: str) -> None:
        self._base = base
        self.process = subprocess.Popen(
            argv_of("up", *arguments),
            env=environment(base),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self.said = ""
        for line in self._output():
            self.said += line
            if line == "Ctrl-C ends it\n":
                return
        raise AssertionError(f"testbed up ended with {self.process.wait()}: {self.said}")

    def _output(self) -> Iterator[str]:
        # Not `yield from`: what it yields from would be closed along with the generator.
        if self.process.stdout is not None:
            for line in self.process.stdout:  # noqa: UP028
                yield line

    @property
    def settings(self) -> str:
        """XE_EXTRA_ARGS, as it says itself."""
        found = re.search(r"^export XE_EXTRA_ARGS=(\S+)$", self.said, re.MULTILINE)
        assert found
        return found[1]

    def xe(self, *arguments: str) -> str:
        """What `testbed xe` prints."""
        done = subprocess.run(
            argv_of("xe", *arguments),
            env=environment(self._base, XE_EXTRA_ARGS=self.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removesuffix("\n")

    def dom0(self, command: str) -> str:
        """What a command prints inside."""
        host = self.xe("host-list", "--minimal")
        where = (f"host-uuid={host}", "plugin=testbed", "fn=run")
        return self.xe("host-call-plugin", *where, f"args:command={command}")

    def end(self, number: int) -> int:
        """Send a signal; returns the exit status."""
        os.killpg(self.process.pid, number)
        for line in self._output():
            self.said += line
        return self.process.wait(60)


@contextmanager
def up(base: Path, *arguments: str) -> Iterator[Up]:
    running = Up(base, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)
        if running.process.stdout is not None:
            running.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up(base: Path, number: signal.Signals) -> None:
    with up(base, "--sr", "file") as host:
        sr = host.xe("sr-list", "--minimal")
        assert f"SR {sr} (file)\n" in host.said
        assert "up" not in os.listdir(base)
        assert host.dom0("ls /mnt/disks/*").splitlines()[0] == "lost+found"
        assert host.end(number) == 0
    assert "Traceback" not in host.said
    assert os.listdir(base) == []


def test_gc(base: Path) -> None:
    """By the port of a host that runs, by its directory, and by the directory alone."""
    state = str(base / "mine")
    with up(base, "--sr", "ext", "--state", state) as host:
        sr = host.xe("sr-list", "--minimal")
        vdi = host.xe("vdi-create", f"sr-uuid={sr}", "name-label=data", "virtual-size=16MiB")
        write(host, vdi, "first")
        host.xe("vdi-destroy", f"uuid={host.xe('vdi-snapshot', f'uuid={vdi}')}")
        port = host.settings.partition("port=")[2].partition(",")[0]
        # The host's own collector may have been first.
        assert re.fullmatch(
            rf"SR {sr}: 0 removed, 0 coalesced, [01] leaf-coalesced\n", gc(base, "--port", port)
        )
        assert host.xe("vdi-list", "--minimal") == vdi
        assert gc(base, "--state", state, sr) == f"SR {sr}: {NOTHING}\n"
        assert read(host, vdi) == "first"
        assert host.end(signal.SIGTERM) == 0
    assert gc(base, "--state", state) == f"SR {sr}: {NOTHING}\n"
    assert refused("gc", "--port", "1").startswith("testbed: no host answers on port 1:")


NOTHING = "0 removed, 0 coalesced, 0 leaf-coalesced"


def gc(base: Path, *arguments: str) -> str:
    """What `testbed gc` prints."""
    done = subprocess.run(
        argv_of("gc", *arguments),
        env=environment(base),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_up_of_a_pool(base: Path) -> None:
    with up(base, "--pool", "2", "--sr", "nfs") as pool:
        hosts = pool.xe("host-list", "--minimal").split(",")
        pbds = "pbd-list", "currently-attached=true", "params=host-uuid", "--minimal"
        assert pool.xe(*pbds).split(",") == hosts
        assert len(hosts) == 2
        assert pool.end(signal.SIGTERM) == 0
    assert os.listdir(base) == []


def test_up_with_a_state_directory_goes_on_where_it_ended(base: Path) -> None:
    """Also after a kill, which gives it no time to put anything away."""
    options = ("--sr", "file", "--sr", "lvhd", "--state", str(base / "mine"))
    with up(base, *options) as host:
        assert len(re.findall(rf"^SR {UUID} \((?:file|lvhd)\)$", host.said, re.MULTILINE)) == 2
        srs = host.xe("sr-list")
        lvhd = host.xe("sr-list", "type=lvhd", "--minimal")
        vdi = host.xe("vdi-create", f"sr-uuid={lvhd}", "name-label=data", "virtual-size=16MiB")
        write(host, vdi, "first")
        snapshot = host.xe("vdi-snapshot", f"uuid={vdi}")
        write(host, vdi, "other")
        assert host.end(signal.SIGTERM) == 0
    with up(base, *options) as host:
        assert host.xe("sr-list") == srs
        assert read(host, vdi) == "other"
        assert host.end(signal.SIGKILL) == -signal.SIGKILL
    with up(base, *options) as host:
        assert host.xe("sr-list") == srs
        assert host.xe("vdi-revert", f"uuid={snapshot}") == vdi
        assert read(host, vdi) == "first"
        assert "could not be plugged" not in host.said
        assert refused("up", *options) == (
            f"testbed: another host uses {base / 'mine'}\nhint: end it first\n"
        )
        assert host.end(signal.SIGINT) == 0
    assert sorted(os.listdir(base)) == ["mine"]
    assert sorted(os.listdir(base / "mine")) == ["disk0", "disk1", "host.json", "in-use", "xapi.db"]


def write(host: Up, vdi: str, text: str) -> None:
    with plugged(host, vdi) as device:
        host.dom0(f"printf {text} | dd of={device} bs=4096 conv=sync,fsync")


def read(host: Up, vdi: str) -> str:
    with plugged(host, vdi) as device:
        return host.dom0(f"head -c 5 {device}")


@contextmanager
def plugged(host: Up, vdi: str) -> Iterator[str]:
    dom0 = host.xe("vm-list", "is-control-domain=true", "--minimal")
    vbd = host.xe("vbd-create", f"vm-uuid={dom0}", f"vdi-uuid={vdi}", "device=autodetect")
    host.xe("vbd-plug", f"uuid={vbd}")
    yield f"/dev/{host.xe('vbd-param-get', f'uuid={vbd}', 'param-name=device')}"
    host.xe("vbd-unplug", f"uuid={vbd}")
    host.xe("vbd-destroy", f"uuid={vbd}")


def refused(*arguments: str) -> str:
    """What a command says that could not run."""
    done = subprocess.run(argv_of(*arguments), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_a_state_directory_that_cannot_be_used(base: Path) -> None:
    assert "do not last" in refused("up", "--pool", "2", "--state", str(base / "mine"))
    assert "without blanks" in refused("up", "--state", str(base / "my host"))
    (base / "file").touch()
    assert "cannot keep a host" in refused("up", "--state", str(base / "file"))
    (base / "old").mkdir()
    (base / "old" / "host.json").write_text("[]")
    assert "no host's inventory" in refused("up", "--state", str(base / "old"))
    (base / "old" / "host.json").write_text('{"disks": [["disk0", 4096, ""]], "mounts": {}}')
    assert "is missing" in refused("up", "--state", str(base / "old"))
    (base / "old" / "host.json").unlink()
    (base / "old" / "xapi.db").write_text("no database " * 100)
    assert "xapi.db" in refused("up", "--state", str(base / "old"))


def test_a_port_that_is_taken(base: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"testbed: xapi cannot listen on port {port}" in refused("up", "--port", port)
    wait_for_guards(base)


def test_shell_runs_a_program(base: Path) -> None:
    done = subprocess.run(
        argv_of("shell", "--sr", "ext", "ls", "/run/sr-mount"),
        env=environment(base),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == f"SR {second} (ext)"
    assert os.listdir(base) == []


def test_shell_on_a_terminal(base: Path) -> None:
    near, far = pty.openpty()
    process = subprocess.Popen(
        argv_of("shell"),
        env=environment(base),
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    # The shell has a terminal if it prompts; the answer is not what was typed.
    said = until(near, b"# ")
    os.write(near, b"echo $((6 * 7)) on $(uname -n)\r")
    said += until(near, b"42 on host")
    os.write(near, b"exit\r")
    assert process.wait(60) == 0
    os.close(near)
    assert b"Traceback" not in said
    assert os.listdir(base) == []


def until(fd: int, text: bytes) -> bytes:
    """What comes from a terminal, up to a text that is waited for."""
    said = b""
    while text not in said:
        assert select.select([fd], [], [], 60)[0], said
        said += os.read(fd, 4096)
    return said


_SCENARIOS = """
def test_good(vdi):
    assert vdi.uuid

def test_bad(vdi):
    assert vdi.uuid == "another one"
"""


def test_run_keeps_disks_and_writes_junit(base: Path) -> None:
    (base / "test_own.py").write_text(_SCENARIOS)
    options = ("--sr", "file", "--keep", "--junit", str(base / "out.xml"), "-n", "1")
    done = subprocess.run(
        argv_of("run", *options, str(base / "test_own.py")),
        env=environment(base),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 failed" in done.stdout
    kept = re.search(rf"{base}/s/host-\S+", done.stdout)
    assert kept
    assert {"console.log", "disk0"} <= set(os.listdir(kept[0]))
    suite = ElementTree.parse(base / "out.xml").find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == ["test_good[file]", "test_bad[file]"]
