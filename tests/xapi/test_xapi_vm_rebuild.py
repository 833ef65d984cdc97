"""VM.revert of a VM that was destroyed: crashes, failures and two at a time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.server import XapiServer
from xapi.testing import CAPABILITIES, Fault, MemoryHost, Rig, serve

KINDS = {"vdi_revert": "mem", "vdi_clone": "old"}


def lost(rig: Rig, kind: str = "mem") -> tuple[str, list[str]]:
    """The uuid of a destroyed VM, and its two snapshots."""
    vm = rig.vm(rig.vdi(rig.sr(kind), b"old"))
    uuid = str(rig.api.VM.get_uuid(vm))
    snapshots = [rig.api.VM.snapshot(vm, f"snap {n}") for n in range(2)]
    rig.api.VM.destroy(vm)
    return uuid, snapshots


@contextmanager
def on_file(directory: Path) -> Iterator[Rig]:
    """A server whose state is in the directory."""
    host = MemoryHost({"mem": (*CAPABILITIES, "VDI_REVERT"), "old": CAPABILITIES}, directory / "s")
    server = XapiServer(host, unix_socket=host.socket, state=directory / "state")
    server.start()
    rig = Rig(server, host, None, None)
    try:
        rig.api = rig.login()
        yield rig
    finally:
        rig.close()
        server.stop()


@pytest.mark.parametrize("step", KINDS)
def test_a_crash_leaves_no_half_of_a_vm(tmp_path: Path, step: str) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with on_file(tmp_path) as rig, ThreadPoolExecutor() as pool:
        uuid, snapshots = lost(rig, KINDS[step])
        before = rig.api.VM.get_all()
        rig.host.gates[step] = gate = threading.Event()
        reverting = pool.submit(rig.login().VM.revert, snapshots[0])
        try:
            assert rig.host.reached.wait(10)
            with rig.server.xapi.db.lock:
                for file in tmp_path.glob("state*"):
                    shutil.copy(file, crashed)
        finally:
            gate.set()
        assert reverting.result(10) == ""
        device = rig.host
    with on_file(crashed) as rig:
        rig.host.srs, rig.host.numbers = device.srs, device.numbers
        assert rig.api.VM.get_all() == before
        for pbd in rig.api.PBD.get_all():
            rig.api.PBD.plug(pbd)
        for snapshot in reversed(snapshots):
            rig.api.VM.revert(snapshot)
        vm = rig.api.VM.get_by_uuid(uuid)
        assert set(rig.api.VM.get_snapshots(vm)) == set(snapshots)
        assert [rig.read(disk, 3) for disk in rig.disks(vm).values()] == [b"old"]


@pytest.mark.parametrize("step", KINDS)
def test_nobody_sees_a_vm_before_it_has_its_disks(rig: Rig, step: str) -> None:
    uuid, snapshots = lost(rig, KINDS[step])
    before = rig.api.VM.get_all()
    rig.host.gates[step] = gate = threading.Event()
    with ThreadPoolExecutor() as pool:
        reverting = pool.submit(rig.login().VM.revert, snapshots[0])
        try:
            assert rig.host.reached.wait(10)
            assert rig.api.VM.get_all() == before
        finally:
            gate.set()
        assert reverting.result(10) == ""
    assert len(rig.disks(rig.api.VM.get_by_uuid(uuid))) == 1


@pytest.mark.parametrize("step", KINDS)
def test_two_snapshots_bring_one_vm_back(rig: Rig, step: str) -> None:
    """The second waits, then it finds the VM that the first one has made."""
    uuid, snapshots = lost(rig, KINDS[step])
    rig.host.gates[step] = gate = threading.Event()
    waiting = threading.Event()
    changed = rig.server.xapi.db.changed
    wait = changed.wait

    def seen(timeout: float | None = None) -> bool:
        waiting.set()
        return wait(timeout)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(rig.login().VM.revert, snapshots[0])
        try:
            assert rig.host.reached.wait(10)
            changed.wait = seen  # type: ignore[method-assign]
            second = pool.submit(rig.login().VM.revert, snapshots[1])
            assert waiting.wait(10)
        finally:
            gate.set()
        assert [first.result(10), second.result(10)] == ["", ""]
    vm = rig.api.VM.get_by_uuid(uuid)
    assert set(rig.api.VM.get_snapshots(vm)) == set(snapshots)
    assert rig.api.VM.get_parent(vm) == snapshots[1]


def test_a_second_revert_does_not_wait_for_ever(tmp_path: Path) -> None:
    with serve(tmp_path, patience=0.05) as rig, ThreadPoolExecutor() as pool:
        _, snapshots = lost(rig)
        rig.host.gates["vdi_revert"] = gate = threading.Event()
        first = pool.submit(rig.login().VM.revert, snapshots[0])
        try:
            assert rig.host.reached.wait(10)
            [task] = rig.api.VM.get_current_operations(snapshots[0])
            with pytest.raises(XenAPI.Failure) as error:
                rig.api.VM.revert(snapshots[1])
        finally:
            gate.set()
        expected: list[Any] = ["OTHER_OPERATION_IN_PROGRESS", "VM", snapshots[0], "revert", task]
        assert error.value.details == expected
        assert first.result(10) == ""


def test_a_failure_leaves_no_vm(rig: Rig) -> None:
    _, snapshots = lost(rig)
    before = rig.api.VM.get_all()
    rig.host.faults["vdi_revert"] = Fault(46, "no")
    with pytest.raises(XenAPI.Failure) as error:
        rig.api.VM.revert(snapshots[0])
    assert error.value.details[0] == "VM_REVERT_FAILED"
    assert rig.api.VM.get_all() == before
