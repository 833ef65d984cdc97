"""Garbage is removed, chains become short, and no byte changes."""

from contextlib import nullcontext

import pytest

from scenarios.gc.support import collect
from scenarios.oracle import BLOCK, Model, awkward_spans, full_block, one_sector
from scenarios.storage import VDI, Repository


def test_garbage_after_delete(sr: Repository, vdi: VDI) -> None:
    """When a disk and its snapshots are gone, so is everything below them."""
    vdi.write(awkward_spans("one", vdi.size))
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("two", vdi.size))
    other = vdi.snapshot()
    for disk in (snapshot, other, vdi):
        disk.destroy()

    done = collect(sr)

    assert len(done.garbage) == 2
    assert (done.coalesced, done.leaves, done.failed) == ((), (), {})
    assert not sr.vdis()
    assert not sr.images()


def test_nothing_to_do(sr: Repository, vdi: VDI) -> None:
    """A disk and its snapshot need what they stand on; a second look changes nothing."""
    vdi.write(one_sector("kept", 0))
    vdi.snapshot()
    stored = sr.stored()

    for _ in range(2):
        done = collect(sr)
        assert (done.garbage, done.coalesced, done.leaves, done.ended) == ((), (), (), "done")
    assert sr.stored() == stored


def test_base_copies_in_the_middle(sr: Repository, vdi: VDI) -> None:
    """Of three snapshots the middle ones go: their data move down, the others keep theirs."""
    model, models = Model(vdi.size), {}
    snapshots = {}
    for number in range(4):
        spans = [*awkward_spans(f"level {number}", vdi.size), *full_block(f"level {number}")]
        spans += one_sector(f"alone {number}", number * BLOCK + 1024)
        model.write(spans)
        vdi.write(spans)
        snapshots[number], models[number] = vdi.snapshot(), model.fork()
    vdi.write(one_sector("top", 0))
    model.write(one_sector("top", 0))
    for number in (1, 2):
        snapshots.pop(number).destroy()
    assert sr.chain_depth(vdi) == 5

    done = collect(sr)

    assert (len(done.coalesced), done.garbage, done.leaves, done.failed) == (2, (), (), {})
    assert sr.chain_depth(vdi) == 3
    sr.scan()
    assert sr.chain_depth(vdi) == 3
    vdi.must_hold(model)
    for number, snapshot in snapshots.items():
        snapshot.must_hold(models[number])


def test_down_to_one_image(sr: Repository, vdi: VDI) -> None:
    """A disk whose snapshots are gone stands alone again, with its uuid and its record."""
    model = Model(vdi.size)
    ref, uuid = vdi.ref, vdi.uuid
    for number in range(3):
        spans = one_sector(f"level {number}", number * BLOCK)
        model.write(spans)
        vdi.write(spans)
        vdi.snapshot().destroy()

    done = collect(sr)

    assert (len(done.coalesced), done.leaves, done.failed) == (2, (uuid,), {})
    assert (sr.vdis(), vdi.uuid) == ({ref}, uuid)
    assert "vhd-parent" not in vdi.record()["sm_config"]
    assert len(sr.images()) == 1
    vdi.must_hold(model)
    vdi.snapshot().revert_live_disk()
    vdi.must_hold(model)


def test_a_disk_that_grew(sr: Repository, vdi: VDI) -> None:
    """The parent grows with what goes down into it."""
    model = Model(vdi.size)
    vdi.snapshot()
    for number in range(2):
        model.grow(model.size + 3 * BLOCK)
        vdi.resize(model.size)
        spans = one_sector(f"end {number}", model.size - 512)
        model.write(spans)
        vdi.write(spans)
        if number == 0:
            vdi.snapshot().destroy()

    collect(sr)

    vdi.must_hold(model)
    assert sr.chain_depth(vdi) == 1


@pytest.mark.parametrize("attached", [False, True])
def test_reverted_disks(sr: Repository, vdi: VDI, attached: bool) -> None:
    """Cases A, B and C of a revert, one after the other, to the fixed point."""
    empty = vdi.snapshot()
    model = Model(vdi.size)
    model.write(awkward_spans("A", vdi.size))
    vdi.write(awkward_spans("A", vdi.size))
    untouched, untouched_model = vdi.snapshot(), model.fork()
    written, written_model = vdi.snapshot(), model.fork()
    written.write(one_sector("B", BLOCK))
    written_model.write(one_sector("B", BLOCK))
    for snapshot, expected in (
        (untouched, untouched_model),
        (written, written_model),
        (empty, Model(vdi.size)),
        (written, written_model),
    ):
        snapshot.revert_live_disk()
        vdi.write(one_sector("lost", 3 * BLOCK))
        snapshot.revert_live_disk()
        with vdi.plugged() if attached else nullcontext():
            assert not sr.host.gc(sr.uuid).failed
        collect(sr)
        vdi.must_hold(expected)
        assert sr.chain_depth(vdi) <= 3
    untouched.must_hold(untouched_model)
    empty.must_hold(Model(vdi.size))


def test_many_reverts(sr: Repository, vdi: VDI) -> None:
    """However often a disk was reverted, written and snapshot: its chain is short again."""
    model = Model(vdi.size)
    model.write(awkward_spans("wanted", vdi.size))
    vdi.write(awkward_spans("wanted", vdi.size))
    snapshot = vdi.snapshot()
    for number in range(4):
        vdi.write(one_sector(f"lost {number}", number * BLOCK))
        later = vdi.snapshot()
        snapshot.revert_live_disk()
        later.destroy()

    collect(sr)

    assert sr.chain_depth(vdi) == 2
    assert len(sr.images()) == 3
    vdi.must_hold(model)
    snapshot.must_hold(model)
    snapshot.destroy()
    collect(sr)
    assert len(sr.images()) == 1
    vdi.must_hold(model)
