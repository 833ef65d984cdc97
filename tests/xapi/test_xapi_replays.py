"""CloudStack and Terraform around a revert: what they note down is what is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from xapi.errors import XenAPIError
from xapi.testing import Rig, replays, serve
from xapi.testing.replays import Books


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rigs: list[Rig] = []

    def revert(function: str, arguments: Mapping[str, str]) -> str:
        """The plugin that CloudStack puts on a host."""
        assert function == "revert_memory_snapshot"
        local = rigs[0].local
        snapshot = local.VM.get_by_uuid(arguments["snapshotUUID"])
        local.VM.revert(snapshot)
        vm = local.VM.get_by_uuid(arguments["oldVmUuid"])
        if arguments["snapshotMemory"] == "true":
            local.VM.resume(vm, False, False)
        return "0"

    with serve(tmp_path, plugins={"vmopsSnapshot": revert}) as rig:
        rigs.append(rig)
        yield rig


def machine(rig: Rig, kind: str, *, running: bool) -> str:
    sr = rig.sr(kind)
    [pool] = rig.api.pool.get_all()
    rig.api.pool.set_suspend_image_SR(pool, sr)
    vm = rig.vm(rig.vdi(sr, b"first"), rig.vdi(sr, b"other"), name_label="i-2-3-VM")
    if running:
        rig.api.VM.start(vm, False, False)
    return vm


def check(rig: Rig, vm: str, kind: str, books: Books) -> None:
    now = {device: rig.api.VDI.get_uuid(vdi) for device, vdi in rig.disks(vm).items()}
    assert books.after == now
    assert books.before.keys() == books.after.keys() == {"0", "1"}
    # In place nothing needs to be written anew; by clone everything does.
    if kind == "mem":
        assert books.after == books.before
    else:
        assert not set(books.after.values()) & set(books.before.values())
    assert [rig.read(vdi) for vdi in rig.disks(vm).values()] == [b"first", b"other"]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("kind", ["mem", "old"])
def test_cloudstack(rig: Rig, kind: str, memory: bool) -> None:
    vm = machine(rig, kind, running=memory)
    with replays.cloudstack_session(rig.server.url) as api:
        books = replays.cloudstack(api, "i-2-3-VM", memory=memory)
        check(rig, vm, kind, books)
        assert api("VM.get_power_state", vm) == ("Running" if memory else "Halted")
        api("VM.destroy", books.snapshot)
        with pytest.raises(XenAPIError, match="HANDLE_INVALID"):
            api("VM.get_record", books.snapshot)


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("kind", ["mem", "old"])
def test_terraform(rig: Rig, kind: str, memory: bool) -> None:
    vm = machine(rig, kind, running=True)
    with replays.terraform_session(rig.server.url) as api:
        books = replays.terraform(api, rig.api.VM.get_uuid(vm), memory=memory)
        assert api("VM.get_power_state", vm) == "Running"
    check(rig, vm, kind, books)
