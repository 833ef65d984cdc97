"""A revert gives the snapshot's bytes back, all of them, and changes nothing else."""

from typing import Any

from scenarios.invariants import check_everything
from scenarios.oracle import BLOCK, Model, awkward_spans, full_block, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository

#: What a revert may change in the record of a disk.
_CONTENT_FIELDS = {"virtual_size", "physical_utilisation", "sm_config", "cbt_enabled"}


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """The fields that a client recognises a disk by."""
    return {name: value for name, value in record.items() if name not in _CONTENT_FIELDS}


def test_content_size_and_identity(sr: Repository, vdi: VDI) -> None:
    """Write, snapshot, grow, overwrite, revert: the old bytes on the same disk.

    Reference, uuid, location, names, tags, other_config and VBDs are kept; the size is the
    snapshot's again; the snapshot's record and content are what they were.
    """
    api, model = sr.api, Model(vdi.size)
    api.VDI.set_name_label(vdi.ref, "database")
    api.VDI.add_to_other_config(vdi.ref, "owner", "somebody")
    api.VDI.add_tags(vdi.ref, "important")
    vbd = sr.create_vbd(vdi.ref)
    spans = [*awkward_spans("first", vdi.size), *full_block("first")]
    model.write(spans)
    vdi.write(spans)
    snapshot = vdi.snapshot()
    vdi.resize(vdi.size + 3 * BLOCK)
    vdi.write(awkward_spans("second", vdi.size))
    vdi_before, snapshot_before = identity(vdi.record()), snapshot.record()

    reverted = snapshot.revert_live_disk()

    assert reverted.ref == vdi.ref
    assert identity(vdi.record()) == vdi_before
    assert vdi.record()["location"] == vdi_before["uuid"]
    assert snapshot.record() == snapshot_before
    assert snapshot.snapshot_of == vdi.ref
    assert vdi.size == model.size == snapshot.size
    assert api.VDI.get_VBDs(vdi.ref) == [vbd]
    sr.vbd_must_hold(vbd, model)
    snapshot.must_hold(model)


def test_older_snapshot_and_forth_again(vdi: VDI) -> None:
    """Either of two snapshots can be reverted to, in any order."""
    older_model = Model(vdi.size)
    older_model.write(awkward_spans("first", vdi.size))
    vdi.write(awkward_spans("first", vdi.size))
    older, newer_model = vdi.snapshot(), older_model.fork()
    newer_model.write(awkward_spans("second", vdi.size))
    vdi.write(awkward_spans("second", vdi.size))
    newer = vdi.snapshot()

    older.revert_live_disk()
    vdi.must_hold(older_model)
    newer.revert_live_disk()
    vdi.must_hold(newer_model)
    assert [older.snapshot_of, newer.snapshot_of] == [vdi.ref, vdi.ref]


def test_snapshot_tree(vdi: VDI) -> None:
    """Snapshots 2 and 3 both grow from 1; reverts in the order 1, 2, 3, 1, 1."""
    model = Model(vdi.size)
    model.write(awkward_spans("one", vdi.size))
    vdi.write(awkward_spans("one", vdi.size))
    snapshots, models = {1: vdi.snapshot()}, {1: model}
    for number in (2, 3):
        snapshots[1].revert_live_disk()
        spans = one_sector(f"branch {number}", number * BLOCK + 512)
        models[number] = model.fork()
        models[number].write(spans)
        vdi.write(spans)
        snapshots[number] = vdi.snapshot()

    for number in (1, 2, 3, 1, 1):
        snapshots[number].revert_live_disk()
        vdi.must_hold(models[number])


def test_snapshot_that_was_written_to(vdi: VDI) -> None:
    """A snapshot with data of its own: the disk gets that data, the snapshot keeps it."""
    model = Model(vdi.size)
    snapshot = vdi.snapshot()
    model.write(awkward_spans("into the snapshot", vdi.size))
    snapshot.write(awkward_spans("into the snapshot", vdi.size))

    snapshot.revert_live_disk()

    vdi.must_hold(model)
    vdi.write(one_sector("into the disk, afterwards", 0))
    snapshot.must_hold(model)


def test_snapshot_of_a_disk_that_was_never_written(vdi: VDI) -> None:
    """The disk reads as zeros again, and the snapshot is no part of it."""
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("noise", vdi.size))

    snapshot.revert_live_disk()

    vdi.must_hold(Model(vdi.size))
    snapshot.destroy()
    vdi.must_hold(Model(vdi.size))


def test_life_goes_on(sr: Repository, vdi: VDI) -> None:
    """A reverted disk is written, snapshot and reverted like any other; clones stay."""
    model = Model(vdi.size)
    model.write(one_sector("first", 512))
    vdi.write(one_sector("first", 512))
    snapshot = vdi.snapshot()
    clone, clone_model = snapshot.clone(), model.fork()
    snapshot.revert_live_disk()
    model.write(awkward_spans("second life", vdi.size))
    vdi.write(awkward_spans("second life", vdi.size))
    second = vdi.snapshot()
    second.revert_live_disk()

    sr.scan()
    vdi.must_hold(model)
    clone.must_hold(clone_model)


def test_no_program_is_run(sr: Repository, vdi: VDI) -> None:
    """No python and no lvm is executed on the way of a revert: that would cost a second."""
    vdi.write(one_sector("wanted", 0))
    snapshot = vdi.snapshot()

    with sr.host.programs_run() as programs:
        snapshot.revert_live_disk()
        sr.host.kernel.run(["true"])  # shows that programs are noted

    assert programs == ["true"]


def test_power_cut_after_a_revert(sr: Repository, vdi: VDI, repositories: RepositoryCache) -> None:
    """A revert that has returned is durable: the next boot finds the snapshot's content."""
    model = Model(vdi.size)
    model.write(awkward_spans("wanted", vdi.size))
    vdi.write(awkward_spans("wanted", vdi.size))
    snapshot = vdi.snapshot()
    vdi.write(one_sector("lost", 0))
    snapshot.revert_live_disk()

    repositories.cut_the_power()

    check_everything(sr, {vdi.ref: model, snapshot.ref: model})
    snapshot.revert_live_disk()
    vdi.must_hold(model)
