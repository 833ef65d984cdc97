"""A revert gives the snapshot's bytes back, all of them and nothing else."""

from scenarios.oracle import BLOCK, Model, awkward_spans, one_sector
from scenarios.storage import VDI, Repository


def write(disk: VDI, model: Model, seed: str) -> None:
    """The same awkward writes to a disk and to its model."""
    spans = awkward_spans(seed, model.size)
    disk.write(spans)
    model.write(spans)


def test_content_of_the_snapshot_comes_back(vdi: VDI) -> None:
    """Write, snapshot, overwrite, revert: every byte is the snapshot's."""
    model = Model(vdi.size)
    write(vdi, model, "first")
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("second", vdi.size))
    vdi.write(one_sector("a block that the snapshot never had", 6 * BLOCK + 512))

    reverted = snapshot.revert_live_disk()

    reverted.must_hold(model)
    snapshot.must_hold(model)


def test_size_comes_back_after_a_resize(vdi: VDI) -> None:
    """A disk that grew after the snapshot is as small as the snapshot again."""
    model = Model(vdi.size)
    write(vdi, model, "small")
    snapshot = vdi.snapshot()
    vdi.resize(vdi.size + 3 * BLOCK)
    vdi.write(awkward_spans("large", vdi.size))
    assert vdi.size == model.size + 3 * BLOCK

    snapshot.revert_live_disk()

    assert vdi.size == model.size == snapshot.size
    vdi.must_hold(model)


def test_older_snapshot_and_forth_again(vdi: VDI) -> None:
    """Either of two snapshots can be reverted to, in any order."""
    model = Model(vdi.size)
    write(vdi, model, "first")
    older, older_model = vdi.snapshot(), model.fork()
    write(vdi, model, "second")
    newer, newer_model = vdi.snapshot(), model.fork()
    vdi.write(one_sector("third", 512))

    older.revert_live_disk()
    vdi.must_hold(older_model)
    newer.revert_live_disk()
    vdi.must_hold(newer_model)
    older.must_hold(older_model)
    newer.must_hold(newer_model)


def test_snapshot_tree(vdi: VDI) -> None:
    """Snapshots 2 and 3 both grow from 1; reverts in the order 1, 2, 3, 1, 1."""
    model = Model(vdi.size)
    write(vdi, model, "one")
    snapshots, models = {1: vdi.snapshot()}, {1: model.fork()}
    for number in (2, 3):
        snapshots[1].revert_live_disk()
        branch = models[1].fork()
        spans = one_sector(f"branch {number}", number * BLOCK + 512)
        vdi.write(spans)
        branch.write(spans)
        snapshots[number], models[number] = vdi.snapshot(), branch

    for number in (1, 2, 3, 1, 1):
        snapshots[number].revert_live_disk()
        vdi.must_hold(models[number])
        vdi.write(one_sector("lost by the next revert", 5 * BLOCK))
    for number, snapshot in snapshots.items():
        snapshot.must_hold(models[number])


def test_snapshot_that_was_written_to(vdi: VDI) -> None:
    """A snapshot with data of its own: the disk gets that data, the snapshot keeps it."""
    model = Model(vdi.size)
    write(vdi, model, "before")
    snapshot = vdi.snapshot()
    write(snapshot, model, "into the snapshot")
    vdi.write(awkward_spans("into the disk", vdi.size))

    snapshot.revert_live_disk()

    vdi.must_hold(model)
    snapshot.must_hold(model)
    vdi.write(one_sector("after", 0))
    snapshot.must_hold(model)


def test_snapshot_of_a_disk_that_was_never_written(vdi: VDI) -> None:
    """The disk reads as zeros again, and the snapshot stays a leaf of its own."""
    blank = Model(vdi.size)
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("noise", vdi.size))

    snapshot.revert_live_disk()

    vdi.must_hold(blank)
    vdi.write(one_sector("after", BLOCK))
    snapshot.must_hold(blank)


def test_life_goes_on_after_a_revert(sr: Repository, vdi: VDI) -> None:
    """A reverted disk can be written, snapshot, cloned and reverted like any other."""
    model = Model(vdi.size)
    write(vdi, model, "first")
    snapshot = vdi.snapshot()
    clone, clone_model = snapshot.clone(), model.fork()
    vdi.write(awkward_spans("lost", vdi.size))
    snapshot.revert_live_disk()

    write(vdi, model, "second life")
    second, second_model = vdi.snapshot(), model.fork()
    vdi.write(one_sector("lost again", 4 * BLOCK))
    second.revert_live_disk()

    sr.scan()
    vdi.must_hold(second_model)
    second.must_hold(second_model)
    clone.must_hold(clone_model)
