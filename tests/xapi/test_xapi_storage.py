"""SRs, PBDs, VDIs and VBDs from the first to the last, and what they refuse."""

from __future__ import annotations

import threading
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.backend import PluginReply
from xapi.testing import CAPABILITIES, UNIMPLEMENTED, Fault, Rig, failure, serve

NULL = "OpaqueRef:NULL"
UUID = "00000000-1111-4222-8333-444444444444"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, patience=0.05) as rig:
        yield rig


# -- drivers


def test_sm_records(rig: Rig) -> None:
    records = rig.api.SM.get_all_records().values()
    record = next(record for record in records if record["type"] == "mem")
    assert record["features"]["VDI_RESET_ON_BOOT"] == "2"
    assert record["features"]["VDI_REVERT"] == "1"
    assert "ATOMIC_PAUSE" not in record["features"]
    assert record["capabilities"] == sorted(record["features"])
    assert record["configuration"] == {"device": "any text"}
    assert sorted(rig.api.SR.get_supported_types()) == ["mem", "old"]


def test_drivers_come_and_go(rig: Rig) -> None:
    kept = rig.api.SM.get_all_where('field "type" = "mem"')
    rig.host.capabilities["new"] = CAPABILITIES
    del rig.host.capabilities["old"]
    rig.server.discover_drivers()
    assert sorted(rig.api.SR.get_supported_types()) == ["mem", "new"]
    assert rig.api.SM.get_all_where('field "type" = "mem"') == kept


def test_a_host_that_is_down_keeps_its_drivers(rig: Rig) -> None:
    rig.host.up = False
    rig.server.discover_drivers()
    assert sorted(rig.api.SR.get_supported_types()) == ["mem", "old"]


def test_vdi_revert_shows_in_allowed_operations(rig: Rig) -> None:
    assert "vdi_revert" in rig.api.SR.get_allowed_operations(rig.sr("mem"))
    assert "vdi_revert" not in rig.api.SR.get_allowed_operations(rig.sr("old"))


# -- SR and PBD


def test_an_sr_from_creation_to_destruction(rig: Rig) -> None:
    sr = rig.sr()
    record = rig.api.SR.get_record(sr)
    assert record["physical_size"] == str(1 << 40)
    assert rig.host.commands()[-3:] == ["sr_create", "sr_attach", "sr_scan"]
    [pbd] = record["PBDs"]
    assert rig.api.PBD.get_currently_attached(pbd)
    assert failure(rig.api.SR.destroy, sr) == ["SR_HAS_PBD", sr]
    assert failure(rig.api.SR.forget, sr) == ["SR_HAS_PBD", sr]
    vdi = rig.vdi(sr)
    rig.api.PBD.unplug(pbd)
    assert failure(rig.api.SR.destroy, sr) == ["SR_NOT_EMPTY", sr]
    rig.api.PBD.plug(pbd)
    rig.api.VDI.destroy(vdi)
    rig.api.PBD.unplug(pbd)
    rig.api.SR.destroy(sr)
    assert failure(rig.api.SR.get_uuid, sr) == ["HANDLE_INVALID", "SR", sr]
    assert rig.api.PBD.get_all() == []
    assert rig.host.srs == {}


@pytest.mark.parametrize("command", ["sr_create", "sr_attach", "sr_scan"])
def test_a_failing_sr_create_leaves_nothing(rig: Rig, command: str) -> None:
    rig.host.faults[command] = Fault(77, "Logical Volume group creation failed")
    with pytest.raises(XenAPI.Failure) as error:
        rig.sr()
    assert error.value.details == [
        "SR_BACKEND_FAILURE_77",
        "",
        "Logical Volume group creation failed",
        "words on stderr",
    ]
    assert rig.api.SR.get_all() == []
    assert rig.api.PBD.get_all() == []
    assert (rig.host.attached_srs, rig.host.srs) == (set(), {})


def test_an_sr_without_its_device(rig: Rig) -> None:
    host = rig.api.host.get_all()[0]
    details = failure(rig.api.SR.create, host, {}, "0", "n", "", "mem", "", False)
    assert details[:3] == [
        "SR_BACKEND_FAILURE_90",
        "",
        "The request is missing the device parameter",
    ]


