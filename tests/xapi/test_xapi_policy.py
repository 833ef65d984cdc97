"""The operation policy, case by case: R1-R11 about revert, U1-U10 about everything else."""

from __future__ import annotations

import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xapi import policy_sr, policy_vdi, policy_vm
from xapi.datamodel_storage import STORAGE_OPERATIONS, VDI_OPERATIONS
from xapi.datamodel_vm import VM_OPERATIONS
from xapi.errors import XenAPIError
from xapi.sm import parse_features
from xapi.testing import CAPABILITIES, CBT, Rig, failure, serve

NULL = "OpaqueRef:NULL"
UNKNOWN = "OpaqueRef:00000000-0000-4000-8000-000000000000"
HA_TYPES = ("ha_statefile", "redo_log")
TYPES = {
    "full": (*CAPABILITIES, *CBT, "VDI_REVERT"),
    "mem": (*CAPABILITIES, "VDI_REVERT"),
    "noclone": tuple(name for name in CAPABILITIES if name != "VDI_CLONE"),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(tmp_path_factory.mktemp("xapi"), TYPES, patience=0.05) as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    db = shared.server.xapi.db
    db.put("pool", shared.server.xapi.pool, other_config={}, ha_enabled=False)


def refusal(rig: Rig, vdi: str, operation: str) -> list[str]:
    """What the policy has against an operation on a VDI, or []."""
    try:
        policy_vdi.check(rig.server.xapi.db, vdi, operation)
    except XenAPIError as error:
        return error.description
    return []


def put(rig: Rig, cls: str, ref: str, **fields: Any) -> None:
    rig.server.xapi.db.put(cls, ref, **fields)


def attached(rig: Rig, vdi: str, mode: str = "RW") -> str:
    """A VBD that says it is attached."""
    vbd = rig.vbd(vdi, mode)
    put(rig, "VBD", vbd, currently_attached=True)
    return vbd


@contextmanager
def marked(rig: Rig, cls: str, ref: str, operation: str) -> Iterator[None]:
    put(rig, cls, ref, current_operations={UNKNOWN: operation})
    try:
        yield
    finally:
        put(rig, cls, ref, current_operations={})


def snapshot_of(rig: Rig, live: str) -> str:
    return str(rig.api.VDI.snapshot(live))


# -- R: reverting


def test_r1_revert_to_a_snapshot(rig: Rig) -> None:
    assert refusal(rig, snapshot_of(rig, rig.vdi(rig.sr())), "revert_to") == []


def test_r2_revert_to_a_snapshot_that_is_attached(rig: Rig) -> None:
    snapshot = snapshot_of(rig, rig.vdi(rig.sr()))
    attached(rig, snapshot)
    assert refusal(rig, snapshot, "revert_to") == []


def test_r3_revert_to_a_leaf(rig: Rig) -> None:
    assert refusal(rig, rig.vdi(rig.sr()), "revert_to") == ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]


@pytest.mark.parametrize("mode", ["RW", "RO"])
def test_r4_r5_revert_from_a_disk_that_is_attached(rig: Rig, mode: str) -> None:
    vdi = rig.vdi(rig.sr())
    attached(rig, vdi, mode)
    assert refusal(rig, vdi, "revert_from") == ["VDI_IN_USE", vdi, "revert_from"]


