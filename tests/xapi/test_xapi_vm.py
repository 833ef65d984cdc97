"""VMs from the first to the last: power, disks, snapshots, copies, templates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xapi.testing import CAPABILITIES, UNIMPLEMENTED, Fault, Rig, failure, serve
from xapi.vbd import device_name

NULL = "OpaqueRef:NULL"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    types = {
        "mem": (*CAPABILITIES, "VDI_REVERT"),
        "nosnap": tuple(name for name in CAPABILITIES if name != "VDI_SNAPSHOT"),
    }
    with serve(tmp_path, types, patience=0.05) as rig:
        yield rig


def running(rig: Rig, *vdis: str) -> str:
    vm = rig.vm(*(vdis or [rig.vdi(rig.sr(), b"first")]))
    rig.api.VM.set_suspend_SR(vm, rig.sr())
    rig.api.VM.start(vm, False, False)
    return vm


# -- power


def test_a_running_vm_has_its_disks_open(rig: Rig) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr, b"zero"), rig.vdi(sr, b"one"))
    rig.vbd(NULL, "RO", VM=vm, type="CD", empty=True, userdevice="3")
    rig.api.VM.start(vm, False, False)
    record = rig.api.VM.get_record(vm)
    assert (record["power_state"], record["domid"]) == ("Running", "1")
    assert rig.api.host.get_resident_VMs(record["resident_on"])[-1] == vm
    seen = {}
    for vbd in map(rig.api.VBD.get_record, record["VBDs"]):
        assert vbd["currently_attached"]
        path = vbd["runtime_properties"].get("device")
        seen[vbd["device"]] = path and bytes(rig.host.devices[path].content[:4])
    assert seen == {"xvda": b"zero", "xvdb": b"one\0", "xvdd": None}
    rig.api.VM.clean_reboot(vm)
    rig.api.VM.hard_reboot(vm)
    rig.api.VM.clean_shutdown(vm)
    record = rig.api.VM.get_record(vm)
    assert (record["power_state"], record["resident_on"]) == ("Halted", NULL)
    assert rig.host.devices == {}
    assert not any(map(rig.api.VBD.get_currently_attached, record["VBDs"]))


def test_names_of_devices() -> None:
    names = [device_name(str(number)) for number in (0, 25, 26, 51, 52, 255)]
    assert names == ["xvda", "xvdz", "xvdaa", "xvdaz", "xvdba", "xvdiv"]


def test_start_paused_and_reset(rig: Rig) -> None:
    vm = rig.vm(rig.vdi(rig.sr()))
    [host] = rig.api.host.get_all()
    rig.api.VM.start_on(vm, host, True, False)
    assert rig.api.VM.get_power_state(vm) == "Paused"
    rig.api.VM.unpause(vm)
    rig.api.VM.pause(vm)
    assert rig.api.VM.get_boot_record(vm)["power_state"] == "Paused"
    rig.api.VM.power_state_reset(vm)
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert rig.host.devices == {}


@pytest.mark.parametrize("command", ["vdi_attach", "vdi_activate"])
def test_a_start_that_fails_leaves_nothing_attached(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr), rig.vdi(sr))
    plain, asked = rig.host.sm_call, []

    def sm_call(driver: str, document: str) -> Any:
        if f"<methodName>{command}</methodName>" in document:
            asked.append(document)
            if len(asked) == 2:
                rig.host.faults[command] = Fault(46, "not now")
        return plain(driver, document)

    monkeypatch.setattr(type(rig.host), "sm_call", staticmethod(sm_call))
    assert failure(rig.api.VM.start, vm, False, False)[0] == "SR_BACKEND_FAILURE_46"
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert rig.host.devices == {}
    assert not any(map(rig.api.VBD.get_currently_attached, rig.api.VM.get_VBDs(vm)))
    assert not any(disk.attached for disk in rig.host.srs[rig.api.SR.get_uuid(sr)].values())


def test_a_disk_starts_once(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    running(rig, disk)
    other = rig.vm(disk)
    assert failure(rig.api.VM.start, other, False, False) == ["VDI_IN_USE", disk, "attach"]
    [pbd] = rig.api.SR.get_PBDs(rig.api.VDI.get_SR(disk))
    assert failure(rig.api.PBD.unplug, pbd) == ["VDI_IN_USE", disk]


def test_a_vm_whose_sr_is_not_plugged(rig: Rig) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr))
    [host] = rig.api.host.get_all()
    rig.api.VM.assert_can_boot_here(vm, host)
    assert rig.api.VM.get_possible_hosts(vm) == [host]
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
    assert failure(rig.api.VM.start, vm, False, False) == ["SR_HAS_NO_PBDS", sr]
    assert failure(rig.api.VM.assert_can_boot_here, vm, host) == ["VM_REQUIRES_SR", vm, sr]
    assert rig.api.VM.get_possible_hosts(vm) == []


def test_suspend_and_resume(rig: Rig) -> None:
    vm = running(rig)
    rig.api.VM.suspend(vm)
    image = rig.api.VM.get_suspend_VDI(vm)
    assert rig.api.VDI.get_type(image) == "suspend"
    assert rig.host.devices == {}
    [disk] = rig.disks(vm).values()
    assert failure(rig.api.VDI.destroy, disk) == ["VDI_IN_USE", disk, "destroy"]
    rig.api.VM.resume(vm, True, False)
    assert rig.api.VM.get_power_state(vm) == "Paused"
    assert len(rig.host.devices) == 1
    assert image not in rig.api.VDI.get_all()
    assert rig.api.VM.get_suspend_VDI(vm) == NULL
    rig.api.VM.unpause(vm)
    rig.api.VM.suspend(vm)
    [host] = rig.api.host.get_all()
    rig.api.VM.resume_on(vm, host, False, False)
    rig.api.VM.suspend(vm)
    rig.api.VM.shutdown(vm)
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert rig.api.VDI.get_all() == [disk]


def test_a_suspend_that_fails(rig: Rig) -> None:
    vm = running(rig)
    rig.host.busy = True
    assert failure(rig.api.VM.suspend, vm)[0] == "DEVICE_DETACH_REJECTED"
    rig.host.busy = False
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert len(rig.host.devices) == 1
    assert len(rig.api.VDI.get_all()) == 1


def test_where_the_memory_goes(rig: Rig) -> None:
    vm, pool, host = running(rig), rig.server.xapi.pool, rig.server.xapi.host
    own = rig.api.VM.get_suspend_SR(vm)
    rig.api.VM.set_suspend_SR(vm, NULL)
    assert failure(rig.api.VM.suspend, vm) == ["VM_NO_SUSPEND_SR", vm]
    on_host, on_pool = rig.sr(), rig.sr()
    rig.api.host.set_suspend_image_sr(host, on_host)
    assert suspended_on(rig, vm) == on_host
    rig.api.pool.set_suspend_image_SR(pool, on_pool)
    assert suspended_on(rig, vm) == on_pool
    rig.api.VM.set_suspend_SR(vm, own)
    assert suspended_on(rig, vm) == own


def suspended_on(rig: Rig, vm: str) -> str:
    """Where a suspended VM's memory is; the VM runs again afterwards."""
    rig.api.VM.suspend(vm)
    sr = str(rig.api.VDI.get_SR(rig.api.VM.get_suspend_VDI(vm)))
    rig.api.VM.resume(vm, False, False)
    return sr


