"""Who gets a disk that several want at the same moment: never two, if one of them writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.backend import DeviceBusy
from xapi.testing import Fault, MemoryHost, Rig, failure, serve

NULL = "OpaqueRef:NULL"
BUSY = "OTHER_OPERATION_IN_PROGRESS"
HALTING = ("clean_shutdown", "hard_shutdown", "clean_reboot", "hard_reboot", "power_state_reset")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Nobody waits for others here: who would have to is refused."""
    with serve(tmp_path, patience=0.05) as rig:
        yield rig


@contextmanager
def held(rig: Rig, command: str, call: Callable[[Any], object]) -> Iterator[list[list[str]]]:
    """A call that is held inside the driver for the time of the block; then how it failed."""
    gate = rig.host.gates[command] = threading.Event()
    rig.host.reached.clear()
    api, failures = rig.login(), list[list[str]]()

    def run() -> None:
        try:
            call(api)
        except XenAPI.Failure as error:
            failures.append(error.details)

    thread = threading.Thread(target=run)
    thread.start()
    assert rig.host.reached.wait(10)
    try:
        yield failures
    finally:
        gate.set()
        thread.join(10)


def running(rig: Rig, *vdis: str) -> str:
    vm = rig.vm(*vdis)
    rig.api.VM.set_suspend_SR(vm, rig.sr())
    rig.api.VM.start(vm, False, False)
    return vm


