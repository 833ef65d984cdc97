"""The processes of driver calls: one for each call as long as it runs, and clean for the next."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xmlrpc.client import dumps, loads

import pytest

from testbed.errors import DeviceRefused, GuestFault
from testbed.kernel.guestconfig import ROOT
from testbed.kernel.uml import UmlKernel
from testbed.state import StateDirectory, base

#: Drivers that answer sr_content_type with their process, after having misbehaved.
_ROGUES = """
import os, signal
from srs import registry
from srs.locks import Lock
from srs.sr import SR, DriverInfo

kept = []

def open_file():
    kept.append(open("/run/forgotten", "w"))

def change_directory():
    os.chdir("/run")
    os.umask(0)

def open_many():
    kept.extend(open("/run/forgotten" + "x" * 200 + str(number), "w") for number in range(20))

def take_lock():
    Lock("forgotten", "sr").acquire()

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def meet():
    with open("/run/here", "w") as here:
        here.write(str(os.getpid()))
    with open("/run/go") as go:
        go.read()

def driver(name, misbehave):
    def content_type(self):
        misbehave()
        return str(os.getpid())

    members = {"info": DriverInfo(name, name, name, (), {}), "content_type": content_type}
    registry.register(type(name, (SR,), members))

driver("clean", lambda: None)
driver("file leak", open_file)
driver("lock leak", take_lock)
driver("directory", change_directory)
driver("many files", open_many)
driver("suicide", die)
driver("meeting", meet)
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UmlKernel]:
    variant = tmp_path_factory.mktemp("variants") / "rogues.py"
    variant.write_text(_ROGUES)
    state = StateDirectory(base(), "test")
    kernel = UmlKernel(state, "drivers", [variant])
    try:
        kernel.boot()
        yield kernel
    finally:
        kernel.power_off()
        state.close()


def process_of(guest: UmlKernel, driver: str) -> str:
    """The process that carried out a call of a driver."""
    request = {"sr_uuid": f"sr of {driver}", "device_config": {}, "args": []}
    document = dumps(({"command": "sr_content_type", **request},), "sr_content_type")
    answer = guest.driver_call(driver, document).blob.decode()
    return str(loads(answer)[0][0])


def test_a_clean_call_leaves_its_process_to_the_next_one(guest: UmlKernel) -> None:
    assert process_of(guest, "clean") == process_of(guest, "clean")


@pytest.mark.parametrize(
    ("driver", "leftover"),
    [
        ("file leak", "/run/forgotten"),
        ("lock leak", "/run/lock/sm/forgotten/sr"),
        ("directory", "directory, umask"),
        ("many files", "/run/forgotten"),
    ],
)
def test_a_call_that_leaves_something_behind_is_the_last(
    guest: UmlKernel, driver: str, leftover: str
) -> None:
    spoiled = process_of(guest, driver)
    assert process_of(guest, "clean") != spoiled
    last = guest.run(["dmesg"]).stdout.splitlines()[-1]
    assert f"a driver left behind: {leftover}" in last


def test_a_killed_call_is_a_fault_and_the_next_one_works(guest: UmlKernel) -> None:
    with pytest.raises(GuestFault, match="the driver's process died"):
        process_of(guest, "suicide")
    assert process_of(guest, "clean").isdigit()


def test_calls_at_the_same_time_have_processes_of_their_own(guest: UmlKernel) -> None:
    guest.run(["mkfifo", "/run/here", "/run/go"])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(process_of, guest, "meeting")
        waiting = guest.run(["cat", "/run/here"]).stdout  # ends when the driver has written
        assert process_of(guest, "clean") != waiting
        guest.run(["sh", "-c", "echo > /run/go"])
        assert first.result(60) == waiting


def test_another_tree_of_drivers(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "srs", tree / "srs", ignore=shutil.ignore_patterns("__pycache__"))
    registry = tree / "srs" / "registry.py"
    registry.write_text(registry.read_text() + "\ndef names():\n    return ['of another tree']\n")
    state = StateDirectory(base(), "test")
    kernel = UmlKernel(state, "drivers", tree=tree)
    try:
        kernel.boot()
        assert kernel.driver_call(None, "").value == ["of another tree"]
    finally:
        kernel.power_off()
        state.close()


def test_a_directory_without_drivers(tmp_path: Path) -> None:
    state = StateDirectory(base(), "test")
    kernel = UmlKernel(state, "drivers", tree=tmp_path)
    with pytest.raises(DeviceRefused, match="holds no package `srs`"):
        kernel.boot()
    state.close()
