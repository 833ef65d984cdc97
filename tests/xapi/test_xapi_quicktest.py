"""Upstream's quicktest, as far as it is about storage: Q10-Q35, on every SR of the rig.

What is about the wire (export, events) is in the tests of the wire; what needs bytes on a
device is in the scenarios.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xapi.testing import CAPABILITIES, CBT, Fault, Rig, failure, serve

NULL = "OpaqueRef:NULL"
MIB = 1 << 20
KINDS = ("mem", "cbt", "old")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    types = {
        "mem": (*CAPABILITIES, "VDI_REVERT"),
        "cbt": (*CAPABILITIES, *CBT),
        "old": CAPABILITIES,
        "ha": (*CAPABILITIES, "VDI_ATTACH_OFFLINE"),
    }
    with serve(tmp_path, types, patience=0.05) as rig:
        yield rig


@pytest.fixture(params=KINDS)
def sr(rig: Rig, request: pytest.FixtureRequest) -> str:
    return rig.sr(request.param)


# -- the life of a VDI


@pytest.mark.parametrize("size", [1, MIB - 1, MIB, MIB + 1, 4 * MIB + 511])
def test_q10_odd_sizes(rig: Rig, sr: str, size: int) -> None:
    vdi = rig.vdi(sr, virtual_size=str(size))
    assert int(rig.api.VDI.get_virtual_size(vdi)) >= size
    rig.api.VDI.destroy(vdi)
    assert rig.api.SR.get_VDIs(sr) == []


def test_q11_generate_config(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr)
    [host] = rig.api.host.get_all()
    assert rig.api.VDI.get_uuid(vdi) in rig.api.VDI.generate_config(host, vdi)
    assert failure(rig.api.VDI.generate_config, NULL, vdi)[:2] == ["HANDLE_INVALID", "host"]


def test_q12_q21_q22_update_and_scan_leave_records_alone(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr, b"kept", name_label="it's", tags=["a"])
    rig.api.VDI.snapshot(vdi)
    rig.api.SR.scan(sr)
    before = rig.records()
    rig.api.VDI.update(vdi)
    rig.api.SR.update(sr)
    rig.api.SR.scan(sr)
    assert rig.records() == before


def test_q13_resize(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr)
    target = int(rig.api.VDI.get_virtual_size(vdi)) + MIB
    rig.api.VDI.resize(vdi, str(target))
    assert int(rig.api.VDI.get_virtual_size(vdi)) >= target


def test_q14_q15_introducing_and_forgetting(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr)
    record = rig.api.VDI.get_record(vdi)
    assert failure(rig.api.VDI.db_forget, vdi) == ["PERMISSION_DENIED", ""]

    def introduce(uuid: str, location: str) -> list[str]:
        call = rig.local.VDI.pool_introduce
        return failure(call, uuid, "n", "", sr, "user", False, False, {}, location)

    fresh = "00000000-1111-4222-8333-444444444444"
    assert introduce(record["uuid"], fresh)[0] == "DB_UNIQUENESS_CONSTRAINT_VIOLATION"
    assert introduce(fresh, record["location"])[0] == "LOCATION_NOT_UNIQUE"


def test_q16_snapshot(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr, b"then", tags=["a", "b"])
    before = datetime.now(UTC) - timedelta(seconds=1)
    snapshot = rig.api.VDI.snapshot(vdi)
    record, live = rig.api.VDI.get_record(snapshot), rig.api.VDI.get_record(vdi)
    assert (record["is_a_snapshot"], record["snapshot_of"]) == (True, vdi)
    when = datetime.strptime(str(record["snapshot_time"]), "%Y%m%dT%H:%M:%SZ")
    assert before <= when.replace(tzinfo=UTC) <= datetime.now(UTC)
    assert record["virtual_size"] == live["virtual_size"]
    assert record["tags"] == ["a", "b"]
    assert record["location"] != live["location"]
    rig.api.VDI.update(snapshot)
    assert rig.api.VDI.get_record(snapshot) == record


def test_q17_clone(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr, b"then")
    clone = rig.api.VDI.clone(vdi)
    record = rig.api.VDI.get_record(clone)
    assert (record["is_a_snapshot"], record["snapshot_of"]) == (False, NULL)
    assert record["virtual_size"] == rig.api.VDI.get_virtual_size(vdi)
    assert rig.read(clone, 4) == b"then"


def test_q18_q19_plugged_into_dom0(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr, b"content")
    vbd = rig.vbd(vdi)
    rig.api.VBD.plug(vbd)
    device = rig.host.devices["/dev/" + rig.api.VBD.get_device(vbd)]
    wanted = hashlib.md5(device.content, usedforsecurity=False).hexdigest()
    snapshot = rig.api.VDI.snapshot(vdi)
    device.content[:3] = b"new"
    rig.api.VBD.unplug(vbd)
    assert rig.api.VDI.checksum(snapshot) == wanted
    assert rig.api.VDI.checksum(vdi) != wanted
    assert rig.host.devices == {}


def test_q23_probe(rig: Rig, sr: str) -> None:
    [pbd] = rig.api.SR.get_PBDs(sr)
    [host] = rig.api.host.get_all()
    kind, uuid = rig.api.SR.get_type(sr), rig.api.SR.get_uuid(sr)
    rig.api.PBD.unplug(pbd)
    assert rig.api.SR.get_live_hosts(sr) == []
    found = rig.api.SR.probe(host, rig.api.PBD.get_device_config(pbd), kind, {})
    assert f"<SRlist><SR><UUID>{uuid}</UUID></SR></SRlist>" in found
    rig.api.PBD.plug(pbd)
    assert rig.api.SR.get_live_hosts(sr) == [host]
    details = failure(rig.api.SR.probe_ext, host, {}, kind, {})
    assert details == ["SR_OPERATION_NOT_SUPPORTED", NULL]
    assert rig.api.SR.get_data_sources(sr) == []


def test_q24_names(rig: Rig, sr: str) -> None:
    rig.api.SR.set_name_label(sr, "label")
    rig.api.SR.set_name_description(sr, "description")
    record = rig.api.SR.get_record(sr)
    assert (record["name_label"], record["name_description"]) == ("label", "description")


# -- changed blocks


def test_q25_q26_q28_tracking(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr("cbt"))
    for _ in range(2):
        rig.api.VDI.enable_cbt(vdi)
    assert rig.host.commands().count("vdi_enable_cbt") == 1
    snapshot = rig.api.VDI.snapshot(vdi)
    assert rig.api.VDI.get_cbt_enabled(snapshot)
    for twin in (rig.api.VDI.clone(vdi), rig.api.VDI.copy(vdi)):
        assert not rig.api.VDI.get_cbt_enabled(twin)
    for _ in range(2):
        rig.api.VDI.disable_cbt(vdi)
    assert not rig.api.VDI.get_cbt_enabled(vdi)
    assert rig.api.VDI.get_cbt_enabled(snapshot)


def test_q27_data_destroy(rig: Rig) -> None:
    sr = rig.sr("cbt")
    vdi = rig.vdi(sr, b"old")
    rig.api.VDI.enable_cbt(vdi)
    snapshot = rig.api.VDI.snapshot(vdi)
    vbd = rig.vbd(snapshot, "RO")
    rig.api.VDI.data_destroy(snapshot)
    record = rig.api.VDI.get_record(snapshot)
    assert (record["type"], record["cbt_enabled"], record["VBDs"]) == ("cbt_metadata", True, [])
    assert record["other_config"]["content_id"] == "/No content: this is a cbt_metadata VDI/"
    assert vbd not in rig.api.VBD.get_all()
    assert rig.host.disk(record["uuid"]).content == b""
    expected = ["VDI_INCOMPATIBLE_TYPE", snapshot, "cbt_metadata"]
    assert failure(rig.api.VDI.clone, snapshot) == expected
    assert failure(rig.api.VDI.get_nbd_info, snapshot) == expected
    assert rig.api.VDI.get_nbd_info(vdi) == []
    bitmap = rig.api.VDI.list_changed_blocks(snapshot, vdi)
    assert base64.b64decode(bitmap) == b"\x80"
    other = rig.vdi(rig.sr("cbt"))
    expected = ["INVALID_VALUE", "vdi_from", snapshot]
    assert failure(rig.api.VDI.list_changed_blocks, snapshot, other) == expected


def test_q27_data_destroy_waits_for_the_last_user(rig: Rig, monkeypatch: Any) -> None:
    vdi = rig.vdi(rig.sr("cbt"))
    rig.api.VDI.enable_cbt(vdi)
    snapshot = rig.api.VDI.snapshot(vdi)
    vbd = rig.vbd(snapshot, "RO")
    rig.api.VBD.plug(vbd)
    monkeypatch.setattr("xapi.vdi_cbt._PATIENCE", 0.01)
    assert failure(rig.api.VDI.data_destroy, snapshot) == ["VDI_IN_USE", snapshot, "data_destroy"]
    monkeypatch.setattr("xapi.vdi_cbt._PATIENCE", 10)
    destroying = threading.Thread(target=rig.login().VDI.data_destroy, args=(snapshot,))
    destroying.start()
    while not rig.api.VDI.get_current_operations(snapshot):
        assert destroying.is_alive()
    rig.api.VBD.unplug(vbd)
    destroying.join(10)
    assert rig.api.VDI.get_type(snapshot) == "cbt_metadata"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_driver_that_does_not_switch(rig: Rig, wanted: bool) -> None:
    vdi = rig.vdi(rig.sr("cbt"))
    rig.api.VDI.enable_cbt(vdi)
    command = "vdi_disable_cbt" if wanted else "vdi_enable_cbt"
    if not wanted:
        rig.api.VDI.disable_cbt(vdi)
    rig.host.faults[command] = Fault(457, "no")
    call = rig.api.VDI.disable_cbt if wanted else rig.api.VDI.enable_cbt
    assert failure(call, vdi)[0] == "SR_BACKEND_FAILURE_457"
    assert rig.api.VDI.get_cbt_enabled(vdi) is wanted


# -- data


def test_q29_q35_a_copy_in_the_background(rig: Rig, sr: str) -> None:
    vdi = rig.vdi(sr, b"written")
    task = rig.api.Async.VDI.copy(vdi, rig.sr(), NULL, NULL)
    ended = rig.until_ended(task)
    assert ended["status"] == "success"
    found = re.fullmatch("<value>(OpaqueRef:.*)</value>", ended["result"])
    assert found is not None
    copy = found[1]
    assert rig.read(copy, 7) == b"written"
    assert rig.api.VDI.checksum(copy) == rig.api.VDI.checksum(vdi)


def test_q33_a_copy_into_another_vdi(rig: Rig, sr: str) -> None:
    base, source = rig.vdi(sr, b"base"), rig.vdi(sr, b"next")
    target = rig.api.VDI.copy(base, NULL, NULL, NULL)
    assert rig.api.VDI.copy(source, NULL, base, target) == target
    assert rig.read(target, 4) == b"next"
    assert rig.api.VDI.get_sm_config(target) == {}


# -- what else there is to set


def test_on_boot_and_caching(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vm = rig.vm(vdi)
    rig.api.VM.start(vm, False, False)
    assert failure(rig.api.VDI.set_on_boot, vdi, "reset")[0] == "VDI_IN_USE"
    rig.api.VM.hard_shutdown(vm)
    rig.api.VDI.set_on_boot(vdi, "reset")
    rig.api.VDI.set_allow_caching(vdi, True)
    record = rig.api.VDI.get_record(vdi)
    assert (record["on_boot"], record["allow_caching"]) == ("reset", True)
    rig.write(vdi, b"lost")
    rig.api.VM.start(vm, False, False)
    assert rig.read(vdi, 4) == bytes(4)
    rig.write(vdi, b"lost")
    rig.api.VM.clean_reboot(vm)
    assert rig.read(vdi, 4) == bytes(4)
    rig.api.VM.hard_shutdown(vm)
    rig.vbd(vdi)
    expected = ["VM_BAD_POWER_STATE", rig.server.xapi.dom0, "halted", "running"]
    assert failure(rig.api.VDI.set_on_boot, vdi, "persist") == expected


def test_what_was_once(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    [host] = rig.api.host.get_all()
    assert failure(rig.api.VDI.force_unlock, vdi) == ["MESSAGE_DEPRECATED"]
    make = failure(rig.api.SR.make, host, {}, "0", "n", "", "mem", "user", {})
    assert make == ["MESSAGE_DEPRECATED"]
    vbd = rig.vbd(vdi)
    rig.api.VBD.plug(vbd)
    expected = ["SR_OPERATION_NOT_SUPPORTED", rig.api.VDI.get_SR(vdi)]
    assert failure(rig.api.VBD.pause, vbd) == expected
    assert failure(rig.api.VBD.unpause, vbd, "token") == expected


def test_ha_statefiles(rig: Rig) -> None:
    able, unable = rig.sr("ha"), rig.sr("mem")
    rig.api.SR.assert_can_host_ha_statefile(able)
    expected = ["SR_OPERATION_NOT_SUPPORTED", unable]
    assert failure(rig.api.SR.assert_can_host_ha_statefile, unable) == expected
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(able)[0])
    assert failure(rig.api.SR.assert_can_host_ha_statefile, able) == ["SR_HAS_NO_PBDS", able]
