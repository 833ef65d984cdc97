"""VBD.set_type keeps to what VBD.create asks for, and to halted VMs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.testing import Rig, serve

NULL = "OpaqueRef:NULL"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, patience=0.05) as rig:
        yield rig


def refused(rig: Rig, vbd: str, value: str) -> list[str]:
    before = rig.api.VBD.get_record(vbd)
    with pytest.raises(XenAPI.Failure) as error:
        rig.api.VBD.set_type(vbd, value)
    assert rig.api.VBD.get_record(vbd) == before
    details: list[Any] = error.value.details
    return details


def test_a_disk_becomes_a_cd_and_a_disk_again(rig: Rig) -> None:
    vm = rig.vm()
    vbd = rig.vbd(rig.vdi(rig.sr()), "RO", VM=vm)
    for type_ in ("CD", "Floppy", "Disk"):
        assert rig.api.VBD.set_type(vbd, type_) == ""
        assert rig.api.VBD.get_type(vbd) == type_


def test_a_cd_is_read_only(rig: Rig) -> None:
    vbd = rig.vbd(rig.vdi(rig.sr()), "RW", VM=rig.vm())
    assert refused(rig, vbd, "CD") == ["VBD_CDS_MUST_BE_READONLY"]


def test_a_disk_is_not_empty(rig: Rig) -> None:
    vbd = rig.vbd(NULL, "RO", VM=rig.vm(), type="CD", empty=True)
    assert refused(rig, vbd, "Disk") == ["VBD_NOT_REMOVABLE_MEDIA", vbd]


def test_a_vm_that_runs(rig: Rig) -> None:
    vm = rig.vm()
    vbd = rig.vbd(rig.vdi(rig.sr()), "RO", VM=vm)
    rig.api.VM.start(vm, False, False)
    assert refused(rig, vbd, "CD") == ["VM_BAD_POWER_STATE", vm, "halted", "running"]


def test_a_vm_that_is_about_to_start(rig: Rig) -> None:
    vbd = rig.vbd(rig.vdi(rig.sr()), "RO", VM=rig.vm())
    rig.server.xapi.db.put("VBD", vbd, current_operations={"OpaqueRef:start": "attach"})
    expected = ["OTHER_OPERATION_IN_PROGRESS", "VBD", vbd, "attach", "OpaqueRef:start"]
    assert refused(rig, vbd, "CD") == expected