def test_after_a_power_cut_vms_are_halted_and_sleepers_sleep(rig: Rig) -> None:
    awake, asleep = running(rig), running(rig)
    rig.api.VM.suspend(asleep)
    rig.host.lose_power()
    rig.server.host_restarted()
    states = [rig.api.VM.get_power_state(vm) for vm in (awake, asleep)]
    assert states == ["Halted", "Suspended"]
    for pbd in rig.api.PBD.get_all():
        rig.api.PBD.plug(pbd)
    rig.api.VM.start(awake, False, False)
    rig.api.VM.resume(asleep, False, False)
    assert len(rig.host.devices) == 2


# -- snapshots and checkpoints


def test_what_a_snapshot_tells(rig: Rig) -> None:
    vm = running(rig)
    rig.api.VM.set_other_config(
        vm, {"mac_seed": "1", "default_template": "true", "xensource_internal": "x"}
    )
    rig.api.VM.add_tags(vm, "important")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    record = rig.api.VM.get_record(snapshot)
    assert record["name_label"] == "snap"
    assert (record["is_a_template"], record["is_default_template"]) == (True, False)
    assert (record["power_state"], record["suspend_VDI"]) == ("Halted", NULL)
    assert record["snapshot_info"] == {
        "disk-snapshot-type": "crash_consistent",
        "power-state-at-snapshot": "Running",
    }
    assert record["other_config"] == {"mac_seed": "1"}
    assert record["tags"] == ["important"]
    assert record["domid"] == "-1"
    assert "('name__label' 'vm')" in record["snapshot_metadata"]
    [vbd] = map(rig.api.VBD.get_record, record["VBDs"])
    assert (vbd["other_config"], vbd["currently_attached"]) == ({"owner": ""}, False)
    assert rig.api.VM.get_parent(vm) == snapshot
    assert record["generation_id"] != rig.api.VM.get_generation_id(vm)