def test_an_unknown_type(rig: Rig) -> None:
    host = rig.api.host.get_all()[0]
    unknown = ["SR_UNKNOWN_DRIVER", "zfs"]
    assert failure(rig.api.SR.create, host, {}, "0", "n", "", "zfs", "", False, {}) == unknown
    assert failure(rig.api.SR.introduce, UUID, "n", "", "zfs", "", False, {}) == unknown
    assert failure(rig.api.SR.probe, host, {}, "zfs", {}) == unknown


def test_forget_and_introduce(rig: Rig) -> None:
    sr = rig.sr()
    uuid, content = rig.api.SR.get_uuid(sr), b"stays"
    vdi_uuid = rig.api.VDI.get_uuid(rig.vdi(sr, content))
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
    rig.api.SR.forget(sr)
    assert rig.api.VDI.get_all() == []
    again = rig.api.SR.introduce(uuid, "again", "", "mem", "user", False, {})
    assert failure(rig.api.SR.introduce, uuid, "n", "", "mem", "", False) == [
        "SR_UUID_EXISTS",
        uuid,
    ]
    assert failure(rig.api.SR.scan, again) == ["SR_HAS_NO_PBDS", again]
    assert failure(rig.api.SR.destroy, again) == ["SR_HAS_NO_PBDS", again]
    record = {"host": rig.api.host.get_all()[0], "SR": again, "device_config": {"device": "x"}}
    pbd = rig.api.PBD.create(record)
    assert failure(rig.api.PBD.create, record) == ["PBD_EXISTS", again, record["host"], pbd]
    rig.api.PBD.plug(pbd)
    rig.api.PBD.plug(pbd)
    rig.api.SR.scan(again)
    assert rig.read(rig.api.VDI.get_by_uuid(vdi_uuid)) == content
    assert failure(rig.api.PBD.destroy, pbd)[0] == "OPERATION_NOT_ALLOWED"
    rig.api.PBD.unplug(pbd)
    rig.api.PBD.unplug(pbd)
    rig.api.PBD.destroy(pbd)
    assert rig.api.SR.get_PBDs(again) == []


def test_a_malformed_sr_uuid(rig: Rig) -> None:
    details = failure(rig.api.SR.introduce, "nope", "n", "", "mem", "", False, {})
    assert details == ["UUID_INVALID", "SR", "nope"]


def test_the_client_does_not_say_who_is_master(rig: Rig) -> None:
    [pbd] = rig.api.SR.get_PBDs(rig.sr())
    details = failure(rig.api.PBD.set_device_config, pbd, {"SRmaster": "true"})
    assert details[0] == "VALUE_NOT_SUPPORTED"
    rig.api.PBD.set_device_config(pbd, {"device": "else"})
    assert rig.api.PBD.get_device_config(pbd) == {"device": "else"}


def test_an_indestructible_sr(rig: Rig) -> None:
    sr = rig.sr()
    rig.api.SR.add_to_other_config(sr, "indestructible", "true")
    assert failure(rig.api.SR.destroy, sr) == ["SR_INDESTRUCTIBLE", sr]


def test_an_sr_with_a_hosts_cache(rig: Rig) -> None:
    sr, host = rig.sr(), rig.server.xapi.host
    rig.server.xapi.db.put("host", host, local_cache_sr=sr)
    assert failure(rig.api.SR.destroy, sr) == ["SR_IS_CACHE_SR", host]


def test_a_failing_sr_destroy_leaves_it_unplugged(rig: Rig) -> None:
    sr = rig.sr()
    [pbd] = rig.api.SR.get_PBDs(sr)
    rig.api.PBD.unplug(pbd)
    rig.host.faults["sr_delete"] = Fault(39, "not empty")
    assert failure(rig.api.SR.destroy, sr) == ["SR_NOT_EMPTY"]
    assert not rig.api.PBD.get_currently_attached(pbd)
    assert rig.host.attached_srs == set()


def test_probe(rig: Rig) -> None:
    uuid = rig.api.SR.get_uuid(rig.sr())
    found = rig.api.SR.probe(rig.api.host.get_all()[0], {"device": "x"}, "mem")
    assert f"<UUID>{uuid}</UUID>" in found
    request = rig.host.calls[-1][1]
    assert request["device_config"] == {"device": "x", "SRmaster": "true"}
    assert "sr_uuid" not in request


