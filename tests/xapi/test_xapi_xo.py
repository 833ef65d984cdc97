"""Xen Orchestra's client against the toolstack: every change arrives by event."""

from __future__ import annotations

from pathlib import Path

import pytest

from xapi.testing import serve, xo


@pytest.mark.parametrize(
    ("kind", "transport"), [("mem", "auto"), ("mem", "xml-rpc"), ("old", "json-rpc")]
)
def test_snapshot_change_revert(tmp_path: Path, kind: str, transport: str) -> None:
    with serve(tmp_path) as rig:
        sr = rig.sr(kind)
        disks = [rig.vdi(sr, b"first"), rig.vdi(sr, b"other")]
        vm = rig.vm(*disks, name_label="the VM")
        uuids = {str(n): rig.api.VDI.get_uuid(disk) for n, disk in enumerate(disks)}

        report = xo.run(rig.server.url, rig.api.VM.get_uuid(vm), transport=transport)

        assert report["before"] == uuids
        assert report["snapshot"]["of"] == rig.api.VM.get_uuid(vm)
        assert report["snapshot"]["disks"].keys() == uuids.keys()
        assert report["result"] == ""
        # In place every disk is what it was; by clone every disk is another, and so it says.
        assert (report["after"] == uuids) is (kind == "mem")
        now = {device: rig.api.VDI.get_uuid(disk) for device, disk in rig.disks(vm).items()}
        assert report["after"] == now
        assert rig.api.VM.get_other_config(vm)["second"] == "\u20ac"
        assert "first" not in rig.api.VM.get_other_config(vm)
        assert [rig.read(disk) for disk in rig.disks(vm).values()] == [b"first", b"other"]
        imported = rig.host.disk(report["imported"])
        assert bytes(imported.content[:5]) == b"first"
        code, *params = report["error"]
        assert (code, params[0]) == ("HANDLE_INVALID", "VM")
        assert rig.api.VM.get_snapshots(vm) == []
        assert rig.api.task.get_all() == []