def test_a_snapshot_that_fails_leaves_nothing(rig: Rig) -> None:
    disks = [rig.vdi(rig.sr(kind)) for kind in ("mem", "nosnap")]
    vm = running(rig, *disks)
    before = rig.records()
    sr = rig.api.VDI.get_SR(disks[1])
    assert failure(rig.api.VM.snapshot, vm, "snap") == ["SR_OPERATION_NOT_SUPPORTED", sr]
    # Upstream names the VM here, since it looks before it suspends.
    assert failure(rig.api.VM.checkpoint, vm, "check") == ["SR_OPERATION_NOT_SUPPORTED", vm]
    after = rig.records()
    assert (after["VM"], after["VDI"].keys()) == (before["VM"], before["VDI"].keys())


def test_a_checkpoint_that_fails_resumes_the_vm(rig: Rig) -> None:
    vm = running(rig)
    rig.host.faults["vdi_snapshot"] = UNIMPLEMENTED
    assert failure(rig.api.VM.checkpoint, vm, "check")[0] == "UNIMPLEMENTED_IN_SM_BACKEND"
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert len(rig.host.devices) == len(rig.api.VDI.get_all()) == 1
    assert rig.api.VM.get_snapshots(vm) == []


@pytest.mark.parametrize("state", ["Running", "Paused", "Suspended"])
def test_a_checkpoint_of_every_state(rig: Rig, state: str) -> None:
    vm = running(rig)
    if state == "Paused":
        rig.api.VM.pause(vm)
    elif state == "Suspended":
        rig.api.VM.suspend(vm)
    checkpoint = rig.api.VM.checkpoint(vm, "check")
    record = rig.api.VM.get_record(checkpoint)
    assert rig.api.VM.get_power_state(vm) == state
    assert record["power_state"] == "Suspended"
    assert record["snapshot_info"]["power-state-at-snapshot"] == state
    assert rig.api.VDI.get_type(record["suspend_VDI"]) == "suspend"
    assert all(map(rig.api.VBD.get_currently_attached, record["VBDs"]))
    rig.api.VM.hard_shutdown(checkpoint)
    record = rig.api.VM.get_record(checkpoint)
    assert (record["power_state"], record["suspend_VDI"]) == ("Halted", NULL)
    rig.api.VM.destroy(checkpoint)


def test_a_halted_vm_has_no_checkpoint(rig: Rig) -> None:
    vm = rig.vm()
    expected = ["VM_BAD_POWER_STATE", vm, "paused, suspended, running", "halted"]
    assert failure(rig.api.VM.checkpoint, vm, "check") == expected


# -- copies and templates


@pytest.mark.parametrize("way", ["clone", "copy"])
def test_a_twin_has_disks_of_its_own(rig: Rig, way: str) -> None:
    vm = rig.vm(rig.vdi(rig.sr(), b"first"), name_description="kept")
    rig.vbd(NULL, "RO", VM=vm, type="CD", empty=True)
    rig.api.VM.add_to_other_config(vm, "mac_seed", "1")
    other = rig.sr()
    twin = rig.api.VM.clone(vm, "twin") if way == "clone" else rig.api.VM.copy(vm, "twin", other)
    record = rig.api.VM.get_record(twin)
    assert (record["name_label"], record["name_description"]) == ("twin", "kept")
    assert (record["is_a_template"], record["is_a_snapshot"]) == (False, False)
    assert record["other_config"]["mac_seed"] != "1"
    [disk] = rig.disks(twin).values()
    assert rig.read(disk) == b"first"
    assert (rig.api.VDI.get_SR(disk) == other) is (way == "copy")
    assert len(record["VBDs"]) == 2
    rig.write(disk, b"twins")
    assert rig.read(rig.disks(vm)["0"]) == b"first"


