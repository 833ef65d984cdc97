"""However a guest ends: a clear error at once, and nothing is left of it."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import state
from testbed.errors import KernelDied
from testbed.kernel.uml import UmlKernel
from testbed.state import memory_base, sweep

Boot = Callable[[], UmlKernel]

_BOOTS_AND_WAITS = """
import pathlib, sys, threading
import testbed.state
testbed.state._MEMORY = pathlib.Path(sys.argv[1])
from testbed.kernel.uml import UmlKernel
from testbed.state import StateDirectory, base
state = StateDirectory(base(), "orphan")
kernel = UmlKernel(state, "orphan")
kernel.boot()
print(kernel.pid, state.path, flush=True)
command = input()
threading.Thread(target=kernel.run, args=(["sh", "-c", command],), daemon=True).start()
while "started" not in kernel.console():
    kernel.call("sync")
print("busy", flush=True)
input()
"""


def group(pgid: int) -> list[int]:
    """Processes of a process group that still live."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pgid and fields[0] != "Z":
                found.append(int(entry))
    return found


def parent(process: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(autouse=True)
def alone(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Own directories: other kernels come and go while these tests look for what is left."""
    monkeypatch.setattr(state, "_MEMORY", scratch)
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("SR_TESTBED_STATE", short)
        yield


def killed_under(kernel: UmlKernel, kill: Callable[[], object]) -> KernelDied:
    """The error that a call gets when `kill` strikes under it."""
    caught: list[KernelDied] = []
    kernel.run(["mkfifo", "/run/fifo"])

    def wait_for_nothing() -> None:
        try:
            kernel.run(["cat", "/run/fifo"])
        except KernelDied as error:
            caught.append(error)

    thread = threading.Thread(target=wait_for_nothing)
    thread.start()
    kill()
    thread.join(30)
    assert len(caught) == 1
    return caught[0]


def assert_nothing_is_left(kernel: UmlKernel) -> None:
    pid = kernel.pid
    kernel.power_cut()
    assert group(pid) == []
    assert not kernel.running
    assert not list(memory_base().glob("*"))


def test_power_off(boot: Boot) -> None:
    kernel = boot()
    pid = kernel.pid
    assert group(pid)
    kernel.power_off()
    assert group(pid) == []
    with pytest.raises(KernelDied, match="powered off"):
        kernel.call("sync")
    assert_nothing_is_left(kernel)


def test_panic(boot: Boot) -> None:
    kernel = boot()
    panic = ["sh", "-c", "echo c > /proc/sysrq-trigger"]

    def kill() -> None:
        with pytest.raises(KernelDied):
            kernel.run(panic)

    error = killed_under(kernel, kill)
    assert "it panicked" in str(error)
    assert "sysrq" in error.console
    assert_nothing_is_left(kernel)


def test_killed_from_outside(boot: Boot) -> None:
    """Only the main process, as an out-of-memory killer would: its children must go too."""
    kernel = boot()
    error = killed_under(kernel, lambda: os.kill(kernel.pid, signal.SIGKILL))
    assert "SIGKILL" in str(error)
    assert_nothing_is_left(kernel)


def test_power_cut(boot: Boot) -> None:
    kernel = boot()
    error = killed_under(kernel, kernel.power_cut)
    assert "its power was cut" in str(error)
    assert_nothing_is_left(kernel)


@pytest.mark.parametrize("busy", [False, True])
def test_the_owner_is_killed(busy: bool) -> None:
    """No cleanup code runs, and the guest ends all the same; its files go with the next one."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _BOOTS_AND_WAITS, memory_base().parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid, directory = owner.stdout.readline().split()
    if busy:
        owner.stdin.write("echo started > /dev/kmsg; while :; do :; done\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "busy\n"
    guarding = os.pidfd_open(parent(int(pid)))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    owner.stdin.close()
    assert select.select([guarding], [], [], 10)[0]
    os.close(guarding)
    assert group(int(pid)) == []
    assert Path(directory) in sweep(Path(directory).parent)
    assert not Path(directory).exists()
    assert sweep(memory_base())
    assert not list(memory_base().iterdir())