def test_two_starts_at_the_same_moment(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    one, two = rig.vm(disk), rig.vm(disk)
    [first] = rig.api.VM.get_VBDs(one)
    with held(rig, "vdi_attach", lambda api: api.VM.start(one, False, False)):
        assert failure(rig.api.VM.start, two, False, False)[:4] == [BUSY, "VBD", first, "attach"]
    assert failure(rig.api.VM.start, two, False, False) == ["VDI_IN_USE", disk, "attach"]


def test_two_readers_at_the_same_moment(rig: Rig) -> None:
    disk, own = rig.vdi(rig.sr()), rig.vdi(rig.sr())
    rig.api.VDI.set_on_boot(own, "reset")
    one, two = rig.vm(own), rig.vm()
    for vm in (one, two):
        rig.vbd(disk, "RO", VM=vm)
    with held(rig, "vdi_epoch_begin", lambda api: api.VM.start(one, False, False)) as failures:
        rig.api.VM.start(two, False, False)
    assert failures == []


def test_a_plug_beside_a_start(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    vm, other = rig.vm(disk), running(rig)
    added = rig.vbd(disk, "RO", VM=other)
    with held(rig, "vdi_attach", lambda api: api.VM.start(vm, False, False)):
        assert failure(rig.api.VBD.plug, added)[0] == BUSY
    rig.api.VM.hard_shutdown(vm)
    with held(rig, "vdi_attach", lambda api: api.VBD.plug(added)):
        assert failure(rig.api.VM.start, vm, False, False)[:4] == [BUSY, "VBD", added, "plug"]


def test_a_writer_beside_a_copy(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    vm = rig.vm(disk)
    with held(rig, "vdi_create", lambda api: api.VDI.copy(disk)):
        assert failure(rig.api.VM.start, vm, False, False) == ["VDI_IN_USE", disk, "attach"]


@pytest.mark.parametrize("way", ["resume", "checkpoint", "clean_reboot", "hard_reboot"])
def test_a_disk_that_another_vm_has_stays_with_it(rig: Rig, way: str) -> None:
    """One that was added to a running VM, but could not be plugged in."""
    shared = rig.vdi(rig.sr())
    vm = running(rig, rig.vdi(rig.sr()))
    running(rig, shared)
    added = rig.vbd(shared, VM=vm)
    if way == "resume":
        rig.api.VM.suspend(vm)
        rig.api.VM.resume(vm, False, False)
    elif way == "checkpoint":
        rig.api.VM.checkpoint(vm, "check")
    else:
        # It could not boot with what it has: it is not halted for that.
        assert failure(getattr(rig.api.VM, way), vm) == ["VDI_IN_USE", shared, "attach"]
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert not rig.api.VBD.get_currently_attached(added)
    assert len(rig.host.devices) == 2


def test_a_suspended_vm_that_claims_a_disk_in_use(rig: Rig) -> None:
    shared = rig.vdi(rig.sr())
    vm = running(rig)
    rig.api.VM.suspend(vm)
    running(rig, shared)
    rig.vbd(shared, VM=vm, currently_attached=True, device="xvda")
    assert failure(rig.api.VM.resume, vm, False, False) == ["VDI_IN_USE", shared, "attach"]
    assert rig.api.VM.get_power_state(vm) == "Suspended"


@pytest.mark.parametrize("way", ["clean_reboot", "hard_reboot"])
def test_nobody_takes_the_disk_of_a_vm_that_reboots(rig: Rig, way: str) -> None:
    disk = rig.vdi(rig.sr())
    vm, other = running(rig, disk), rig.vm(disk)
    with held(rig, "vdi_attach", lambda api: getattr(api.VM, way)(vm)) as failures:
        assert failure(rig.api.VM.start, other, False, False)[0] == BUSY
    assert failures == []
    assert rig.api.VM.get_power_state(vm) == "Running"


def test_a_vbd_that_is_made_while_its_vm_starts(rig: Rig) -> None:
    shared, own = rig.vdi(rig.sr()), rig.vdi(rig.sr())
    rig.api.VDI.set_on_boot(own, "reset")
    running(rig, shared)
    vm = rig.vm(own)
    with held(rig, "vdi_epoch_begin", lambda api: api.VM.start(vm, False, False)):
        added = rig.vbd(shared, VM=vm)
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert not rig.api.VBD.get_currently_attached(added)


@pytest.mark.parametrize("operation", [*HALTING, "suspend", "checkpoint", "revert"])
def test_what_closes_a_vms_disks_waits_for_a_plug(rig: Rig, operation: str) -> None:
    vm = running(rig, rig.vdi(rig.sr()))
    ref = rig.api.VM.snapshot(vm, "snap") if operation == "revert" else vm
    params = ("check",) if operation == "checkpoint" else ()
    added = rig.vbd(rig.vdi(rig.sr()), VM=vm)
    with held(rig, "vdi_attach", lambda api: api.VBD.plug(added)) as failures:
        details = failure(getattr(rig.api.VM, operation), ref, *params)
        assert details[:4] == [BUSY, "VBD", added, "plug"]
        assert operation not in rig.api.VM.get_allowed_operations(vm)
    assert failures == []
    getattr(rig.api.VM, operation)(ref, *params)
    devices = {"Halted": 0, "Suspended": 0, "Running": 2}
    assert len(rig.host.devices) == devices[rig.api.VM.get_power_state(vm)]


def test_nothing_is_put_in_or_taken_out_while_a_vm_starts(rig: Rig) -> None:
    iso, disk = rig.vdi(rig.sr()), rig.vdi(rig.sr())
    vm = rig.vm(disk)
    empty = rig.vbd(NULL, "RO", VM=vm, type="CD", empty=True)
    full = rig.vbd(iso, "RO", VM=vm, type="CD")
    with held(rig, "vdi_attach", lambda api: api.VM.start(vm, False, False)) as failures:
        assert failure(rig.api.VBD.insert, empty, iso)[0] == BUSY
        assert failure(rig.api.VBD.eject, full)[0] == BUSY
        assert failure(rig.api.VBD.destroy, empty)[0] == BUSY
    assert failures == []
    assert len(rig.host.devices) == 2


def test_nothing_is_unplugged_while_a_vm_falls_asleep(rig: Rig) -> None:
    vm = running(rig, rig.vdi(rig.sr()), rig.vdi(rig.sr()))
    disk = rig.api.VM.get_VBDs(vm)[1]
    with held(rig, "vdi_deactivate", lambda api: api.VM.suspend(vm)) as failures:
        assert failure(rig.api.VBD.unplug, disk)[:4] == [BUSY, "VM", vm, "suspend"]
    assert failures == []
    assert rig.host.devices == {}


def test_a_vbd_that_vanishes_while_it_is_plugged_in(rig: Rig) -> None:
    vm, disk = running(rig), rig.vdi(rig.sr())
    added = rig.vbd(disk, VM=vm)
    with held(rig, "vdi_attach", lambda api: api.VBD.plug(added)) as failures:
        rig.server.xapi.db.destroy("VBD", added)
    assert failures == [["HANDLE_INVALID", "VBD", added]]
    assert rig.host.devices == {}
    rig.api.VDI.destroy(disk)


# -- copies into a disk that there is


def test_a_copy_into_a_disk_in_use(rig: Rig) -> None:
    sr = rig.sr()
    source, disk = rig.vdi(sr, b"other"), rig.vdi(sr, b"mine.")
    running(rig, disk)
    assert failure(rig.api.VDI.copy, source, NULL, NULL, disk) == ["VDI_IN_USE", disk, "copy"]
    assert rig.read(disk) == b"mine."


def test_a_copy_into_a_disk_with_something_else_going_on(rig: Rig) -> None:
    sr = rig.sr()
    source, disk = rig.vdi(sr, b"other"), rig.vdi(sr, b"mine.")
    snapshot = rig.api.VDI.snapshot(disk)
    with held(rig, "vdi_revert", lambda api: api.VDI.revert(snapshot)):
        details = failure(rig.api.VDI.copy, source, NULL, NULL, disk)
        assert details[:4] == [BUSY, "VDI", disk, "revert_from"]
    with held(rig, "vdi_create", lambda api: api.VDI.copy(disk)):
        details = failure(rig.api.VDI.copy, source, NULL, NULL, disk)
        assert details[:4] == [BUSY, "VDI", disk, "copy"]
    assert rig.read(disk) == b"mine."


def test_nobody_touches_a_disk_that_is_copied_into(rig: Rig) -> None:
    sr = rig.sr()
    source, disk = rig.vdi(sr, b"other"), rig.vdi(sr, b"mine.")
    vm = rig.vm(disk)
    with held(rig, "vdi_attach", lambda api: api.VDI.copy(source, NULL, NULL, disk)) as failures:
        for call in (rig.api.VDI.clone, rig.api.VDI.snapshot, rig.api.VDI.destroy):
            assert failure(call, disk)[0] in (BUSY, "VDI_IN_USE")
        details = failure(rig.api.VM.start, vm, False, False)
        assert details[:4] == [BUSY, "VDI", disk, "blocked"]
    assert failures == []
    assert rig.read(disk) == b"other"
    rig.api.VM.start(vm, False, False)


# -- SRs that leave


@pytest.mark.parametrize("way", ["start", "resume", "checkpoint"])
def test_an_sr_stays_while_a_vm_opens_its_disks(rig: Rig, way: str) -> None:
    disk = rig.vdi(rig.sr())
    vm = running(rig, disk)
    {"start": rig.api.VM.hard_shutdown, "resume": rig.api.VM.suspend}.get(way, str)(vm)
    params = ("check",) if way == "checkpoint" else (False, False)
    [pbd] = rig.api.SR.get_PBDs(rig.api.VDI.get_SR(disk))
    with held(rig, "vdi_attach", lambda api: getattr(api.VM, way)(vm, *params)) as failures:
        assert failure(rig.api.PBD.unplug, pbd) == ["VDI_IN_USE", disk]
    assert failures == []
    assert rig.api.VM.get_power_state(vm) == "Running"


def test_an_sr_stays_while_it_is_copied_from(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    [pbd] = rig.api.SR.get_PBDs(rig.api.VDI.get_SR(disk))
    with held(rig, "vdi_attach", lambda api: api.VDI.checksum(disk)) as failures:
        assert failure(rig.api.PBD.unplug, pbd) == ["VDI_IN_USE", disk]
    assert failures == []


def test_nothing_is_opened_on_an_sr_that_leaves(rig: Rig) -> None:
    sr = rig.sr()
    vm, added = rig.vm(rig.vdi(sr)), rig.vbd(rig.vdi(sr), VM=running(rig))
    [pbd] = rig.api.SR.get_PBDs(sr)
    with held(rig, "sr_detach", lambda api: api.PBD.unplug(pbd)) as failures:
        assert failure(rig.api.VM.start, vm, False, False)[:4] == [BUSY, "SR", sr, "unplug"]
        assert failure(rig.api.VBD.plug, added)[:4] == [BUSY, "SR", sr, "unplug"]
    assert failures == []
    assert failure(rig.api.VM.start, vm, False, False) == ["SR_HAS_NO_PBDS", sr]


# -- disks that cannot be closed


def disks_open(rig: Rig, vm: str) -> list[bool]:
    """Of each VBD: whether the toolstack says that it is open and the host has its device."""
    vbds = map(rig.api.VBD.get_record, rig.api.VM.get_VBDs(vm))
    return [
        vbd["currently_attached"] and vbd["runtime_properties"].get("device") in rig.host.devices
        for vbd in vbds
    ]


BY_FORCE = ("hard_shutdown", "hard_reboot", "power_state_reset", "revert")
#: What may fail while a VM lets its disks go. By force a driver gets a second chance.
CLOSINGS = [
    (operation, command)
    for operation in (*HALTING, "suspend", "checkpoint", "revert")
    for command in ("unplug", "vdi_deactivate", "vdi_detach")
    if (operation in BY_FORCE, command) != (True, "vdi_deactivate")
]


@pytest.mark.parametrize(("operation", "command"), CLOSINGS)
@pytest.mark.parametrize("succeed", [0, 1])
def test_a_vm_that_cannot_close_a_disk_keeps_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, operation: str, command: str, succeed: int
) -> None:
    """The last disk or the first one; the host fails, or the driver when the device is gone."""
    vm = running(rig, rig.vdi(rig.sr(), b"first"), rig.vdi(rig.sr(), b"later"))
    ref = rig.api.VM.snapshot(vm, "snap") if operation == "revert" else vm
    params = ("check",) if operation == "checkpoint" else ()
    if command == "unplug":
        real, busy = type(rig.host).unplug, f"/dev/mem{succeed}"

        def unplug(host: MemoryHost, device: str, *, force: bool = False) -> None:
            if device == busy:
                raise DeviceBusy(f"{device} is open")
            real(host, device, force=force)

        monkeypatch.setattr(type(rig.host), "unplug", unplug)
    else:
        rig.host.faults[command] = Fault(46, "not now")
        rig.host.once_after[command] = succeed
    code = "DEVICE_DETACH_REJECTED" if command == "unplug" else "SR_BACKEND_FAILURE_46"
    assert failure(getattr(rig.api.VM, operation), ref, *params)[0] == code
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert disks_open(rig, vm) == [True, True]
    monkeypatch.undo()
    rig.host.faults.clear()
    rig.api.VM.hard_shutdown(vm)
    assert rig.host.devices == {}
    assert not any(disk.attached for disks in rig.host.srs.values() for disk in disks.values())


FORCED = ("VBD.unplug_force", *(f"VM.{operation}" for operation in BY_FORCE))


@pytest.mark.parametrize("operation", FORCED)
def test_a_disk_that_cannot_be_written_any_more_is_let_go_by_force(
    rig: Rig, operation: str
) -> None:
    """Who does not insist is told, and keeps it."""
    disk = rig.vdi(rig.sr())
    vm = running(rig, disk)
    [vbd] = rig.api.VDI.get_VBDs(disk)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.host.faults["flush"] = Fault(5, "data could not be written")
    rejected = ["DEVICE_DETACH_REJECTED", "VBD", vbd, "data could not be written"]
    assert failure(rig.api.VBD.unplug, vbd) == rejected
    assert failure(rig.api.VM.clean_shutdown, vm) == rejected
    assert disks_open(rig, vm) == [True]
    force(rig, operation, vbd, vm, snapshot)


def force(rig: Rig, operation: str, vbd: str, vm: str, snapshot: str) -> None:
    """Carry out one of FORCED, which must let the VM's only disk go."""
    kind, _, method = operation.partition(".")
    subject = vbd if kind == "VBD" else snapshot if method == "revert" else vm
    getattr(getattr(rig.api, kind), method)(subject)
    rebooted = method == "hard_reboot"
    assert disks_open(rig, vm) == [rebooted]
    disk = rig.host.disk(rig.api.VDI.get_uuid(rig.api.VBD.get_VDI(vbd)))
    assert len(rig.host.devices) == len(disk.active)


@pytest.mark.parametrize("operation", FORCED)
def test_what_a_driver_could_not_write_is_given_up_by_force(rig: Rig, operation: str) -> None:
    """It says so once, having closed what it could."""
    vm = running(rig, rig.vdi(rig.sr()))
    [vbd] = rig.api.VM.get_VBDs(vm)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.host.faults["vdi_deactivate"] = Fault(453, "lost")
    rig.host.once_after["vdi_deactivate"] = 0
    force(rig, operation, vbd, vm, snapshot)


def test_a_copy_that_cannot_be_written_leaves_nothing_in_use(rig: Rig) -> None:
    """It fails, for what it wrote may not be there."""
    sr = rig.sr()
    disk = rig.vdi(sr, b"content")
    rig.host.faults["flush"] = Fault(5, "data could not be written")
    assert failure(rig.api.VDI.copy, disk, sr)[0] == "DEVICE_DETACH_REJECTED"
    assert rig.host.devices == {}
    assert rig.api.VBD.get_all() == []
    rig.api.VDI.destroy(disk)