def test_a_clone_of_a_snapshot_is_a_template(rig: Rig) -> None:
    vm = running(rig)
    template = rig.api.VM.clone(rig.api.VM.snapshot(vm, "snap"), "template")
    record = rig.api.VM.get_record(template)
    assert (record["is_a_template"], record["is_a_snapshot"]) == (True, False)
    rig.api.VM.set_is_a_template(template, False)
    rig.api.VM.start(template, False, False)
    asleep = rig.api.VM.clone(rig.api.VM.checkpoint(vm, "check"), "asleep")
    assert rig.api.VM.get_power_state(asleep) == "Suspended"
    assert rig.api.VM.get_suspend_VDI(asleep) != NULL


def test_a_clone_that_fails_leaves_nothing(rig: Rig) -> None:
    vm = rig.vm(rig.vdi(rig.sr()), rig.vdi(rig.sr()))
    before = rig.records()
    rig.host.faults["vdi_clone"] = Fault(44, "full")
    assert failure(rig.api.VM.clone, vm, "twin")[0] == "SR_BACKEND_FAILURE_44"
    assert {**rig.records(), "SR": {}} == {**before, "SR": {}}


def test_provision(rig: Rig) -> None:
    sr = rig.sr()
    wish = '<disk device="{}" size="{}" sr="{}" bootable="true" type="system"/>'
    disks = wish.format(0, 1 << 20, rig.api.SR.get_uuid(sr)) + wish.format(1, 1 << 20, "")
    rig.api.pool.set_default_SR(rig.server.xapi.pool, sr)
    template = rig.vm(is_a_template=True)
    vm = rig.api.VM.clone(template, "made")
    rig.api.VM.add_to_other_config(vm, "disks", f"<provision>{disks}</provision>")
    rig.api.VM.provision(vm)
    record = rig.api.VM.get_record(vm)
    assert not record["is_a_template"]
    assert "disks" not in record["other_config"]
    assert [rig.api.VDI.get_type(disk) for disk in rig.disks(vm).values()] == ["system"] * 2
    for bad in ("<provision>", '<provision><disk device="0" size="big"/></provision>'):
        rig.api.VM.set_other_config(template, {"disks": bad})
        assert failure(rig.api.VM.provision, template)[:2] == ["INVALID_VALUE", "disks"]
    rig.api.VM.set_other_config(template, {"disks": disks})
    twice = f"<provision>{wish.format(0, 1 << 20, '') * 2}</provision>"
    rig.api.VM.set_other_config(template, {"disks": twice})
    assert failure(rig.api.VM.provision, template) == ["DEVICE_ALREADY_EXISTS", "0"]
    assert len(rig.api.VDI.get_all()) == 2


def test_destroying_a_vm_leaves_its_disks(rig: Rig) -> None:
    disk = rig.vdi(rig.sr())
    vm = rig.vm(disk)
    network = rig.api.network.get_all()[0]
    rig.api.VIF.create({"device": "0", "network": network, "VM": vm})
    snapshot = rig.api.VM.snapshot(vm, "snap")
    metrics = rig.api.VM.get_metrics(vm)
    rig.api.VM.destroy(vm)
    assert rig.api.VDI.get_VBDs(disk) == []
    assert metrics not in rig.api.VM_metrics.get_all()
    assert len(rig.api.VIF.get_all()) == 1
    assert rig.api.VM.get_snapshot_of(snapshot) == vm


# -- settings


def test_memory_and_cpus(rig: Rig) -> None:
    vm, gib = rig.vm(), str(1 << 30)
    rig.api.VM.set_memory_limits(vm, "0", gib, "0", gib)
    rig.api.VM.set_memory(vm, gib)
    rig.api.VM.set_memory_dynamic_range(vm, "1", gib)
    rig.api.VM.set_memory_static_range(vm, "1", gib)
    assert rig.api.VM.get_memory_dynamic_min(vm) == "1"
    code = "MEMORY_CONSTRAINT_VIOLATION"
    assert failure(rig.api.VM.set_memory_static_max, vm, "0")[0] == code
    assert failure(rig.api.VM.set_VCPUs_at_startup, vm, "2")[0] == "INVALID_VALUE"
    rig.api.VM.set_VCPUs_max(vm, "2")
    rig.api.VM.set_VCPUs_at_startup(vm, "2")
    rig.api.VM.set_actions_after_crash(vm, "preserve")
    rig.api.VM.set_order(vm, "3")
    rig.api.VM.start(vm, False, False)
    assert failure(rig.api.VM.set_VCPUs_max, vm, "4")[0] == "VM_BAD_POWER_STATE"
    rig.api.VM.update_allowed_operations(vm)


