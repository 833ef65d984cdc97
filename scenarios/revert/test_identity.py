"""A revert in place changes what a disk holds, and nothing of what it is."""

from typing import Any

from scenarios.oracle import BLOCK, awkward_spans, one_sector
from scenarios.storage import VDI, Repository

#: What a revert may change in the record of the disk.
_CONTENT_FIELDS = {"virtual_size", "physical_utilisation", "sm_config", "cbt_enabled"}


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """The fields that a client recognises a disk by."""
    return {name: value for name, value in record.items() if name not in _CONTENT_FIELDS}


def test_the_disk_stays_the_same_disk(sr: Repository, vdi: VDI) -> None:
    """Reference, uuid, location, names, tags, other_config and the rest are kept."""
    api = sr.api
    api.VDI.set_name_label(vdi.ref, "database")
    api.VDI.set_name_description(vdi.ref, "must not be lost")
    api.VDI.add_to_other_config(vdi.ref, "owner", "somebody")
    api.VDI.add_tags(vdi.ref, "important")
    vdi.write(awkward_spans("first", vdi.size))
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("second", vdi.size))
    before = identity(vdi.record())

    reverted = snapshot.revert_live_disk()

    assert reverted.ref == vdi.ref
    assert identity(vdi.record()) == before
    assert vdi.record()["location"] == before["uuid"]


def test_the_disk_keeps_its_vbds(sr: Repository, vdi: VDI) -> None:
    """A VBD that pointed to the disk still does, and can be plugged."""
    vbd = sr.create_vbd(vdi.ref)
    vdi.write(one_sector("first", BLOCK))
    snapshot = vdi.snapshot()

    snapshot.revert_live_disk()

    assert sr.api.VDI.get_VBDs(vdi.ref) == [vbd]
    assert sr.api.VBD.get_VDI(vbd) == vdi.ref
    sr.api.VBD.plug(vbd)
    device = "/dev/" + sr.api.VBD.get_device(vbd)
    assert sr.host.read(device, BLOCK, 512) == one_sector("first", BLOCK)[0].data
    sr.api.VBD.unplug(vbd)


def test_the_snapshot_is_not_touched(vdi: VDI) -> None:
    """Its record is the same, word for word, and so is its content."""
    vdi.write(awkward_spans("first", vdi.size))
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("second", vdi.size))
    record, content = snapshot.record(), snapshot.content()

    snapshot.revert_live_disk()

    assert snapshot.record() == record
    assert snapshot.content() == content


def test_snapshots_still_belong_to_the_disk(vdi: VDI) -> None:
    """`snapshot_of` of every snapshot is the disk, and the disk is nobody's snapshot."""
    snapshots = [vdi.snapshot(), vdi.snapshot()]
    vdi.write(one_sector("after", 0))

    snapshots[0].revert_live_disk()

    assert [snapshot.snapshot_of for snapshot in snapshots] == [vdi.ref, vdi.ref]
    assert set(vdi.record()["snapshots"]) == {snapshot.ref for snapshot in snapshots}
    assert vdi.record()["is_a_snapshot"] is False
