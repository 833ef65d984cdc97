"""Checkpoints of one VM come one after the other: each has a memory image of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import XenAPI

from xapi.testing import Rig, serve


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, patience=0.05) as rig:
        yield rig


def images(rig: Rig) -> set[str]:
    records = rig.api.VDI.get_all_records()
    return {vdi for vdi, record in records.items() if record["type"] == "suspend"}


@pytest.mark.parametrize("step", ["vdi_create", "vdi_snapshot"])
def test_a_checkpoint_waits_for_another(rig: Rig, step: str) -> None:
    vm = rig.vm(rig.vdi(rig.sr()))
    rig.api.VM.set_suspend_SR(vm, rig.sr())
    rig.api.VM.start(vm, False, False)
    rig.host.gates[step] = gate = threading.Event()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(rig.login().VM.checkpoint, vm, "first")
        try:
            assert rig.host.reached.wait(10)
            [task] = rig.api.VM.get_current_operations(vm)
            with pytest.raises(XenAPI.Failure) as error:
                rig.api.VM.checkpoint(vm, "second")
            expected = ["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "checkpoint", task]
            assert error.value.details == expected
            assert "checkpoint" not in rig.api.VM.get_allowed_operations(vm)
        finally:
            gate.set()
        made = [first.result(10)]
    made.append(rig.api.VM.checkpoint(vm, "second"))
    assert rig.api.VM.get_power_state(vm) == "Running"
    assert images(rig) == set(map(rig.api.VM.get_suspend_VDI, made))
    assert len(images(rig)) == 2
