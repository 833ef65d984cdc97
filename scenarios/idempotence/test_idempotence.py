"""Doing it twice is doing it once: same content, and nothing grows."""

from scenarios.oracle import Model, awkward_spans
from scenarios.storage import VDI, Repository


def test_reverting_again(sr: Repository, vdi: VDI) -> None:
    """The second and third revert change no byte, add no node, file, LV or level."""
    model = Model(vdi.size)
    model.write(awkward_spans("first", vdi.size))
    vdi.write(awkward_spans("first", vdi.size))
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("second", vdi.size))

    snapshot.revert_live_disk()
    nodes, depth, stored = sr.vdis(), sr.chain_depth(vdi), sr.stored()
    for _ in range(2):
        assert snapshot.revert_live_disk().ref == vdi.ref

    assert (sr.vdis(), sr.chain_depth(vdi), sr.stored()) == (nodes, depth, stored)
    vdi.must_hold(model)


def test_reverting_a_disk_that_nobody_touched(sr: Repository, vdi: VDI) -> None:
    """Right after the snapshot there is nothing to bring back."""
    model = Model(vdi.size)
    model.write(awkward_spans("only", vdi.size))
    vdi.write(awkward_spans("only", vdi.size))
    snapshot = vdi.snapshot()
    nodes, depth, stored = sr.vdis(), sr.chain_depth(vdi), sr.stored()

    snapshot.revert_live_disk()

    assert (sr.vdis(), sr.chain_depth(vdi), sr.stored()) == (nodes, depth, stored)
    vdi.must_hold(model)


def test_a_written_snapshot_adds_one_level_at_most(sr: Repository, vdi: VDI) -> None:
    """Its data moves into a base copy once; every further revert finds it there."""
    snapshot = vdi.snapshot()
    snapshot.write(awkward_spans("into the snapshot", vdi.size))

    snapshot.revert_live_disk()
    depth, stored = sr.chain_depth(vdi), sr.stored()
    assert depth == 2
    for _ in range(2):
        snapshot.revert_live_disk()

    assert (sr.chain_depth(vdi), sr.stored()) == (depth, stored)


def test_detach_frees_everything(sr: Repository, vdi: VDI) -> None:
    """Unplugging the SR after reverts leaves no device and no mount; plugging finds all."""
    model = Model(vdi.size)
    model.write(awkward_spans("kept", vdi.size))
    vdi.write(awkward_spans("kept", vdi.size))
    snapshot = vdi.snapshot()
    for _ in range(2):
        snapshot.revert_live_disk()
    pbd = sr.pbd()

    sr.api.PBD.unplug(pbd)
    census = sr.host.census()
    sr.api.PBD.plug(pbd)

    assert not census["nbds"]
    assert not [name for name in census["mapped"] if sr.uuid.replace("-", "--") in name]
    assert not [path for path in census["mounts"] if sr.uuid in path]
    vdi.must_hold(model)