def test_names_and_update(rig: Rig) -> None:
    sr = rig.sr()
    rig.api.SR.set_name_label(sr, "new")
    rig.api.SR.set_name_description(sr, "text")
    assert rig.host.commands()[-2:] == ["sr_update", "sr_update"]
    assert rig.api.SR.get_by_name_label("new") == [sr]
    rig.api.SR.update(sr)
    rig.api.SR.set_shared(sr, True)
    assert rig.api.SR.get_shared(sr)


def test_a_plugged_pbd_with_an_attached_disk_stays(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(sr)
    rig.api.VBD.plug(rig.vbd(vdi))
    [pbd] = rig.api.SR.get_PBDs(sr)
    assert failure(rig.api.PBD.unplug, pbd) == ["VDI_IN_USE", vdi]


def test_scan_follows_the_disk(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(sr)
    rig.host.srs[rig.api.SR.get_uuid(sr)].clear()
    rig.api.SR.scan(sr)
    assert failure(rig.api.VDI.get_uuid, vdi) == ["HANDLE_INVALID", "VDI", vdi]


# -- VDI


def test_create_and_destroy(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(
        sr, virtual_size="1000", name_label="n", tags=["t"], other_config={"a": "b"}, type="system"
    )
    record = rig.api.VDI.get_record(vdi)
    assert record["virtual_size"] == "1024"
    assert (record["name_label"], record["tags"], record["type"]) == ("n", ["t"], "system")
    assert record["other_config"] == {"a": "b"}
    assert record["location"] == record["uuid"]
    assert record["allowed_operations"] == [
        *("clone", "copy", "resize", "snapshot", "destroy", "forget", "update", "generate_config")
    ]
    assert rig.api.SR.get_VDIs(sr) == [vdi]
    vbd = rig.vbd(vdi)
    rig.api.VDI.destroy(vdi)
    assert failure(rig.api.VBD.get_uuid, vbd) == ["HANDLE_INVALID", "VBD", vbd]
    assert failure(rig.api.VDI.destroy, vdi) == ["HANDLE_INVALID", "VDI", vdi]


@pytest.mark.parametrize("size", ["0", "-1", str(1 << 62)])
def test_sizes_out_of_range(rig: Rig, size: str) -> None:
    sr = rig.sr()
    with pytest.raises(XenAPI.Failure) as error:
        rig.vdi(sr, virtual_size=size)
    assert error.value.details[:3] == ["SR_BACKEND_FAILURE_79", "", "VDI Invalid size"]
    assert rig.api.VDI.get_all() == []


def test_snapshot_and_clone(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr(), b"hello", tags=["t"], other_config={"k": "v"})
    rig.api.VBD.plug(rig.vbd(vdi))
    snapshot = rig.api.VDI.snapshot(vdi, {"type": "double"})
    assert rig.host.calls[-2][1]["driver_params"] == {"type": "double"}
    assert rig.host.commands()[-2:] == ["vdi_snapshot", "vdi_update"]
    record = rig.api.VDI.get_record(snapshot)
    assert record["is_a_snapshot"]
    assert record["snapshot_of"] == vdi
    assert record["tags"] == ["t"]
    assert record["other_config"] == rig.api.VDI.get_other_config(vdi)
    assert set(record["other_config"]) == {"k", "content_id"}
    assert str(record["snapshot_time"]) > "2020"
    assert rig.api.VDI.get_snapshots(vdi) == [snapshot]
    clone = rig.api.VDI.clone(snapshot)
    record = rig.api.VDI.get_record(clone)
    assert not record["is_a_snapshot"]
    assert record["snapshot_of"] == NULL
    assert record["name_label"] == "disk"
    assert rig.read(clone) == b"hello"


def test_a_raw_disk_is_cloned_by_copying_but_not_snapshotted(rig: Rig) -> None:
    sr = rig.sr()
    raw = rig.vdi(sr, b"hello", sm_config={"type": "raw"}, name_label="raw one")
    assert failure(rig.api.VDI.snapshot, raw) == ["UNIMPLEMENTED_IN_SM_BACKEND", sr]
    clone = rig.api.VDI.clone(raw)
    assert rig.read(clone) == b"hello"
    assert rig.api.VDI.get_name_label(clone) == "raw one"
    assert rig.api.VDI.get_sm_config(clone) == {"type": "raw"}


def test_copy_to_another_sr(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr(), b"hello")
    other = rig.sr("old")
    copy = rig.api.VDI.copy(vdi, other)
    assert rig.api.VDI.get_SR(copy) == other
    assert rig.read(copy) == b"hello"
    assert rig.api.VBD.get_all() == []
    assert not rig.host.devices
    here = rig.api.VDI.copy(vdi)
    assert rig.api.VDI.get_SR(here) == rig.api.VDI.get_SR(vdi)


def test_copy_into_a_vdi(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(sr, b"hello")
    target, small = rig.vdi(sr), rig.vdi(sr, virtual_size="512")
    assert rig.api.VDI.copy(vdi, NULL, NULL, target) == target
    assert rig.read(target) == b"hello"
    needed = rig.api.VDI.get_virtual_size(vdi)
    assert failure(rig.api.VDI.copy, vdi, NULL, NULL, small) == ["VDI_TOO_SMALL", small, needed]
    rig.local.VDI.set_read_only(target, True)
    assert failure(rig.api.VDI.copy, vdi, NULL, NULL, target) == ["VDI_READONLY", target]


def test_copy_of_an_attached_disk(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr(), b"hello")
    vbd = rig.vbd(vdi)
    rig.api.VBD.plug(vbd)
    assert failure(rig.api.VDI.copy, vdi) == ["VDI_IN_USE", vdi, "copy"]
    rig.api.VBD.unplug(vbd)
    rig.api.VBD.plug(rig.vbd(vdi, "RO"))
    assert rig.read(rig.api.VDI.copy(vdi)) == b"hello"
    assert len(rig.host.devices) == 1


def test_a_failing_copy_leaves_nothing(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr(), b"hello")
    before = rig.records()["VDI"]
    rig.host.faults["copy"] = Fault(5, "the device went away")
    assert failure(rig.api.VDI.copy, vdi) == ["INTERNAL_ERROR", "the device went away"]
    assert rig.records()["VDI"] == before
    assert rig.api.VBD.get_all() == []
    assert not rig.host.devices


def test_resize(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.api.VDI.resize(vdi, "2097152")
    assert rig.api.VDI.get_virtual_size(vdi) == "2097152"
    details = failure(rig.api.VDI.resize, vdi, "1")
    assert details[2] == "VDI Invalid size [opterr=shrinking not allowed]"
    sr = rig.api.VDI.get_SR(vdi)
    assert failure(rig.api.VDI.resize_online, vdi, "9") == ["SR_OPERATION_NOT_SUPPORTED", sr]
    rig.api.VBD.plug(rig.vbd(vdi))
    assert failure(rig.api.VDI.resize, vdi, "4194304") == ["VDI_IN_USE", vdi, "resize"]


def test_allowed_operations_of_an_attached_disk(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.api.VBD.plug(rig.vbd(vdi, "RO"))
    assert set(rig.api.VDI.get_allowed_operations(vdi)) == {"snapshot", "clone", "copy"}


def test_update_and_names(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.api.VDI.update(vdi)
    rig.api.VDI.set_name_label(vdi, "new")
    assert rig.host.commands()[-2:] == ["vdi_update", "vdi_update"]
    rig.host.faults["vdi_update"] = Fault(46, "no")
    rig.api.VDI.set_name_description(vdi, "the driver need not know")
    assert rig.api.VDI.get_name_description(vdi) == "the driver need not know"
    assert failure(rig.api.VDI.update, vdi)[0] == "SR_BACKEND_FAILURE_46"


def test_forget(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(sr)
    vbd, uuid = rig.vbd(vdi), rig.api.VDI.get_uuid(vdi)
    rig.api.VDI.forget(vdi)
    assert vbd not in rig.api.VBD.get_all()
    rig.api.SR.scan(sr)
    assert rig.api.VDI.get_by_uuid(uuid) != vdi


def test_sharable_and_reset_disks_are_not_snapshotted(rig: Rig) -> None:
    sr = rig.sr()
    sharable = rig.vdi(sr, sharable=True)
    assert failure(rig.api.VDI.snapshot, sharable) == ["VDI_IS_SHARABLE", sharable]
    reset = rig.vdi(sr)
    rig.server.xapi.db.put("VDI", reset, on_boot="reset")
    code = "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"
    assert failure(rig.api.VDI.snapshot, reset) == [code]
    assert failure(rig.api.VDI.copy, reset) == [code]


def test_creating_cbt_metadata(rig: Rig) -> None:
    with pytest.raises(XenAPI.Failure) as error:
        rig.vdi(rig.sr(), type="cbt_metadata")
    assert error.value.details == ["VDI_INCOMPATIBLE_TYPE", NULL, "cbt_metadata"]


# -- records that belong to drivers


def introduced(sr: str, uuid: str = UUID, location: str = UUID) -> tuple[object, ...]:
    return (uuid, "n", "", sr, "user", False, False, {}, location)


def test_db_introduce_and_forget(rig: Rig) -> None:
    sr = rig.sr()
    assert failure(rig.api.VDI.db_introduce, *introduced(sr)) == ["PERMISSION_DENIED", ""]
    vdi = rig.local.VDI.db_introduce(*introduced(sr))
    assert rig.api.VDI.get_record(vdi)["managed"]
    assert failure(rig.local.VDI.db_introduce, *introduced(sr)) == ["LOCATION_NOT_UNIQUE", sr, UUID]
    taken = ["DB_UNIQUENESS_CONSTRAINT_VIOLATION", "VDI", "uuid", UUID]
    assert failure(rig.local.VDI.db_introduce, *introduced(sr, location="else")) == taken
    bad = failure(rig.local.VDI.db_introduce, *introduced(sr, "nope", "else"))
    assert bad == ["UUID_INVALID", "VDI", "nope"]
    assert failure(rig.api.VDI.db_forget, vdi) == ["PERMISSION_DENIED", ""]
    rig.local.VDI.db_forget(vdi)
    assert rig.api.VDI.get_all() == []


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("managed", False, False),
        ("missing", True, True),
        ("read_only", True, True),
        ("sharable", True, True),
        ("virtual_size", "7", "7"),
        ("physical_utilisation", 7, "7"),
        ("is_a_snapshot", True, True),
        ("snapshot_of", NULL, NULL),
        ("cbt_enabled", True, True),
        (
            "snapshot_time",
            xmlrpc.client.DateTime("20260102T03:04:05Z"),
            xmlrpc.client.DateTime("20260102T03:04:05Z"),
        ),
    ],
)
def test_setters_of_drivers(rig: Rig, field: str, value: object, shown: object) -> None:
    vdi = rig.vdi(rig.sr())
    denied = failure(getattr(rig.api.VDI, f"set_{field}"), vdi, value)
    assert denied == ["PERMISSION_DENIED", ""]
    getattr(rig.local.VDI, f"set_{field}")(vdi, value)
    assert getattr(rig.api.VDI, f"get_{field}")(vdi) == shown


def test_a_drivers_session_ends_with_its_run_and_covers_one_sr(rig: Rig) -> None:
    sr, other = rig.sr(), rig.sr()
    foreign = rig.vdi(other)
    seen: list[list[str]] = []

    def peek(api: Any, session: str) -> None:
        seen.append([api.session.get_other_config(session, session)["Value"]["_sm_session"]])
        seen.append(api.VDI.set_managed(session, foreign, False)["ErrorDescription"])

    rig.host.gates["sr_scan"] = threading.Event()
    scanner = threading.Thread(target=rig.login().SR.scan, args=(sr,))
    scanner.start()
    assert rig.host.reached.wait(10)
    session = rig.host.calls[-1][1]["session_ref"]
    with xmlrpc.client.ServerProxy(rig.server.url) as proxy:
        peek(proxy, session)
        rig.host.gates["sr_scan"].set()
        scanner.join(10)
        ended: Any = proxy.pool.get_all(session)
    assert seen == [[sr], ["PERMISSION_DENIED", ""]]
    assert ended["ErrorDescription"] == ["SESSION_INVALID", session]


def test_introduce_asks_the_driver(rig: Rig) -> None:
    sr = rig.sr()
    expected = ["SR_OPERATION_NOT_SUPPORTED", sr]
    assert failure(rig.api.VDI.introduce, *introduced(sr)) == expected


# -- what goes wrong in a driver


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (PluginReply("out", "err", 1), ["SR_BACKEND_FAILURE", "non-zero exit", "out", "err"]),
        (PluginReply("", "", -9), ["SR_BACKEND_FAILURE", "received signal: 9", "", ""]),
    ],
)
def test_a_dead_driver(rig: Rig, reply: PluginReply, expected: list[str]) -> None:
    sr = rig.sr()
    rig.host.replies["sr_scan"] = reply
    assert failure(rig.api.SR.scan, sr) == expected


@pytest.mark.parametrize("stdout", ["", "Traceback", "<methodResponse>", "\ud800"])
def test_a_driver_that_talks_nonsense(rig: Rig, stdout: str) -> None:
    sr = rig.sr()
    rig.host.replies["sr_scan"] = PluginReply(stdout, "", 0)
    assert failure(rig.api.SR.scan, sr)[0] == "INTERNAL_ERROR"


def test_answers_of_the_wrong_shape(rig: Rig) -> None:
    sr = rig.sr()
    vdi = rig.vdi(sr)
    command = "vdi_clone"
    value: Any
    for value in ("text", {}, {"uuid": UUID}):
        document = xmlrpc.client.dumps((value,), methodresponse=True)
        rig.host.replies[command] = PluginReply(document, "", 0)
        assert failure(rig.api.VDI.clone, vdi)[0] == "INTERNAL_ERROR"
    value = {"uuid": UUID, "location": UUID}
    document = xmlrpc.client.dumps((value,), methodresponse=True)
    rig.host.replies["vdi_clone"] = PluginReply(document, "", 0)
    assert failure(rig.api.VDI.clone, vdi) == [
        "INTERNAL_ERROR",
        f"the driver made VDI {UUID} but no record of it",
    ]


def test_characters_that_xml_cannot_carry(rig: Rig) -> None:
    sr = rig.sr()
    rig.host.replies["sr_scan"] = PluginReply("\x00\x1b", "\ud800", 1)
    assert failure(rig.api.SR.scan, sr)[2:] == ["\ufffd\ufffd", "\ufffd"]


def test_an_sr_operation_that_is_not_implemented(rig: Rig) -> None:
    sr = rig.sr()
    rig.host.faults["sr_scan"] = UNIMPLEMENTED
    assert failure(rig.api.SR.scan, sr) == ["SR_OPERATION_NOT_SUPPORTED", sr]


# -- VBD


def test_plug_and_unplug(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = rig.vbd(vdi)
    rig.api.VBD.plug(vbd)
    record = rig.api.VBD.get_record(vbd)
    assert (record["currently_attached"], record["device"]) == (True, "mem0")
    assert record["allowed_operations"] == ["unplug", "unplug_force"]
    assert failure(rig.api.VBD.plug, vbd) == ["DEVICE_ALREADY_ATTACHED", "mem0"]
    details = failure(rig.api.VBD.destroy, vbd)
    assert details[0] == "OPERATION_NOT_ALLOWED"
    assert failure(rig.api.VDI.destroy, vdi) == ["VDI_IN_USE", vdi, "destroy"]
    rig.api.VBD.unplug(vbd)
    assert rig.host.commands()[-2:] == ["vdi_deactivate", "vdi_detach"]
    assert failure(rig.api.VBD.unplug, vbd) == ["DEVICE_ALREADY_DETACHED", ""]
    rig.api.VBD.destroy(vbd)
    assert not rig.host.devices


def test_readers_share_a_device(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    readers = [rig.vbd(vdi, "RO") for _ in range(20)]
    for vbd in readers:
        rig.api.VBD.plug(vbd)
    assert len(rig.host.devices) == 1
    writer = rig.vbd(vdi)
    assert failure(rig.api.VBD.plug, writer) == ["VDI_IN_USE", vdi, "attach"]
    for vbd in readers:
        assert rig.host.devices
        rig.api.VBD.unplug(vbd)
    assert not rig.host.devices
    rig.api.VBD.plug(writer)
    assert failure(rig.api.VBD.plug, readers[0]) == ["VDI_IN_USE", vdi, "attach"]


def test_a_busy_device_stays(rig: Rig) -> None:
    vbd = rig.vbd(rig.vdi(rig.sr()))
    rig.api.VBD.plug(vbd)
    rig.host.busy = True
    details = failure(rig.api.VBD.unplug, vbd)
    assert details == ["DEVICE_DETACH_REJECTED", "VBD", vbd, "/dev/mem0 is open"]
    assert rig.api.VBD.get_currently_attached(vbd)
    rig.host.busy = False
    rig.api.VBD.unplug(vbd)


@pytest.mark.parametrize("command", ["vdi_attach", "vdi_activate"])
def test_a_failing_plug_leaves_nothing_attached(rig: Rig, command: str) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = rig.vbd(vdi)
    rig.host.faults[command] = Fault(46, "not now")
    assert failure(rig.api.VBD.plug, vbd)[0] == "SR_BACKEND_FAILURE_46"
    assert not rig.api.VBD.get_currently_attached(vbd)
    del rig.host.faults[command]
    rig.api.VBD.plug(vbd)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "CD"}, ["VBD_CDS_MUST_BE_READONLY"]),
        ({"empty": True}, ["VBD_NOT_REMOVABLE_MEDIA", "in constructor"]),
        ({"userdevice": "x"}, ["INVALID_DEVICE", "x"]),
        ({"userdevice": "256"}, ["INVALID_DEVICE", "256"]),
        ({"VM": NULL}, ["HANDLE_INVALID", "VM", NULL]),
        ({"VDI": NULL}, ["HANDLE_INVALID", "VDI", NULL]),
        ({"mode": "WO"}, ["FIELD_TYPE_ERROR", "mode"]),
    ],
)
def test_constructors_that_are_refused(
    rig: Rig, fields: dict[str, object], expected: list[str]
) -> None:
    vdi = rig.vdi(rig.sr())
    with pytest.raises(XenAPI.Failure) as error:
        rig.api.VBD.create(rig.vbd_record(vdi) | fields)
    assert error.value.details == expected
    assert rig.api.VBD.get_all() == []


def test_device_numbers(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.vbd(vdi, userdevice="0")
    assert rig.api.VBD.get_userdevice(rig.vbd(vdi)) == "1"
    with pytest.raises(XenAPI.Failure) as error:
        rig.vbd(vdi, userdevice="1")
    assert error.value.details == ["DEVICE_ALREADY_EXISTS", "1"]
    other = rig.vbd(vdi, userdevice="9")
    assert failure(rig.api.VBD.set_userdevice, other, "1") == ["DEVICE_ALREADY_EXISTS", "1"]
    assert failure(rig.api.VBD.set_userdevice, other, "sda") == ["INVALID_DEVICE", "sda"]
    rig.api.VBD.set_userdevice(other, "9")
    rig.api.VBD.set_userdevice(other, "8")
    assert rig.api.VBD.get_userdevice(other) == "8"


def test_no_device_number_is_left(rig: Rig) -> None:
    vdi, xapi = rig.vdi(rig.sr()), rig.server.xapi
    for number in range(256):
        xapi.db.create("VBD", VM=xapi.dom0, VDI=vdi, userdevice=str(number))
    assert failure(rig.vbd, vdi)[0] == "OPERATION_NOT_ALLOWED"


def test_read_only_and_unmanaged_disks(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.local.VDI.set_read_only(vdi, True)
    with pytest.raises(XenAPI.Failure) as error:
        rig.vbd(vdi)
    assert error.value.details == ["VDI_READONLY", vdi]
    vbd = rig.vbd(vdi, "RO")
    rig.local.VDI.set_managed(vdi, False)
    assert failure(rig.api.VBD.plug, vbd) == ["VDI_NOT_MANAGED", vdi]


def test_a_vbd_that_may_not_be_unplugged(rig: Rig) -> None:
    vbd = rig.vbd(rig.vdi(rig.sr()), unpluggable=False)
    rig.api.VBD.plug(vbd)
    assert failure(rig.api.VBD.unplug, vbd) == ["VBD_NOT_UNPLUGGABLE", vbd]


def test_an_empty_cd(rig: Rig) -> None:
    vbd = rig.vbd(NULL, "RO", type="CD", empty=True)
    assert failure(rig.api.VBD.plug, vbd) == ["VBD_IS_EMPTY", vbd]


def test_without_a_plugged_pbd_nothing_is_plugged(rig: Rig) -> None:
    sr = rig.sr()
    vbd = rig.vbd(rig.vdi(sr))
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
    assert failure(rig.api.VBD.plug, vbd) == ["SR_HAS_NO_PBDS", sr]


# -- power


def test_after_a_power_cut_nothing_is_plugged(rig: Rig) -> None:
    sr = rig.sr()
    vbd = rig.vbd(rig.vdi(sr))
    rig.api.VBD.plug(vbd)
    rig.host.up = False
    host = rig.api.host.get_all()[0]
    assert failure(rig.api.SR.scan, sr) == ["HOST_OFFLINE", host]
    rig.host.up = True
    rig.host.lose_power()
    rig.server.host_restarted()
    [pbd] = rig.api.SR.get_PBDs(sr)
    assert not rig.api.PBD.get_currently_attached(pbd)
    assert not rig.api.VBD.get_currently_attached(vbd)
    rig.api.PBD.plug(pbd)
    rig.api.VBD.plug(vbd)


def test_an_sr_is_attached_once_however_many_plug_it(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        [pbd] = rig.api.SR.get_PBDs(rig.sr())
        rig.api.PBD.unplug(pbd)
        rig.host.calls.clear()
        rig.host.gates["sr_attach"] = threading.Event()
        threads = [threading.Thread(target=rig.login().PBD.plug, args=(pbd,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert rig.host.reached.wait(10)
        rig.host.gates["sr_attach"].set()
        for thread in threads:
            thread.join(10)
        assert rig.host.commands() == ["sr_attach"]


def test_operations_on_one_sr_come_one_after_the_other(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        sr = rig.sr()
        record: dict[str, object] = {"SR": sr, "virtual_size": "1", "type": "user"}
        record |= {"other_config": {}, "sharable": False, "read_only": False}
        threads = [
            threading.Thread(target=rig.login().VDI.create, args=(record,)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(rig.api.SR.get_VDIs(sr)) == 8


def test_a_stopping_server_lets_nobody_wait(tmp_path: Path) -> None:
    answers: list[list[str]] = []
    with serve(tmp_path, patience=60) as rig:
        sr = rig.sr()
        rig.host.gates["sr_scan"] = threading.Event()
        first, second = rig.login(), rig.login()
        holder = threading.Thread(target=first.SR.scan, args=(sr,))
        holder.start()
        assert rig.host.reached.wait(10)
        waiter = threading.Thread(target=lambda: answers.append(failure(second.SR.scan, sr)))
        waiter.start()
        rig.server.xapi.policy.close()
        waiter.join(10)
        rig.host.gates["sr_scan"].set()
        holder.join(10)
    assert answers[0][:3] == ["OTHER_OPERATION_IN_PROGRESS", "SR", sr]


class Together(threading.Event):
    """A gate that opens when two wait at it."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2)

    def wait(self, timeout: float | None = None) -> bool:
        self.barrier.wait(timeout)
        return True


def test_two_srs_make_disks_at_once(tmp_path: Path) -> None:
    """The drivers of the memory host give each disk a location, and so a uuid, of its own."""
    with serve(tmp_path) as rig, ThreadPoolExecutor(2) as pool:
        srs = rig.sr(), rig.sr()
        rig.host.gates["vdi_create"] = Together()
        record = {"virtual_size": "512", "type": "user", "other_config": {}}
        flags = {"sharable": False, "read_only": False}
        records = [{**record, **flags, "SR": sr} for sr in srs]
        calls = [pool.submit(rig.login().VDI.create, each) for each in records]
        disks = [call.result() for call in calls]
        assert len({rig.api.VDI.get_location(disk) for disk in disks}) == 2
