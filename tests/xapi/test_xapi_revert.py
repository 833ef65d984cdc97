"""VDI.revert: in place, by clone, and every reason not to do it, in the order of the checks."""

from __future__ import annotations

import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.testing import CAPABILITIES, UNIMPLEMENTED, Fault, Rig, serve

NULL = "OpaqueRef:NULL"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    without_clone = tuple(name for name in CAPABILITIES if name != "VDI_CLONE")
    types = {
        "mem": (*CAPABILITIES, "VDI_REVERT"),
        "old": CAPABILITIES,
        "noclone": (*without_clone, "VDI_REVERT"),
        "udev": (*CAPABILITIES, "VDI_REVERT"),
    }
    with serve(tmp_path, types, patience=0.05) as rig:
        yield rig


@dataclass
class Disk:
    sr: str
    live: str
    snapshot: str


def disk(rig: Rig, type_: str = "mem", **fields: object) -> Disk:
    """A disk that was overwritten after its snapshot."""
    sr = rig.sr(type_)
    live = rig.vdi(sr, b"first", **fields)
    snapshot = rig.api.VDI.snapshot(live)
    rig.write(live, b"later")
    return Disk(sr, live, snapshot)


def refusal(rig: Rig, snapshot: str, *more: object) -> list[str]:
    """What VDI.revert answers; whatever it is, it must not have changed anything."""
    before = rig.records()
    with pytest.raises(XenAPI.Failure) as failure:
        rig.api.VDI.revert(snapshot, *more)
    assert rig.records() == before
    details: list[str] = failure.value.details
    return details


# -- in place


def test_in_place_returns_the_disk_itself(rig: Rig) -> None:
    d = disk(rig)
    before = rig.records()
    assert rig.api.VDI.revert(d.snapshot) == d.live
    assert rig.read(d.live) == b"first"
    assert rig.records() == before


def test_in_place_again_and_again(rig: Rig) -> None:
    d = disk(rig)
    for content in (b"aaaaa", b"bbbbb"):
        rig.write(d.live, content)
        assert rig.api.VDI.revert(d.snapshot) == d.live
        assert rig.read(d.live) == b"first"


def test_the_request_names_the_snapshot_and_the_target(rig: Rig) -> None:
    d = disk(rig)
    rig.api.VDI.revert(d.snapshot)
    command, request = rig.host.calls[-1]
    uuid = rig.api.VDI.get_uuid(d.snapshot)
    pbd = rig.api.SR.get_PBDs(d.sr)[0]
    assert command == "vdi_revert"
    assert request.pop("session_ref").startswith("OpaqueRef:")
    assert request.pop("subtask_of").startswith("OpaqueRef:")
    assert request == {
        "host_ref": rig.api.PBD.get_host(pbd),
        "command": "vdi_revert",
        "args": [d.live],
        "device_config": {"device": "/dev/any", "SRmaster": "true"},
        "sr_ref": d.sr,
        "sr_uuid": rig.api.SR.get_uuid(d.sr),
        "vdi_ref": d.snapshot,
        "vdi_uuid": uuid,
        "vdi_location": uuid,
        "vdi_on_boot": "persist",
        "vdi_allow_caching": "false",
    }


def test_driver_params_reach_the_driver(rig: Rig) -> None:
    d = disk(rig)
    rig.api.VDI.revert(d.snapshot, {"speed": "high"})
    assert rig.host.calls[-1][1]["driver_params"] == {"speed": "high"}


def test_an_attached_snapshot_may_be_reverted_to(rig: Rig) -> None:
    d = disk(rig)
    rig.api.VBD.plug(rig.vbd(d.snapshot, "RO"))
    assert rig.api.VDI.revert(d.snapshot) == d.live


# -- by clone


def by_missing_capability(rig: Rig) -> Disk:
    return disk(rig, "old")


def by_fault_38(rig: Rig) -> Disk:
    rig.host.faults["vdi_revert"] = UNIMPLEMENTED
    return disk(rig)


def by_copy_of_a_raw_disk(rig: Rig) -> Disk:
    """Drivers cannot snapshot raw disks: a copy is marked as one by local root."""
    sr = rig.sr()
    live = rig.vdi(sr, b"first", sm_config={"type": "raw"})
    snapshot = rig.vdi(sr, sm_config={"type": "raw"})
    rig.api.VDI.copy(live, NULL, NULL, snapshot)
    rig.local.VDI.set_is_a_snapshot(snapshot, True)
    rig.local.VDI.set_snapshot_of(snapshot, live)
    rig.write(live, b"later")
    return Disk(sr, live, snapshot)


WAYS = [by_missing_capability, by_fault_38, by_copy_of_a_raw_disk]


