"""VBDs whose VDI goes away go with it, whoever takes it away and whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xapi.testing import Rig, failure, serve

NULL = "OpaqueRef:NULL"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, patience=0.05) as rig:
        yield rig


def works(rig: Rig, vm: str) -> bool:
    """Whether the VM starts, and is snapshotted, and cloned."""
    rig.api.VM.start(vm, False, False)
    rig.api.VM.hard_shutdown(vm)
    return bool(rig.api.VM.snapshot(vm, "snapshot") and rig.api.VM.clone(vm, "clone"))


def test_a_driver_forgets_a_disk(rig: Rig) -> None:
    sr = rig.sr()
    kept, lost = rig.vdi(sr), rig.vdi(sr)
    vm = rig.vm(kept, lost)
    assert rig.local.VDI.db_forget(lost) == ""
    assert rig.disks(vm) == {"0": kept}
    assert works(rig, vm)


def test_a_scan_finds_a_disk_lost(rig: Rig) -> None:
    sr = rig.sr()
    kept, lost = rig.vdi(sr), rig.vdi(sr)
    vm = rig.vm(kept, lost)
    snapshot = rig.api.VM.snapshot(vm, "before")
    del rig.host.srs[rig.api.SR.get_uuid(sr)][rig.api.VDI.get_uuid(lost)]
    rig.api.SR.scan(sr)
    assert rig.disks(vm) == {"0": kept}
    assert works(rig, vm)
    rig.api.VM.revert(snapshot)
    assert len(rig.disks(vm)) == 2


@pytest.mark.parametrize("way", ["VDI.db_forget", "VDI.forget", "SR.forget"])
def test_a_lost_memory_image(rig: Rig, way: str) -> None:
    sr = rig.sr()
    vm = rig.vm(rig.vdi(rig.sr()))
    rig.api.VM.set_suspend_SR(vm, sr)
    rig.api.VM.start(vm, False, False)
    rig.api.VM.suspend(vm)
    image = rig.api.VM.get_suspend_VDI(vm)
    if way == "SR.forget":
        rig.api.PBD.unplug(rig.api.SR.get_PBDs(sr)[0])
        rig.api.SR.forget(sr)
    else:
        getattr(rig.local.VDI, way.removeprefix("VDI."))(image)
    assert rig.api.VM.get_suspend_VDI(vm) == NULL


@pytest.mark.parametrize("meanwhile", ["destroyed", "created"])
def test_vbds_that_change_while_a_disk_is_destroyed(rig: Rig, meanwhile: str) -> None:
    sr = rig.sr()
    disk, kept = rig.vdi(sr), rig.vdi(sr)
    vm, other = rig.vm(kept, disk), rig.vm(kept, disk)
    rig.host.gates["vdi_delete"] = gate = threading.Event()
    with ThreadPoolExecutor() as pool:
        destroying = pool.submit(rig.login().VDI.destroy, disk)
        try:
            assert rig.host.reached.wait(10)
            if meanwhile == "destroyed":
                rig.api.VBD.destroy(rig.api.VM.get_VBDs(vm)[1])
            else:
                record = rig.vbd_record(disk) | {"VM": vm, "userdevice": "7"}
                [task] = rig.api.VDI.get_current_operations(disk)
                expected = ["OTHER_OPERATION_IN_PROGRESS", "VDI", disk, "destroy", task]
                assert failure(rig.api.VBD.create, record) == expected
        finally:
            gate.set()
        assert destroying.result(10) == ""
    assert rig.disks(vm) == rig.disks(other) == {"0": kept}
    assert works(rig, vm)