def test_free_devices(rig: Rig) -> None:
    vm = rig.vm(rig.vdi(rig.sr()))
    devices = rig.api.VM.get_allowed_VBD_devices(vm)
    assert (devices[0], len(devices)) == ("1", 255)
    network = rig.api.network.get_all()[0]
    rig.api.VIF.create({"device": "0", "network": network, "VM": vm})
    assert rig.api.VM.get_allowed_VIF_devices(vm) == ["1", "2", "3", "4", "5", "6"]


def test_a_suspend_vdi_is_nobodys_disk(rig: Rig) -> None:
    vm = running(rig)
    [disk] = rig.disks(vm).values()
    other = rig.vm()
    assert failure(rig.api.VM.set_suspend_VDI, other, disk)[0] == "VDI_IN_USE"
    image = rig.vdi(rig.sr(), type="suspend")
    record = {"name_label": "asleep", "power_state": "Suspended", "suspend_VDI": image}
    asleep = rig.api.VM.create(record)
    assert rig.api.VM.get_power_state(asleep) == "Suspended"
    rig.api.VM.set_suspend_VDI(asleep, NULL)
    forged = rig.api.VM.create(record | {"suspend_VDI": NULL})
    assert rig.api.VM.get_power_state(forged) == "Halted"


# -- CDs of running VMs


def test_insert_and_eject(rig: Rig) -> None:
    iso, disk = rig.vdi(rig.sr(), b"iso"), rig.vdi(rig.sr())
    vm = running(rig, disk)
    [of_disk] = rig.api.VM.get_VBDs(vm)
    rig.api.VM.hard_shutdown(vm)
    drive = rig.vbd(NULL, "RO", VM=vm, type="CD", empty=True, userdevice="3")
    rig.api.VM.start(vm, False, False)
    assert failure(rig.api.VBD.eject, drive) == ["VBD_IS_EMPTY", drive]
    assert failure(rig.api.VBD.insert, of_disk, iso) == ["VBD_NOT_REMOVABLE_MEDIA", of_disk]
    assert failure(rig.api.VBD.insert, drive, disk) == ["VDI_IN_USE", disk, "attach"]
    assert rig.api.VBD.get_empty(drive)
    rig.api.VBD.insert(drive, iso)
    record = rig.api.VBD.get_record(drive)
    assert (record["VDI"], record["empty"]) == (iso, False)
    assert bytes(rig.host.devices[record["runtime_properties"]["device"]].content[:3]) == b"iso"
    assert failure(rig.api.VBD.insert, drive, iso) == ["VBD_NOT_EMPTY", drive]
    rig.api.VBD.eject(drive)
    record = rig.api.VBD.get_record(drive)
    assert (record["VDI"], record["empty"], record["currently_attached"]) == (NULL, True, True)
    assert len(rig.host.devices) == 1


def test_hot_plug(rig: Rig) -> None:
    vm = running(rig)
    added = rig.vbd(rig.vdi(rig.sr()), VM=vm, userdevice="1", unpluggable=False)
    rig.api.VBD.plug(added)
    assert rig.api.VBD.get_device(added) == "xvdb"
    assert failure(rig.api.VBD.unplug, added) == ["VBD_NOT_UNPLUGGABLE", added]
    rig.api.VBD.unplug_force(added)
    assert failure(rig.api.VBD.set_mode, added, "RO")[0] == "VM_BAD_POWER_STATE"
    rig.api.VM.hard_shutdown(vm)
    expected = ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    assert failure(rig.api.VBD.plug, added) == expected
    rig.api.VBD.set_mode(added, "RO")
    rig.api.VBD.assert_attachable(added)
    assert rig.api.VBD.get_mode(added) == "RO"