@pytest.mark.parametrize("way", WAYS)
def test_the_fallback_puts_a_fresh_disk_in_place(rig: Rig, way: Callable[[Rig], Disk]) -> None:
    d = way(rig)
    old_uuid = rig.api.VDI.get_uuid(d.live)
    snapshot = rig.api.VDI.get_record(d.snapshot)
    fresh = rig.api.VDI.revert(d.snapshot)
    assert fresh != d.live
    assert rig.read(fresh) == b"first"
    assert rig.api.VDI.get_is_a_snapshot(fresh) is False
    with pytest.raises(XenAPI.Failure) as failure:
        rig.api.VDI.get_by_uuid(old_uuid)
    assert failure.value.details == ["UUID_INVALID", "VDI", old_uuid]
    assert all(old_uuid not in disks for disks in rig.host.srs.values())
    assert rig.api.VDI.get_record(d.snapshot) == snapshot | {"snapshot_of": fresh}
    assert rig.read(d.snapshot) == b"first"
    assert not rig.host.devices
    assert rig.api.VBD.get_all() == []


@pytest.mark.parametrize("way", WAYS)
def test_the_fresh_disk_takes_over_the_old_ones_place(rig: Rig, way: Callable[[Rig], Disk]) -> None:
    d = way(rig)
    rig.api.VDI.set_name_label(d.live, "renamed since")
    rig.api.VDI.set_name_description(d.live, "and described")
    rig.api.VDI.set_tags(d.live, ["gold"])
    rig.api.VDI.add_to_other_config(d.live, "owner", "me")
    rig.api.VDI.add_to_xenstore_data(d.live, "key", "value")
    vbd = rig.vbd(d.live)
    sibling = rig.vdi(d.sr)
    rig.local.VDI.set_is_a_snapshot(sibling, True)
    rig.local.VDI.set_snapshot_of(sibling, d.live)
    old = rig.api.VDI.get_record(d.live)
    fresh = rig.api.VDI.revert(d.snapshot)
    new = rig.api.VDI.get_record(fresh)
    for field in ("name_label", "name_description", "tags", "xenstore_data", "type", "VBDs"):
        assert new[field] == old[field], field
    assert new["other_config"]["owner"] == "me"
    assert set(new["snapshots"]) == {d.snapshot, sibling}
    assert rig.api.VBD.get_VDI(vbd) == fresh
    rig.api.VBD.plug(vbd)


def test_the_fresh_disk_tells_whose_content_it_has(rig: Rig) -> None:
    d = disk(rig, "old")
    rig.api.VDI.remove_from_other_config(d.live, "content_id")
    rig.api.VDI.add_to_other_config(d.live, "content_id", "of what was written later")
    fresh = rig.api.VDI.revert(d.snapshot)
    of_snapshot = rig.api.VDI.get_other_config(d.snapshot)["content_id"]
    assert rig.api.VDI.get_other_config(fresh)["content_id"] == of_snapshot


def test_a_raw_disk_staysraw(rig: Rig) -> None:
    d = by_copy_of_a_raw_disk(rig)
    fresh = rig.api.VDI.revert(d.snapshot)
    assert rig.api.VDI.get_sm_config(fresh) == {"type": "raw"}


def test_forth_and_back_by_clone(rig: Rig) -> None:
    d = disk(rig, "old")
    second = rig.api.VDI.snapshot(d.live)
    fresh = rig.api.VDI.revert(d.snapshot)
    again = rig.api.VDI.revert(second)
    assert rig.read(again) == b"later"
    assert len({d.live, fresh, again}) == 3
    assert set(rig.api.VDI.get_snapshots(again)) == {d.snapshot, second}


@pytest.mark.parametrize(
    ("way", "command"),
    [
        (by_missing_capability, "vdi_clone"),
        (by_fault_38, "vdi_clone"),
        (by_copy_of_a_raw_disk, "vdi_create"),
        (by_copy_of_a_raw_disk, "vdi_activate"),
        (by_copy_of_a_raw_disk, "copy"),
    ],
)
def test_a_failing_fallback_changes_nothing(
    rig: Rig, way: Callable[[Rig], Disk], command: str
) -> None:
    d = way(rig)
    on_disk = {sr: set(disks) for sr, disks in rig.host.srs.items()}
    rig.host.faults[command] = Fault(44, "There is insufficient space")
    code = refusal(rig, d.snapshot)[0]
    assert code == ("INTERNAL_ERROR" if command == "copy" else "SR_BACKEND_FAILURE_44")
    assert {sr: set(disks) for sr, disks in rig.host.srs.items()} == on_disk
    assert rig.read(d.live) == b"later"
    assert not rig.host.devices
    assert not any(disk.attached for disks in rig.host.srs.values() for disk in disks.values())


