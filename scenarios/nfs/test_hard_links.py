"""A server whose file system has no hard links: FAT. Disks are split by moving files there."""

from collections.abc import Iterator
from typing import Any

import pytest
import XenAPI

from scenarios.invariants import check
from scenarios.nfs.filer import Filer
from scenarios.oracle import BLOCK, Model, awkward_spans
from scenarios.storage import Repository
from testbed.devices.disk import MiB
from testbed.host import Host


@pytest.fixture
def fat(host: Host, xenapi: Any) -> Iterator[Filer]:
    """A host that exports a FAT file system."""
    host.kernel.require("vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1")
    disk, directory = host.add_disk(512 * MiB), "/mnt/disks/fat"
    assert host.kernel.run(["mkfs.vfat", disk.device]).returncode == 0
    host.kernel.call("mount", source=disk.device, target=directory, kind="vfat")
    export = host.nfs.export(directory)
    yield Filer(host, xenapi, export)
    host.nfs.withdraw(export)
    host.kernel.call("unmount", target=directory)
    host.remove_disk(disk)


def complaints(sr: Repository) -> int:
    """How many messages say that an SR has no hard links."""
    messages = sr.api.message.get_all_records().values()
    found = [(record["name"], record["obj_uuid"]) for record in messages]
    return found.count(("sr_does_not_support_hardlinks", sr.uuid))


def test_snapshot_clone_and_revert(fat: Filer) -> None:
    """All as elsewhere; the user is told once."""
    with fat.repository() as sr:
        assert complaints(sr) == 1
        fat.replug(sr)
        assert complaints(sr) == 1
        wanted, model = Model(8 * BLOCK), Model(8 * BLOCK)
        disk = sr.create(8 * BLOCK)
        disk.write(awkward_spans("wanted", disk.size))
        wanted.write(awkward_spans("wanted", disk.size))
        snapshot, clone = disk.snapshot(), disk.clone()
        disk.write(awkward_spans("lost", disk.size))
        clone.write(awkward_spans("clone", disk.size))
        model.write(awkward_spans("wanted", disk.size))
        model.write(awkward_spans("clone", disk.size))
        snapshot.revert_live_disk()
        disk.must_hold(wanted)
        snapshot.must_hold(wanted)
        clone.must_hold(model)
        check(sr)


@pytest.mark.parametrize(
    "point", ["FileSR_fail_snap1", "FileSR_fail_snap2", "FileSR_clone_after_commit"]
)
def test_a_driver_dies_while_it_splits_a_disk(fat: Filer, point: str) -> None:
    """Where the disk has no file of its own, too: the next call gives it back."""
    with fat.repository() as sr:
        model = Model(8 * BLOCK)
        disk = sr.create(8 * BLOCK)
        disk.write(awkward_spans("kept", disk.size))
        model.write(awkward_spans("kept", disk.size))
        with fat.host.fist(point, action="kill") as fist, pytest.raises(XenAPI.Failure):
            disk.snapshot()
        assert fist.reached
        disk.must_hold(model)
        check(sr)
        snapshot = disk.snapshot()
        snapshot.must_hold(model)
