"""What calls that failed, or that are done, leave behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import XenAPI

from xapi.testing import Fault, Rig


@pytest.mark.parametrize("method", ["snapshot", "clone"])
def test_disks_are_cleaned_up_under_the_mark_of_their_sr(rig: Rig, method: str) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr), rig.vdi(sr))
    disks = set(rig.api.VDI.get_all())
    rig.host.faults[f"vdi_{method}"] = Fault(44, "no space")
    rig.host.once_after[f"vdi_{method}"] = 1
    rig.host.gates["vdi_delete"] = gate = threading.Event()
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(getattr(rig.login().VM, method), vm, "new")
        try:
            assert rig.host.reached.wait(10)
            assert list(rig.api.SR.get_current_operations(sr).values()) == ["vdi_destroy"]
            [made] = set(rig.api.VDI.get_all()) - disks
            assert list(rig.api.VDI.get_current_operations(made).values()) == ["destroy"]
        finally:
            gate.set()
        with pytest.raises(XenAPI.Failure) as error:
            failing.result(10)
    assert error.value.details[0] == "SR_BACKEND_FAILURE_44"
    assert set(rig.api.VDI.get_all()) == disks
    assert rig.api.task.get_all() == []


def test_a_cancelled_call_waits_for_a_busy_sr(rig: Rig) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr), rig.vdi(sr))
    db, disks = rig.server.xapi.db, rig.api.VDI.get_all()
    rig.host.gates["vdi_snapshot"] = gate = threading.Event()
    task = rig.api.Async.VM.snapshot(vm, "new")
    assert rig.host.reached.wait(10)
    rig.api.task.cancel(task)
    mark = db.get("SR", sr, "current_operations")
    db.put("SR", sr, current_operations={**mark, "OpaqueRef:other": "scan"})
    waiting, wait = threading.Event(), db.changed.wait

    def seen(timeout: float | None = None) -> bool:
        waiting.set()
        return wait(timeout)

    db.changed.wait = seen  # type: ignore[method-assign]
    gate.set()
    assert waiting.wait(10)
    db.put("SR", sr, current_operations={})
    with db.changed:
        assert db.changed.wait_for(lambda: db.get("task", task, "status") == "cancelled", 10)
    assert rig.api.VDI.get_all() == disks


def test_a_snapshot_from_before_a_revert_that_stays_is_reported(rig: Rig) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(sr), rig.vdi(sr))
    snapshot = rig.api.VM.snapshot(vm, "snap")
    disks = set(rig.api.VDI.get_all())
    rig.host.faults["vdi_delete"] = Fault(80, "VDI delete failed")
    rig.api.VM.revert(snapshot)
    [left] = set(rig.api.VDI.get_all()) - disks
    messages = rig.api.message.get_all_records().values()
    [message] = [m for m in messages if m["name"] == "VM_REVERT_SNAPSHOT_LEFT"]
    assert (message["cls"], message["obj_uuid"]) == ("VDI", rig.api.VDI.get_uuid(left))
    assert rig.api.VDI.get_uuid(rig.api.VDI.get_snapshot_of(left)) in message["body"]