def test_a_disk_that_cannot_be_destroyed_does_not_undo_the_revert(rig: Rig) -> None:
    d = disk(rig, "old")
    old_uuid = rig.api.VDI.get_uuid(d.live)
    rig.host.faults["vdi_delete"] = Fault(80, "VDI delete failed")
    fresh = rig.api.VDI.revert(d.snapshot)
    assert rig.read(fresh) == b"first"
    assert rig.api.VDI.get_snapshot_of(d.snapshot) == fresh
    assert rig.api.VDI.get_uuid(d.live) == old_uuid
    [message] = rig.api.message.get_all_records().values()
    assert (message["name"], message["obj_uuid"]) == ("VDI_REVERT_OLD_DISK_LEFT", old_uuid)


def test_records_that_the_driver_does_not_save_do_not_undo_the_revert(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    d = disk(rig, "old")
    rig.host.faults["vdi_update"] = Fault(46, "not now")
    fresh = rig.api.VDI.revert(d.snapshot)
    assert rig.api.VDI.get_snapshot_of(d.snapshot) == fresh
    assert rig.api.VDI.get_all_where(f'field "SR" = "{d.sr}"') == [d.snapshot, fresh]
    assert "the driver did not save the record" in caplog.text


# -- refusals, by the number of the check


def test_01_session(rig: Rig) -> None:
    d = disk(rig)
    # The PyPI client would log in again by itself.
    assert raw(rig, "VDI.revert", "OpaqueRef:none", d.snapshot) == [
        "SESSION_INVALID",
        "OpaqueRef:none",
    ]


def test_03_unknown_snapshot(rig: Rig) -> None:
    assert refusal(rig, "OpaqueRef:none") == ["HANDLE_INVALID", "VDI", "OpaqueRef:none"]


def test_05_sr_busy(rig: Rig) -> None:
    d = disk(rig)
    with held(rig, "sr_scan", lambda api: api.SR.scan(d.sr)):
        code, cls, ref, operation, task = failure_of(rig, d.snapshot)
    assert (code, cls, ref) == ("OTHER_OPERATION_IN_PROGRESS", "SR", d.sr)
    assert operation == "scan"
    assert task.startswith("OpaqueRef:")


@pytest.mark.parametrize("victim", ["snapshot", "live"])
def test_07_and_13_vdi_busy(rig: Rig, victim: str) -> None:
    """An operation that does not mark the SR: update marks the VDI only."""
    d = disk(rig)
    busy: str = getattr(d, victim)
    with held(rig, "vdi_update", lambda api: api.VDI.update(busy)):
        details = failure_of(rig, d.snapshot)
    assert details[:4] == ["OTHER_OPERATION_IN_PROGRESS", "VDI", busy, "update"]


def test_08_vbd_busy(rig: Rig) -> None:
    d = disk(rig)
    vbd = rig.vbd(d.snapshot, "RO")
    with held(rig, "vdi_attach", lambda api: api.VBD.plug(vbd)):
        details = failure_of(rig, d.snapshot)
    assert details[:4] == ["OTHER_OPERATION_IN_PROGRESS", "VDI", d.snapshot, "plug"]


def test_09_driver_cannot_clone(rig: Rig) -> None:
    d = disk(rig, "noclone")
    assert refusal(rig, d.snapshot) == ["SR_OPERATION_NOT_SUPPORTED", d.sr]


@pytest.mark.parametrize("victim", ["snapshot", "live"])
def test_10_and_15_cbt_metadata(rig: Rig, victim: str) -> None:
    d = disk(rig)
    vdi = getattr(d, victim)
    rig.server.xapi.db.put("VDI", vdi, type="cbt_metadata")
    assert refusal(rig, d.snapshot) == ["VDI_INCOMPATIBLE_TYPE", vdi, "cbt_metadata"]


def test_11_no_snapshot(rig: Rig) -> None:
    d = disk(rig)
    assert refusal(rig, d.live) == ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]


def test_12_the_disk_is_gone(rig: Rig) -> None:
    d = disk(rig)
    rig.api.VDI.destroy(d.live)
    assert refusal(rig, d.snapshot) == ["HANDLE_INVALID", "VDI", d.live]


def test_12_a_snapshot_of_nothing(rig: Rig) -> None:
    d = disk(rig)
    rig.local.VDI.set_snapshot_of(d.snapshot, "")
    assert refusal(rig, d.snapshot) == ["HANDLE_INVALID", "VDI", NULL]


@pytest.mark.parametrize("mode", ["RO", "RW"])
def test_14_the_disk_is_attached(rig: Rig, mode: str) -> None:
    d = disk(rig)
    rig.api.VBD.plug(rig.vbd(d.live, mode))
    assert refusal(rig, d.snapshot) == ["VDI_IN_USE", d.live, "revert_from"]


