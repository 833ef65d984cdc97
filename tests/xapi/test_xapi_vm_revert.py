"""VM.revert: all of it or nothing, in place where the driver can, by clone where not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xapi.errors import XenAPIError
from xapi.testing import CAPABILITIES, UNIMPLEMENTED, Fault, Rig, failure, serve

NULL = "OpaqueRef:NULL"
KINDS = ("mem", "old")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    types = {"mem": (*CAPABILITIES, "VDI_REVERT"), "old": CAPABILITIES}
    with serve(tmp_path, types, patience=0.05) as rig:
        yield rig


def machine(rig: Rig, *kinds: str) -> tuple[str, list[str]]:
    """A VM with a disk on an SR of each kind, and the disks."""
    disks = [rig.vdi(rig.sr(kind), f"old {n}".encode()) for n, kind in enumerate(kinds)]
    return rig.vm(*disks), disks


def spoil(rig: Rig, disks: list[str]) -> None:
    for n, disk in enumerate(disks):
        rig.write(disk, f"new {n}".encode())


def contents(rig: Rig, vm: str) -> list[bytes]:
    return [rig.read(disk) for disk in rig.disks(vm).values()]


def unchanged(rig: Rig, before: dict[str, Any]) -> None:
    """Every record is what it was, except for messages and for what the SR holds by now."""
    after = rig.records()
    for cls in ("VM", "VBD", "VDI"):
        assert after[cls] == before[cls], cls


# -- Q: upstream's quicktest


@pytest.mark.parametrize("kind", KINDS)
def test_q1_snapshot(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    record = rig.api.VM.get_record(snapshot)
    assert (record["is_a_snapshot"], record["snapshot_of"]) == (True, vm)
    assert rig.api.VM.get_snapshots(vm) == [snapshot]
    copies = rig.disks(snapshot)
    assert [rig.api.VDI.get_snapshot_of(copies[str(n)]) for n in (0, 1)] == disks


@pytest.mark.parametrize("kind", KINDS)
def test_q2_q3_a_disk_that_the_snapshot_ignored(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap", [disks[1]])
    assert list(rig.disks(snapshot)) == ["0"]
    rig.api.VM.revert(snapshot)
    assert list(rig.disks(vm)) == ["0"]
    assert rig.api.VDI.get_VBDs(disks[1]) == []
    assert rig.read(disks[1]) == b"old 1"


def test_q4_in_place_the_disk_keeps_its_ref(rig: Rig) -> None:
    vm, disks = machine(rig, "mem")
    [vbd] = rig.api.VM.get_VBDs(vm)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    assert rig.disks(vm) == {"0": disks[0]}
    assert rig.api.VM.get_VBDs(vm) == [vbd]
    assert contents(rig, vm) == [b"old 0"]


def test_q5_by_clone_the_disk_has_another_ref(rig: Rig) -> None:
    vm, disks = machine(rig, "old")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    assert rig.disks(vm)["0"] != disks[0]
    assert disks[0] not in rig.api.VDI.get_all()
    assert contents(rig, vm) == [b"old 0"]


def test_q6_cds(rig: Rig) -> None:
    iso = rig.vdi(rig.sr(), b"iso")
    vm = rig.vm()
    rig.vbd(iso, "RO", VM=vm, type="CD")
    rig.vbd(NULL, "RO", VM=vm, type="CD", empty=True)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    assert len(rig.api.VM.get_VBDs(snapshot)) == 2
    for _ in range(2):
        rig.api.VM.revert(snapshot)
        vbds = rig.api.VM.get_VBDs(vm)
        assert [rig.api.VBD.get_VDI(vbd) for vbd in vbds] == [iso, NULL]
    assert len(rig.api.VBD.get_all()) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_q7_both_snapshots_belong_to_the_live_disk(rig: Rig, kind: str) -> None:
    vm, _ = machine(rig, kind)
    snapshots = [rig.api.VM.snapshot(vm, f"snap {n}") for n in range(2)]
    for snapshot in snapshots:
        rig.api.VM.revert(snapshot)
        live = rig.disks(vm)["0"]
        for other in snapshots:
            assert rig.api.VDI.get_snapshot_of(rig.disks(other)["0"]) == live


# -- S: on top of upstream's


def test_s1_mixed_srs(rig: Rig) -> None:
    vm, [native, cloned] = machine(rig, "mem", "old")
    first, second = (rig.api.VM.snapshot(vm, name) for name in ("first", "second"))
    of_native = [rig.disks(snapshot)["0"] for snapshot in (first, second)]
    of_cloned = [rig.disks(snapshot)["1"] for snapshot in (first, second)]
    before = [rig.api.VDI.get_record(vdi) for vdi in of_native]
    vbds = {rig.api.VBD.get_userdevice(vbd): vbd for vbd in rig.api.VM.get_VBDs(vm)}
    spoil(rig, [native, cloned])
    rig.api.VM.revert(first)
    after = {rig.api.VBD.get_userdevice(vbd): vbd for vbd in rig.api.VM.get_VBDs(vm)}
    disks = rig.disks(vm)
    assert contents(rig, vm) == [b"old 0", b"old 1"]
    assert (disks["0"], after["0"]) == (native, vbds["0"])
    assert disks["1"] != cloned
    assert after["1"] != vbds["1"]
    assert [rig.api.VDI.get_record(vdi) for vdi in of_native] == before
    assert [rig.api.VDI.get_snapshot_of(vdi) for vdi in of_cloned] == [disks["1"]] * 2


@pytest.mark.parametrize("kinds", [("mem",), ("mem", "mem"), ("mem", "old", "mem")])
def test_s2_a_driver_that_says_38_after_all(rig: Rig, kinds: tuple[str, ...]) -> None:
    vm, disks = machine(rig, *kinds)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    rig.host.faults["vdi_revert"] = UNIMPLEMENTED
    rig.api.VM.revert(snapshot)
    assert contents(rig, vm) == [f"old {n}".encode() for n in range(len(kinds))]
    assert not set(disks) & set(rig.api.VDI.get_all())
    assert len(rig.api.VDI.get_all()) == 2 * len(kinds)


@pytest.mark.parametrize("state", ["Halted", "Running"])
def test_s3_another_fault(rig: Rig, state: str) -> None:
    vm, disks = machine(rig, "mem", "old")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    before = rig.records()
    if state == "Running":
        rig.api.VM.start(vm, False, False)
    rig.host.faults["vdi_revert"] = Fault(46, "The VDI is not available")
    assert failure(rig.api.VM.revert, snapshot) == ["VM_REVERT_FAILED", snapshot, vm]
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert contents(rig, vm) == [b"new 0", b"new 1"]
    if state == "Halted":
        unchanged(rig, before)
    del rig.host.faults["vdi_revert"]
    rig.api.VM.revert(snapshot)
    assert contents(rig, vm) == [b"old 0", b"old 1"]


@pytest.mark.parametrize("number", [44, 109])
@pytest.mark.parametrize("command", ["vdi_revert", "vdi_clone"])
def test_s4_what_a_user_can_mend_is_passed_on(rig: Rig, number: int, command: str) -> None:
    vm, _ = machine(rig, "mem", "old")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.host.faults[command] = Fault(number, "no")
    assert failure(rig.api.VM.revert, snapshot)[0] == f"SR_BACKEND_FAILURE_{number}"


@pytest.mark.parametrize("kind", KINDS)
def test_s5_order_1_2_3_1_1(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind)
    snapshots = {1: rig.api.VM.snapshot(vm, "1")}
    for number in (2, 3):
        rig.api.VM.revert(snapshots[1])
        rig.write(rig.disks(vm)["0"], b"new %d" % number)
        snapshots[number] = rig.api.VM.snapshot(vm, str(number))
    assert set(rig.api.VM.get_children(snapshots[1])) == {snapshots[2], snapshots[3]}
    wanted = {1: b"old 0", 2: b"new 2", 3: b"new 3"}
    for number in (1, 2, 3, 1, 1):
        rig.api.VM.revert(snapshots[number])
        assert contents(rig, vm) == [wanted[number]]
        assert rig.api.VM.get_parent(vm) == snapshots[number]
    assert len(rig.api.VDI.get_all()) == 4
    assert len(disks) == len(rig.api.VM.get_VBDs(vm))


@pytest.mark.parametrize("kind", KINDS)
def test_s6_w1_the_live_disk_was_deleted(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind)
    snapshots = [rig.api.VM.snapshot(vm, f"snap {n}") for n in range(2)]
    rig.api.VDI.destroy(disks[0])
    rig.api.VM.revert(snapshots[0])
    assert contents(rig, vm) == [b"old 0"]
    live = rig.disks(vm)["0"]
    for snapshot in snapshots:
        assert rig.api.VDI.get_snapshot_of(rig.disks(snapshot)["0"]) == live


@pytest.mark.parametrize("kind", KINDS)
def test_s6_w2_the_vbd_was_removed(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    for vbd in rig.api.VDI.get_VBDs(disks[1]):
        rig.api.VBD.destroy(vbd)
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    assert contents(rig, vm) == [b"old 0", b"old 1"]
    assert (rig.disks(vm)["1"] == disks[1]) is (kind == "mem")


@pytest.mark.parametrize("kind", KINDS)
def test_s6_w3_the_disk_is_attached_elsewhere(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    for vbd in rig.api.VDI.get_VBDs(disks[1]):
        rig.api.VBD.destroy(vbd)
    other = rig.vm(disks[1])
    rig.api.VM.start(other, False, False)
    rig.api.VM.start(vm, False, False)
    spoil(rig, disks)
    before = rig.records()
    assert failure(rig.api.VM.revert, snapshot) == ["VDI_IN_USE", disks[1], "revert_from"]
    unchanged(rig, before)
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert [rig.read(disk) for disk in disks] == [b"new 0", b"new 1"]


@pytest.mark.parametrize("kind", KINDS)
def test_s6_w4_a_checkpoint_wakes_up_with_its_disks(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind, kind)
    rig.api.VM.set_suspend_SR(vm, rig.sr())
    rig.api.VM.start(vm, False, False)
    checkpoint = rig.api.VM.checkpoint(vm, "check")
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert rig.api.VM.get_power_state(checkpoint) == "Suspended"
    spoil(rig, disks)
    rig.api.VM.revert(checkpoint)
    assert rig.api.VM.get_power_state(vm) == "Suspended"
    assert rig.host.devices == {}
    for vbd in rig.api.VM.get_VBDs(vm):
        assert rig.api.VBD.get_currently_attached(vbd)
    rig.api.VM.resume(vm, False, False)
    assert len(rig.host.devices) == 2
    assert contents(rig, vm) == [b"old 0", b"old 1"]
    rig.api.VM.hard_shutdown(vm)
    assert rig.host.devices == {}


STEPS = [
    ("vdi_clone", 1),
    ("vdi_clone", 2),
    ("vdi_snapshot", 1),
    ("vdi_snapshot", 2),
    ("vdi_revert", 1),
    ("vdi_revert", 2),
    ("vdi_revert", 3),
]


@pytest.mark.parametrize(("command", "number"), STEPS)
def test_s6_w5_a_failure_brings_the_earlier_disks_back(rig: Rig, command: str, number: int) -> None:
    vm, disks = machine(rig, "mem", "old", "mem", "old", "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    before, stored = rig.records(), rig.host.stored()
    rig.host.faults[command] = Fault(46, "no")
    rig.host.once_after[command] = number - 1
    assert failure(rig.api.VM.revert, snapshot) == ["VM_REVERT_FAILED", snapshot, vm]
    unchanged(rig, before)
    assert rig.host.stored() == stored
    rig.api.VM.revert(snapshot)
    assert contents(rig, vm) == [f"old {n}".encode() for n in range(5)]
    assert len(rig.host.stored()) == len(stored)


def test_s6_w5_records_that_cannot_be_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    vm, disks = machine(rig, "mem", "old", "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    before, stored = rig.records(), rig.host.stored()

    def fail(*_arguments: object) -> None:
        raise XenAPIError("INTERNAL_ERROR", ("disk full",))

    monkeypatch.setattr("xapi.vm_revert_records.vm_copy.replace_metrics", fail)
    assert failure(rig.api.VM.revert, snapshot) == ["VM_REVERT_FAILED", snapshot, vm]
    unchanged(rig, before)
    # The one disk of which nothing was kept has its new content, and somebody is told.
    assert contents(rig, vm) == [b"new 0", b"new 1", b"old 2"]
    assert rig.host.stored().keys() == stored.keys()
    [message] = [m for m in rig.api.message.get_all_records().values() if m["cls"] == "VDI"]
    assert message["obj_uuid"] == rig.api.VDI.get_uuid(disks[2])


def test_s6_w5_a_disk_that_cannot_be_brought_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, disks = machine(rig, "mem", "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    plain = rig.host.sm_call
    asked: list[str] = []

    def sm_call(driver: str, document: str) -> Any:
        if "<methodName>vdi_revert</methodName>" in document:
            asked.append(document)
            if len(asked) > 1:
                rig.host.faults["vdi_revert"] = Fault(46, "gone")
        return plain(driver, document)

    monkeypatch.setattr(type(rig.host), "sm_call", staticmethod(sm_call))
    assert failure(rig.api.VM.revert, snapshot) == ["VM_REVERT_FAILED", snapshot, vm]
    monkeypatch.undo()
    del rig.host.faults["vdi_revert"]
    assert contents(rig, vm) == [b"old 0", b"new 1"]
    [message] = rig.api.message.get_all_records_where(
        'field "name"="VM_REVERT_DISK_NOT_BROUGHT_BACK"'
    ).values()
    kept = next(vdi for vdi in rig.api.VDI.get_snapshots(disks[0]) if rig.read(vdi) == b"new 0")
    assert rig.api.VDI.get_uuid(kept) in message["body"]
    rig.api.VDI.revert(kept)
    assert contents(rig, vm) == [b"new 0", b"new 1"]


@pytest.mark.parametrize("kind", KINDS)
def test_s6_w6_two_vbds_of_one_disk(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind)
    rig.vbd(disks[0], "RO", VM=vm, userdevice="3")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    after = rig.disks(vm)
    assert list(after) == ["0", "3"]
    assert after["0"] == after["3"]
    assert contents(rig, vm) == [b"old 0"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_s7_a_disk_that_was_added_since_stays(rig: Rig, kind: str) -> None:
    vm, _ = machine(rig, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    added = rig.vdi(rig.sr(), b"added")
    rig.vbd(added, VM=vm, userdevice="1")
    rig.api.VM.revert(snapshot)
    assert list(rig.disks(vm)) == ["0"]
    assert rig.read(added) == b"added"
    assert rig.api.VDI.get_VBDs(added) == []


@pytest.mark.parametrize("kind", KINDS)
def test_s8_a_running_vm_ends_halted(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind)
    rig.api.VM.start(vm, False, False)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    record = rig.api.VM.get_record(vm)
    assert (record["power_state"], record["domid"]) == ("Halted", "-1")
    assert record["resident_on"] == NULL
    assert rig.host.devices == {}
    assert contents(rig, vm) == [b"old 0"]


def test_s9_names_go_back_and_tags_stay(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    api = rig.api.VM
    api.set_other_config(vm, {"it's": "a \\ 'quoted' text", "mac_seed": "1"})
    api.set_VCPUs_max(vm, "4")
    snapshot = api.snapshot(vm, "snap")
    before = api.get_record(vm)
    [host] = rig.api.host.get_all()
    api.set_name_label(vm, "other")
    api.set_name_description(vm, "other")
    api.set_other_config(vm, {})
    api.set_VCPUs_max(vm, "8")
    api.add_tags(vm, "kept")
    api.set_affinity(vm, host)
    rig.api.VM.revert(snapshot)
    after = api.get_record(vm)
    assert (after.pop("tags"), after.pop("affinity")) == (["kept"], host)
    for own in ("metrics", "generation_id"):
        assert after.pop(own) != before[own]
    assert after == {name: before[name] for name in after}


def test_s10_macs_stay(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    network = rig.api.network.get_all()[0]
    record = {"device": "0", "network": network, "VM": vm, "MAC": "02:00:00:00:00:77"}
    rig.api.VIF.create(record | {"MTU": "1400", "locking_mode": "locked"})
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.api.VIF.destroy(rig.api.VM.get_VIFs(vm)[0])
    rig.api.VIF.create(record | {"MAC": "02:00:00:00:00:78"})
    rig.api.VM.revert(snapshot)
    [vif] = rig.api.VM.get_VIFs(vm)
    after = rig.api.VIF.get_record(vif)
    assert (after["MAC"], after["MTU"]) == ("02:00:00:00:00:77", "1400")
    clone = rig.api.VM.clone(vm, "clone")
    [vif] = rig.api.VM.get_VIFs(clone)
    assert rig.api.VIF.get_MAC(vif) not in ("02:00:00:00:00:77", "02:00:00:00:00:78")


def test_s11_the_suspend_vdi_goes(rig: Rig) -> None:
    vm, disks = machine(rig, "mem")
    rig.api.VM.set_suspend_SR(vm, rig.sr())
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.api.VM.start(vm, False, False)
    rig.api.VM.suspend(vm)
    image = rig.api.VM.get_suspend_VDI(vm)
    assert rig.api.VDI.get_type(image) == "suspend"
    rig.host.faults["vdi_revert"] = Fault(46, "no")
    failure(rig.api.VM.revert, snapshot)
    assert rig.api.VM.get_power_state(vm) == "Suspended"
    del rig.host.faults["vdi_revert"]
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    assert rig.api.VM.get_power_state(vm) == "Halted"
    assert rig.api.VM.get_suspend_VDI(vm) == NULL
    assert image not in rig.api.VDI.get_all()
    assert contents(rig, vm) == [b"old 0"]


@pytest.mark.parametrize("kind", KINDS)
def test_s12_the_snapshot_is_what_it_was(rig: Rig, kind: str) -> None:
    vm, disks = machine(rig, kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    [copy] = rig.disks(snapshot).values()

    def seen() -> Any:
        vbds = [rig.api.VBD.get_record(vbd) for vbd in rig.api.VM.get_VBDs(snapshot)]
        links = {"snapshot_of": rig.disks(vm)["0"]}
        assert rig.api.VDI.get_record(copy) == rig.api.VDI.get_record(copy) | links
        record = rig.api.VDI.get_record(copy) | {"snapshot_of": ""}
        return rig.api.VM.get_record(snapshot), vbds, record, rig.read(copy)

    before = seen()
    for _ in range(2):
        spoil(rig, disks[:1] if kind == "mem" else [rig.disks(vm)["0"]])
        rig.api.VM.revert(snapshot)
        assert seen() == before


def test_s13_marks_are_visible(rig: Rig) -> None:
    vm, [disk] = machine(rig, "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    marked = [snapshot, vm, rig.api.VDI.get_SR(disk), rig.disks(snapshot)["0"], disk]
    token = getattr(rig.api.event, "from")(["pool"], "", 0.0)["token"]
    rig.host.gates["vdi_revert"] = threading.Event()
    reverting = threading.Thread(target=rig.login().VM.revert, args=(snapshot,))
    reverting.start()
    assert rig.host.reached.wait(10)
    answer = getattr(rig.api.event, "from")(["vm", "sr", "vdi"], token, 0.0)
    seen = {event["ref"]: event["snapshot"]["current_operations"] for event in answer["events"]}
    assert failure(rig.api.VM.start, vm, False, False)[0] == "OTHER_OPERATION_IN_PROGRESS"
    rig.host.gates["vdi_revert"].set()
    reverting.join(10)
    names = [name for ref in marked for name in seen[ref].values()]
    assert names == ["revert", "reverting", "vdi_revert", "revert_to", "revert_from"]
    assert len({task for ref in marked for task in seen[ref]}) == 1
    assert rig.api.VM.get_current_operations(vm) == {}


def test_s14_a_snapshot_of_the_same_disk_waits(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        vm, [disk] = machine(rig, "mem")
        snapshot = rig.api.VM.snapshot(vm, "snap")
        spoil(rig, [disk])
        rig.host.gates["vdi_revert"] = threading.Event()
        made: list[str] = []
        reverting = threading.Thread(target=rig.login().VM.revert, args=(snapshot,))
        api = rig.login()
        waiting = threading.Thread(target=lambda: made.append(api.VDI.snapshot(disk)))
        reverting.start()
        assert rig.host.reached.wait(10)
        waiting.start()
        rig.host.gates["vdi_revert"].set()
        for thread in (reverting, waiting):
            thread.join(10)
        assert rig.read(made[0]) == b"old 0"


@pytest.mark.parametrize("kind", KINDS)
def test_s14_two_reverts_come_one_after_the_other(tmp_path: Path, kind: str) -> None:
    with serve(tmp_path) as rig:
        vm, disks = machine(rig, kind)
        one, two = (rig.api.VM.snapshot(vm, name) for name in ("one", "two"))
        spoil(rig, disks)
        command = "vdi_revert" if kind == "mem" else "vdi_clone"
        rig.host.gates[command] = threading.Event()
        [first, second] = [rig.disks(snapshot)["0"] for snapshot in (one, two)]
        calls = [(rig.login().VDI.revert, first), (rig.login().VDI.revert, second)]
        calls += [(rig.login().VM.revert, one), (rig.login().VM.revert, two)]
        threads = [threading.Thread(target=call, args=(ref,)) for call, ref in calls]
        threads[0].start()
        assert rig.host.reached.wait(10)
        for thread in threads[1:]:
            thread.start()
        rig.host.gates[command].set()
        for thread in threads:
            thread.join(10)
        assert contents(rig, vm) == [b"old 0"]
        [live] = rig.disks(vm).values()
        assert {rig.api.VDI.get_snapshot_of(vdi) for vdi in (first, second)} == {live}
        assert len(rig.api.VDI.get_all()) == 3
        names = [record["name"] for record in rig.api.message.get_all_records().values()]
        assert names.count("VM_SNAPSHOT_REVERTED") == 2


def test_s15_the_tree(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    api = rig.api.VM
    first, second, third = (api.snapshot(vm, str(n)) for n in range(3))
    assert [api.get_parent(v) for v in (first, second, third, vm)] == [NULL, first, second, third]
    api.revert(second)
    assert api.get_parent(vm) == second
    assert set(api.get_children(second)) == {third, vm}
    api.destroy(second)
    assert [api.get_parent(v) for v in (third, vm)] == [first, first]


# -- the VM itself


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("disks_too", [False, True])
def test_a_destroyed_vm_is_made_again(rig: Rig, kind: str, disks_too: bool) -> None:
    vm, disks = machine(rig, kind)
    uuid = rig.api.VM.get_uuid(vm)
    snapshots = [rig.api.VM.snapshot(vm, f"snap {n}") for n in range(2)]
    spoil(rig, disks)
    rig.api.VM.destroy(vm)
    if disks_too:
        rig.api.VDI.destroy(disks[0])
    rig.api.VM.revert(snapshots[0])
    made = rig.api.VM.get_by_uuid(uuid)
    record = rig.api.VM.get_record(made)
    assert (record["name_label"], record["is_a_template"]) == ("vm", False)
    assert (record["is_a_snapshot"], record["parent"]) == (False, snapshots[0])
    assert set(record["snapshots"]) == set(snapshots)
    assert contents(rig, made) == [b"old 0"]
    rig.api.VM.start(made, False, False)


def test_a_snapshot_of_no_vm(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    bystander = rig.vm()
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.api.VM.destroy(vm)
    rig.server.xapi.db.put("VM", snapshot, snapshot_of=NULL)
    rig.api.VM.revert(snapshot)
    made = rig.api.VM.get_snapshot_of(snapshot)
    assert rig.api.VM.get_name_label(made) == "vm"
    assert rig.api.VM.get_snapshot_of(bystander) == NULL


def test_a_vm_that_cannot_be_made_again(rig: Rig) -> None:
    vm, _ = machine(rig, "mem", "old")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.api.VM.destroy(vm)
    before = rig.records()
    rig.host.faults["vdi_revert"] = Fault(46, "no")
    assert failure(rig.api.VM.revert, snapshot) == ["VM_REVERT_FAILED", snapshot, vm]
    unchanged(rig, before)


def test_only_a_snapshot_is_reverted_to(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    assert failure(rig.api.VM.revert, vm) == ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]
    assert failure(rig.api.VM.revert, NULL) == ["HANDLE_INVALID", "VM", NULL]


def test_operations_that_the_owner_blocked(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    rig.api.VM.add_to_blocked_operations(vm, "reverting", "not today")
    assert failure(rig.api.VM.revert, snapshot) == ["OPERATION_BLOCKED", vm, "not today"]


@pytest.mark.parametrize("kind", KINDS)
def test_disks_that_were_swapped_since(rig: Rig, kind: str) -> None:
    """No two VBDs on one userdevice, whatever was moved around."""
    vm, disks = machine(rig, "mem", kind)
    snapshot = rig.api.VM.snapshot(vm, "snap")
    for vbd in rig.api.VM.get_VBDs(vm):
        rig.api.VBD.destroy(vbd)
    for number, disk in enumerate(reversed(disks)):
        rig.vbd(disk, VM=vm, userdevice=str(number))
    spoil(rig, disks)
    rig.api.VM.revert(snapshot)
    vbds = [rig.api.VBD.get_record(vbd) for vbd in rig.api.VM.get_VBDs(vm)]
    assert sorted(vbd["userdevice"] for vbd in vbds) == ["0", "1"]
    assert sorted(contents(rig, vm)) == [b"old 0", b"old 1"]


def test_a_disk_in_the_hands_of_another_vm_that_is_halted(rig: Rig) -> None:
    vm, disks = machine(rig, "old")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    other = rig.vm(disks[0])
    rig.api.VM.revert(snapshot)
    assert rig.disks(other) == rig.disks(vm)


def test_the_message(rig: Rig) -> None:
    vm, _ = machine(rig, "mem")
    rig.api.VM.revert(rig.api.VM.snapshot(vm, "snap"))
    names = [record["name"] for record in rig.api.message.get_all_records().values()]
    assert sorted(names) == ["VM_SNAPSHOTTED", "VM_SNAPSHOT_REVERTED"]


def test_metadata_of_another_version(rig: Rig) -> None:
    """Columns that are not known are left alone; those that cannot be read are refused."""
    vm, _ = machine(rig, "mem")
    snapshot = rig.api.VM.snapshot(vm, "snap")
    db = rig.server.xapi.db

    def revert_with(metadata: str) -> Callable[[], object]:
        db.put("VM", snapshot, snapshot_metadata=metadata)
        return lambda: rig.api.VM.revert(snapshot)

    revert_with("(('name__label' 'then') ('no_such' '1') ('HVM__boot_policy' 'BIOS order'))")()
    assert rig.api.VM.get_name_label(vm) == "then"
    assert rig.api.VM.get_domain_type(vm) == "hvm"
    revert_with("(('HVM__boot_policy' ''))")()
    assert rig.api.VM.get_domain_type(vm) == "pv"
    rig.api.VM.set_name_label(vm, "stays")
    revert_with("")()
    assert rig.api.VM.get_name_label(vm) == "stays"
    assert not rig.api.VM.get_is_a_template(vm)
    for bad in ("(", "('a')", "(('HVM__boot_policy'", "(('name__label' 'x'))"):
        before = rig.records()
        assert failure(revert_with(bad))[0] == "INVALID_VALUE"
        assert rig.records()["VDI"] == before["VDI"]