def test_r6_revert_from_a_disk_that_is_reserved(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    put(rig, "VBD", rig.vbd(vdi), reserved=True)
    assert refusal(rig, vdi, "revert_from") == ["VDI_IN_USE", vdi, "revert_from"]


@pytest.mark.parametrize("operation", ["revert_to", "revert_from"])
def test_r7_cbt_metadata(rig: Rig, operation: str) -> None:
    vdi = rig.vdi(rig.sr())
    put(rig, "VDI", vdi, type="cbt_metadata")
    assert refusal(rig, vdi, operation) == ["VDI_INCOMPATIBLE_TYPE", vdi, "cbt_metadata"]


@pytest.mark.parametrize("operation", ["revert_to", "revert_from"])
def test_r8_the_driver_cannot_clone(rig: Rig, operation: str) -> None:
    sr = rig.sr("noclone")
    assert refusal(rig, rig.vdi(sr), operation) == ["SR_OPERATION_NOT_SUPPORTED", sr]


def test_r9_rolling_upgrade(rig: Rig) -> None:
    snapshot = snapshot_of(rig, rig.vdi(rig.sr()))
    rig.api.pool.set_other_config(rig.server.xapi.pool, {"rolling_upgrade_in_progress": "true"})
    for operation in ("revert_to", "revert_from"):
        assert refusal(rig, snapshot, operation) == ["NOT_SUPPORTED_DURING_UPGRADE"]
    assert failure(rig.api.VDI.revert, snapshot) == ["NOT_SUPPORTED_DURING_UPGRADE"]


def test_r10_a_snapshot_of_nothing(rig: Rig) -> None:
    snapshot = snapshot_of(rig, rig.vdi(rig.sr()))
    for target in (NULL, UNKNOWN):
        rig.local.VDI.set_snapshot_of(snapshot, target)
        assert failure(rig.api.VDI.revert, snapshot) == ["HANDLE_INVALID", "VDI", target]


@pytest.mark.parametrize("type_", HA_TYPES)
@pytest.mark.parametrize("operation", ["revert_from", "destroy", "forget", "resize"])
def test_r11_high_availability(rig: Rig, type_: str, operation: str) -> None:
    vdi, pool = rig.vdi(rig.sr()), rig.server.xapi.pool
    put(rig, "VDI", vdi, type=type_)
    assert refusal(rig, vdi, operation) == []
    put(rig, "pool", pool, ha_enabled=True)
    assert refusal(rig, vdi, operation) == ["HA_IS_ENABLED"]
    put(rig, "pool", pool, ha_enabled=False)
    for going_on, code in (
        ("ha_enable", "HA_ENABLE_IN_PROGRESS"),
        ("ha_disable", "HA_DISABLE_IN_PROGRESS"),
    ):
        with marked(rig, "pool", pool, going_on):
            assert refusal(rig, vdi, operation) == [code]
    assert failure(rig.api.VDI.copy, vdi)[0] == "OPERATION_NOT_ALLOWED"


# -- U: the rest of the VDI policy


def test_u1_update(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = rig.vbd(vdi)
    assert refusal(rig, vdi, "update") == []
    for state in ("currently_attached", "reserved"):
        put(rig, "VBD", vbd, **{state: True})
        assert refusal(rig, vdi, "update") == ["VDI_IN_USE", vdi, "update"]
        put(rig, "VBD", vbd, **{state: False})
    with marked(rig, "VBD", vbd, "plug"):
        expected = ["OTHER_OPERATION_IN_PROGRESS", "VDI", vdi, "plug", UNKNOWN]
        assert refusal(rig, vdi, "update") == expected


def test_u2_copy_of_an_attached_disk(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = attached(rig, vdi, "RO")
    assert refusal(rig, vdi, "copy") == []
    put(rig, "VBD", vbd, mode="RW")
    assert refusal(rig, vdi, "copy") == ["VDI_IN_USE", vdi, "copy"]


def test_u3_u4_beside_a_copy(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = rig.vbd(vdi, "RO")
    with marked(rig, "VDI", vdi, "copy"):
        assert refusal(rig, vdi, "copy") == []
        assert refusal(rig, vdi, "clone") == []
        assert refusal(rig, vdi, "snapshot")[0] == "OPERATION_NOT_ALLOWED"
        rig.api.VBD.plug(vbd)
    rig.api.VBD.unplug(vbd)


def test_u3_two_copies_at_once(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        sr = rig.sr()
        vdi = rig.vdi(sr, b"twice")
        rig.host.gates["vdi_create"] = threading.Event()
        threads = [threading.Thread(target=rig.login().VDI.copy, args=(vdi,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert rig.host.reached.wait(10)
        rig.host.gates["vdi_create"].set()
        for thread in threads:
            thread.join(10)
        assert [rig.read(copy) for copy in rig.api.SR.get_VDIs(sr)] == [b"twice"] * 3


CBT_OPERATIONS = ("enable_cbt", "disable_cbt", "data_destroy", "list_changed_blocks")


@pytest.mark.parametrize("operation", CBT_OPERATIONS)
def test_u5a_a_driver_without_cbt(rig: Rig, operation: str) -> None:
    sr = rig.sr("mem")
    assert refusal(rig, rig.vdi(sr), operation) == ["SR_OPERATION_NOT_SUPPORTED", sr]


@pytest.mark.parametrize("operation", ["enable_cbt", "disable_cbt"])
def test_u5b_to_e_switching(rig: Rig, operation: str) -> None:
    vdi = rig.vdi(rig.sr("full"))
    attached(rig, vdi)
    assert refusal(rig, vdi, operation) == []
    put(rig, "VDI", vdi, is_a_snapshot=True)
    assert refusal(rig, vdi, operation)[0] == "OPERATION_NOT_ALLOWED"
    put(rig, "VDI", vdi, is_a_snapshot=False, type="suspend")
    assert refusal(rig, vdi, operation) == ["VDI_INCOMPATIBLE_TYPE", vdi, "suspend"]
    put(rig, "VDI", vdi, type="system", on_boot="reset")
    code = "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"
    assert refusal(rig, vdi, operation) == [code]


@pytest.mark.parametrize(
    "operation",
    ["snapshot", "clone", "resize", "resize_online", "copy", "set_on_boot", *CBT_OPERATIONS[:2]],
)
def test_u5f_cbt_metadata(rig: Rig, operation: str) -> None:
    vdi = rig.vdi(rig.sr("full"))
    put(rig, "VDI", vdi, type="cbt_metadata")
    assert refusal(rig, vdi, operation) == ["VDI_INCOMPATIBLE_TYPE", vdi, "cbt_metadata"]


def test_u5g_not_while_changes_are_tracked(rig: Rig) -> None:
    sr = rig.sr("full")
    vdi = rig.vdi(sr)
    put(rig, "VDI", vdi, cbt_enabled=True)
    assert refusal(rig, vdi, "set_on_boot") == ["VDI_CBT_ENABLED", vdi]
    assert refusal(rig, vdi, "mirror") == ["SR_OPERATION_NOT_SUPPORTED", sr]
    [sm] = rig.server.xapi.db.find("SM", type="full")
    features = rig.server.xapi.db.get("SM", sm, "features")
    put(rig, "SM", sm, features={**features, "VDI_MIRROR": 1})
    assert refusal(rig, vdi, "mirror") == ["VDI_CBT_ENABLED", vdi]
    put(rig, "SM", sm, features=features)


def test_u5h_data_destroy(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr("full"))
    assert refusal(rig, vdi, "data_destroy")[0] == "OPERATION_NOT_ALLOWED"
    put(rig, "VDI", vdi, is_a_snapshot=True)
    assert refusal(rig, vdi, "data_destroy") == ["VDI_NO_CBT_METADATA", vdi]
    put(rig, "VDI", vdi, cbt_enabled=True)
    attached(rig, vdi)
    assert refusal(rig, vdi, "data_destroy") == []
    put(rig, "VDI", vdi, type="rrd")
    assert refusal(rig, vdi, "data_destroy") == ["VDI_HAS_RRDS", vdi]


def test_u5i_list_changed_blocks(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr("full"))
    put(rig, "VDI", vdi, type="cbt_metadata")
    assert refusal(rig, vdi, "list_changed_blocks") == []
    for cls, ref in (("VBD", rig.vbd(rig.vdi(rig.sr("full")))), ("VDI", vdi)):
        if cls == "VBD":
            put(rig, "VBD", ref, VDI=vdi)
        with marked(rig, cls, ref, "update" if cls == "VDI" else "plug"):
            code = "OTHER_OPERATION_IN_PROGRESS"
            assert refusal(rig, vdi, "list_changed_blocks")[0] == code


def test_u6_rolling_upgrade(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr("full"))
    rig.api.pool.set_other_config(rig.server.xapi.pool, {"rolling_upgrade_in_progress": "true"})
    young = set(VDI_OPERATIONS.members) - policy_vdi.DURING_UPGRADE
    assert young == {*CBT_OPERATIONS, "set_on_boot", "revert_to", "revert_from"}
    for operation in VDI_OPERATIONS.members:
        refused = refusal(rig, vdi, operation) == ["NOT_SUPPORTED_DURING_UPGRADE"]
        assert refused is (operation in young), operation


def test_u7_vbds_of_vms_that_are_gone(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = attached(rig, vdi)
    put(rig, "VBD", vbd, VM=UNKNOWN)
    assert rig.api.VDI.get_allowed_operations(vdi)
    rig.api.VBD.get_allowed_operations(vbd)
    rig.api.SR.get_allowed_operations(rig.api.VDI.get_SR(vdi))
    put(rig, "VBD", vbd, currently_attached=False)
    rig.api.PBD.unplug(rig.api.SR.get_PBDs(rig.api.VDI.get_SR(vdi))[0])


def test_u8_allowed_operations(rig: Rig) -> None:
    for kind, more in (("mem", set()), ("full", {"resize_online"})):
        vdi = rig.vdi(rig.sr(kind))
        detached = {"generate_config", "update", "forget", "destroy", "snapshot"}
        detached |= {"resize", "copy", "clone"} | more
        assert set(rig.api.VDI.get_allowed_operations(vdi)) == detached
        vbd = attached(rig, vdi, "RO")
        assert set(rig.api.VDI.get_allowed_operations(vdi)) == {"snapshot", "clone", "copy"} | more
        put(rig, "VBD", vbd, currently_attached=False)


def test_u9_resize(rig: Rig) -> None:
    sr = rig.sr("mem")
    vdi, online = rig.vdi(sr), rig.vdi(rig.sr("full"))
    for disk in (vdi, online):
        attached(rig, disk)
        assert refusal(rig, disk, "resize") == ["VDI_IN_USE", disk, "resize"]
    assert refusal(rig, vdi, "resize_online") == ["SR_OPERATION_NOT_SUPPORTED", sr]
    assert refusal(rig, online, "resize_online") == []
    rig.api.VDI.resize_online(online, str(2 << 20))
    assert rig.api.VDI.get_virtual_size(online) == str(2 << 20)


def test_u10_tables_name_operations_that_there_are() -> None:
    assert set(policy_sr.FEATURE) | set(policy_sr.OFFERED) <= set(STORAGE_OPERATIONS.members)
    known = set(VDI_OPERATIONS.members)
    assert set(policy_vdi.FEATURE) | set(policy_vdi.OFFERED) <= known
    assert known >= policy_vdi.DURING_UPGRADE
    assert set(policy_vm.OFFERED) | set(policy_vm.POWER_STATES) <= set(VM_OPERATIONS.members)


def test_u11_features() -> None:
    said = ["VDI_CLONE", "VDI_RESET_ON_BOOT/2", "SR_STATS/x", "SR_TRIM/0", "VDI_MIRROR", "OTHER"]
    assert parse_features([*said, "VDI_CLONE"]) == {
        "SR_STATS": 1,
        "SR_TRIM": 1,
        "VDI_CLONE": 1,
        "VDI_MIRROR": 1,
        "VDI_MIRROR_IN": 1,
        "VDI_RESET_ON_BOOT": 2,
    }


def test_u12_a_scan_follows_the_driver(rig: Rig) -> None:
    """The driver writes what it finds, in its own session: here as local root."""
    sr = rig.sr()
    vdi, other = rig.vdi(sr), rig.vdi(sr)
    rig.local.VDI.set_snapshot_of(vdi, other)
    rig.local.VDI.set_sharable(vdi, True)
    rig.api.SR.scan(sr)
    assert rig.api.VDI.get_snapshots(other) == [vdi]
    assert rig.api.VDI.get_sharable(vdi)
    assert isinstance(rig.api.VDI.get_snapshot_time(vdi), xmlrpc.client.DateTime)


# -- SRs


def test_operations_on_an_sr_exclude_each_other(rig: Rig) -> None:
    sr = rig.sr("full")
    with marked(rig, "SR", sr, "vdi_enable_cbt"):
        expected = ["OTHER_OPERATION_IN_PROGRESS", "SR", sr, "VDI.enable_cbt", UNKNOWN]
        assert failure(rig.api.SR.scan, sr) == expected
        assert rig.api.SR.get_allowed_operations(sr) == []
    with marked(rig, "SR", sr, "plug"):
        rig.api.SR.scan(sr)
    shown = set(rig.api.SR.get_allowed_operations(sr))
    assert {f"vdi_{operation}" for operation in CBT_OPERATIONS} <= shown
    assert {"vdi_set_on_boot", "vdi_revert"} <= shown
    assert not {"destroy", "forget", "vdi_mirror", "vdi_introduce"} & shown


# -- VMs


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("start", ["VM_BAD_POWER_STATE", "halted", "running"]),
        ("resume", ["VM_BAD_POWER_STATE", "suspended", "running"]),
        ("unpause", ["VM_BAD_POWER_STATE", "paused", "running"]),
        ("clone", ["VM_BAD_POWER_STATE", "halted", "running"]),
        ("destroy", ["VM_BAD_POWER_STATE", "halted", "running"]),
        ("revert", ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]),
    ],
)
def test_a_running_vm_refuses(rig: Rig, operation: str, expected: list[str]) -> None:
    vm = rig.vm()
    put(rig, "VM", vm, power_state="Running")
    details = failure(rig.api.VM.assert_operation_valid, vm, operation)
    assert [detail for detail in details if detail != vm] == expected
    put(rig, "VM", vm, power_state="Halted")


def test_a_snapshot_and_a_template_refuse(rig: Rig) -> None:
    vm = rig.vm()
    snapshot = rig.api.VM.snapshot(vm, "snap")
    assert failure(rig.api.VM.snapshot, snapshot, "more") == [
        "VM_IS_SNAPSHOT",
        snapshot,
        "snapshot",
    ]
    assert failure(rig.api.VM.start, snapshot, False, False)[0] == "VM_IS_SNAPSHOT"
    shown = {"revert", "clone", "copy", "export", "destroy", "metadata_export", "create_template"}
    assert set(rig.api.VM.get_allowed_operations(snapshot)) == shown
    rig.api.VM.set_is_a_template(vm, True)
    assert failure(rig.api.VM.start, vm, False, False) == ["VM_IS_TEMPLATE", vm, "start"]
    assert "revert" not in rig.api.VM.get_allowed_operations(vm)


def test_what_goes_on_at_the_same_time(rig: Rig) -> None:
    vm = rig.vm()
    put(rig, "VM", vm, power_state="Running")
    with marked(rig, "VM", vm, "snapshot"):
        rig.api.VM.assert_operation_valid(vm, "checkpoint")
        expected = ["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "snapshot", UNKNOWN]
        assert failure(rig.api.VM.assert_operation_valid, vm, "suspend") == expected
    with marked(rig, "VM", vm, "clean_shutdown"):
        rig.api.VM.assert_operation_valid(vm, "hard_shutdown")
        disk = rig.vbd(rig.vdi(rig.sr()), VM=vm)
        code = "OTHER_OPERATION_IN_PROGRESS"
        assert failure(rig.api.VBD.plug, disk)[:3] == [code, "VM", vm]
    put(rig, "VM", vm, power_state="Halted")


def test_what_cannot_be_snapshotted(rig: Rig) -> None:
    disk = rig.vdi(rig.sr("full"))
    vm = rig.vm(disk)
    put(rig, "VDI", disk, on_boot="reset")
    code = "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"
    assert failure(rig.api.VM.snapshot, vm, "snap") == [code]
    put(rig, "VM", vm, VUSBs=(UNKNOWN,))
    assert failure(rig.api.VM.snapshot, vm, "snap") == ["VM_HAS_VUSBS", vm]
    quiesce = rig.api.VM.snapshot_with_quiesce
    assert failure(quiesce, vm, "s") == ["VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm]


def test_the_control_domain_is_left_alone(rig: Rig) -> None:
    dom0 = rig.server.xapi.dom0
    for operation in ("hard_shutdown", "snapshot", "destroy", "suspend"):
        assert failure(rig.api.VM.assert_operation_valid, dom0, operation)[0] == (
            "OPERATION_NOT_ALLOWED"
        )