def test_14_the_disk_is_reserved(rig: Rig) -> None:
    d = disk(rig)
    rig.server.xapi.db.put("VBD", rig.vbd(d.live), reserved=True)
    assert refusal(rig, d.snapshot) == ["VDI_IN_USE", d.live, "revert_from"]


def test_16_physical_device(rig: Rig) -> None:
    d = disk(rig, "udev")
    assert refusal(rig, d.snapshot) == ["VDI_IS_A_PHYSICAL_DEVICE", d.live]


def test_17_tools_sr(rig: Rig) -> None:
    d = disk(rig)
    rig.server.xapi.db.put("SR", d.sr, is_tools_sr=True)
    assert refusal(rig, d.snapshot) == ["SR_OPERATION_NOT_SUPPORTED", d.sr]


def test_18_rrd(rig: Rig) -> None:
    d = disk(rig, type="rrd")
    assert refusal(rig, d.snapshot) == ["VDI_HAS_RRDS", d.live]


def test_20_no_pbd(rig: Rig) -> None:
    d = disk(rig)
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(d.sr)[0])
    assert refusal(rig, d.snapshot) == ["SR_HAS_NO_PBDS", d.sr]


def test_21_unmanaged(rig: Rig) -> None:
    d = disk(rig)
    rig.local.VDI.set_managed(d.snapshot, False)
    assert refusal(rig, d.snapshot) == ["VDI_NOT_MANAGED", d.snapshot]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (24, ["VDI_IN_USE"]),
        (16, ["SR_DEVICE_IN_USE"]),
        (39, ["SR_NOT_EMPTY"]),
        (46, ["SR_BACKEND_FAILURE_46", "", "the text", "words on stderr"]),
        (143, ["SR_BACKEND_FAILURE_143", "", "the text", "words on stderr"]),
    ],
)
def test_23_and_24_driver_faults(rig: Rig, number: int, expected: list[str]) -> None:
    d = disk(rig)
    rig.host.faults["vdi_revert"] = Fault(number, "the text")
    assert refusal(rig, d.snapshot) == expected


def test_23_the_vdi_is_missing(rig: Rig) -> None:
    d = disk(rig)
    rig.host.faults["vdi_revert"] = Fault(144, "gone")
    assert refusal(rig, d.snapshot) == ["VDI_MISSING", d.sr, d.snapshot]


def test_the_host_is_down(rig: Rig) -> None:
    d = disk(rig)
    rig.host.up = False
    host = rig.api.host.get_all()[0]
    assert refusal(rig, d.snapshot) == ["HOST_OFFLINE", host]


# -- what others see meanwhile


def test_marks_are_visible_and_others_wait(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        d = disk(rig)
        reverted: list[str] = []
        snapshots: list[str] = []
        with held(rig, "vdi_revert", lambda api: reverted.append(api.VDI.revert(d.snapshot))):
            [task] = rig.api.SR.get_current_operations(d.sr)
            assert rig.api.task.get_name_label(task) == "VDI.revert"
            assert rig.api.SR.get_current_operations(d.sr) == {task: "vdi_revert"}
            assert rig.api.VDI.get_current_operations(d.snapshot) == {task: "revert_to"}
            assert rig.api.VDI.get_current_operations(d.live) == {task: "revert_from"}
            assert rig.api.VDI.get_allowed_operations(d.live) == []
            mine = rig.login()
            waiter = threading.Thread(target=lambda: snapshots.append(mine.VDI.snapshot(d.live)))
            waiter.start()
            rig.host.gates["vdi_revert"].set()
            waiter.join(10)
        assert reverted == [d.live]
        assert [rig.api.VDI.get_snapshot_of(snapshot) for snapshot in snapshots] == [d.live]
        assert rig.api.SR.get_current_operations(d.sr) == {}
        assert rig.api.task.get_all() == []


def failure_of(rig: Rig, snapshot: str) -> list[str]:
    with pytest.raises(XenAPI.Failure) as failure:
        rig.api.VDI.revert(snapshot)
    details: list[str] = failure.value.details
    return details


def raw(rig: Rig, method: str, *params: object) -> list[str]:
    with xmlrpc.client.ServerProxy(rig.server.url) as proxy:
        reply: Any = getattr(proxy, method)(*params)
    description: list[str] = reply["ErrorDescription"]
    return description


@contextmanager
def held(rig: Rig, command: str, call: Callable[[Any], object]) -> Iterator[None]:
    """A call that is held inside the driver for the time of the block."""
    gate = rig.host.gates[command] = threading.Event()
    rig.host.reached.clear()
    api = rig.login()
    thread = threading.Thread(target=lambda: call(api))
    thread.start()
    assert rig.host.reached.wait(10)
    try:
        yield
    finally:
        gate.set()
        thread.join(10)
