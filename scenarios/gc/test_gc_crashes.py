"""A collector that dies anywhere: the next one ends what it began, and no byte changes."""

from contextlib import suppress

import pytest
import XenAPI

from scenarios.gc.support import collect
from scenarios.invariants import check
from scenarios.oracle import BLOCK, Model, awkward_spans, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository
from xapi.backend import BackendUnavailable, PluginFailed

COALESCE = (
    "LVHDRT_finding_a_suitable_pair",
    "LVHDRT_coalescing_VHD_data",
    "LVHDRT_before_create_relink_journal",
    "LVHDRT_relinking_grandchildren",
)
LEAF = (
    "LVHDRT_coaleaf_delay_3",
    "LVHDRT_coaleaf_before_coalesce",
    "LVHDRT_coaleaf_after_coalesce",
    "LVHDRT_coaleaf_one_renamed",
    "LVHDRT_coaleaf_both_renamed",
    "LVHDRT_coaleaf_before_remove_j",
    "LVHDRT_coaleaf_after_vdirec",
)
VOLUMES = (
    "LVHDRT_coalescing_before_inflate_grandparent",
    "LVHDRT_inflating_the_parent",
    "LVHDRT_coaleaf_before_delete",
    "LVHDRT_coaleaf_after_delete",
)

#: Of a disk that does not fit into what other disks of its size leave.
_LARGE = 64 * BLOCK


def long_chain(vdi: VDI) -> tuple[Model, VDI, Model]:
    """A disk that grew, two snapshots of it gone; the one below them stays."""
    model = Model(vdi.size)
    model.write(awkward_spans("kept", vdi.size))
    vdi.write(awkward_spans("kept", vdi.size))
    snapshot, kept = vdi.snapshot(), model.fork()
    for number in range(2):
        spans = awkward_spans(f"level {number}", vdi.size)
        model.write(spans)
        vdi.write(spans)
        vdi.snapshot().destroy()
        model.grow(model.size + BLOCK)
        vdi.resize(model.size)
    model.write(one_sector("end", model.size - 512))
    vdi.write(one_sector("end", model.size - 512))
    return model, snapshot, kept


@pytest.mark.parametrize("point", [*COALESCE, *LEAF, *VOLUMES])
def test_killed(sr: Repository, vdi: VDI, point: str) -> None:
    """SIGKILL at each point; other calls mend what concerns them, a collector the rest."""
    if point in VOLUMES and not sr.kind.startswith("lvhd"):
        pytest.skip("volumes only")
    model, snapshot, kept = long_chain(vdi)

    with sr.host.fist(point, action="kill") as fist:
        with pytest.raises(PluginFailed):
            sr.host.gc(sr.uuid)
        assert fist.reached

    vdi.must_hold(model)
    snapshot.must_hold(kept)
    done = collect(sr)
    assert not done.failed
    assert len(sr.images()) == 3
    vdi.must_hold(model)
    snapshot.must_hold(kept)
    snapshot.destroy()
    collect(sr)
    assert len(sr.images()) == 1
    vdi.must_hold(model)


def test_a_merge_that_is_not_taken_up_again(sr: Repository, vdi: VDI) -> None:
    """Nobody may coalesce any more after a crash: the base copy is read-only again, at least."""
    if not sr.on_volumes:
        pytest.skip("volumes only")
    model, _, _ = long_chain(vdi)
    with sr.host.fist("LVHDRT_inflating_the_parent", action="kill"), pytest.raises(PluginFailed):
        sr.host.gc(sr.uuid)

    sr.api.SR.add_to_other_config(sr.ref, "coalesce", "false")
    try:
        done = sr.host.gc(sr.uuid)
        check(sr)
    finally:
        sr.api.SR.remove_from_other_config(sr.ref, "coalesce")

    assert (done.coalesced, done.failed) == ((), {})
    collect(sr)
    vdi.must_hold(model)


def test_a_small_disk_takes_a_place_that_has_no_room_to_grow(sr: Repository) -> None:
    """The twin of a snapshot whose call died is a disk, but small; it stays so on a full SR."""
    if not sr.on_volumes:
        pytest.skip("volumes only")
    vdi = sr.create(_LARGE)
    model = Model(_LARGE)
    model.write(one_sector("kept", 0))
    vdi.write(one_sector("kept", 0))
    before = sr.vdis()
    died = pytest.raises(XenAPI.Failure)
    with sr.host.fist("LVHDRT_clone_vdi_after_parent_ro", action="kill"), died:
        vdi.snapshot()
    sr.scan()
    (twin,) = sr.vdis() - before - sr.base_copies()
    vdi.destroy()
    spare = sr.create(8 * BLOCK)
    for size in (_LARGE, 8 * BLOCK):
        with suppress(XenAPI.Failure):
            while True:
                sr.create(size)
    spare.destroy()

    done = collect(sr)

    assert (len(done.leaves), done.failed) == (1, {})
    VDI(sr, twin).must_hold(model)


@pytest.mark.parametrize("point", ["LVHDRT_relinking_grandchildren", *LEAF[1:5]])
def test_power_cut(sr: Repository, vdi: VDI, repositories: RepositoryCache, point: str) -> None:
    """The same, with all that was not flushed lost, too."""
    model, snapshot, kept = long_chain(vdi)

    with sr.host.fist(point, action="power-cut") as fist, pytest.raises(BackendUnavailable):
        sr.host.gc(sr.uuid)
    assert fist.reached
    repositories.restart()

    vdi.must_hold(model)
    snapshot.must_hold(kept)
    assert not collect(sr).failed
    assert len(sr.images()) == 3
    vdi.must_hold(model)
    snapshot.must_hold(kept)


def test_a_base_copy_that_a_cut_left_writable_is_readonly_again(sr: Repository, vdi: VDI) -> None:
    """While it is relinked LVM lets it be written; it is relinked once more."""
    if not sr.on_volumes:
        pytest.skip("volumes only")
    model = Model(vdi.size)
    for number in range(3):
        model.write(one_sector(f"level {number}", number * BLOCK))
        vdi.write(one_sector(f"level {number}", number * BLOCK))
        snapshot = vdi.snapshot()
        if number == 0:
            snapshot.destroy()
    # It stands on the image that is merged, and a snapshot does, so it is not merged itself.
    above = vdi.record()["sm_config"]["vhd-parent"]
    volume = f"VG_XenStorage-{sr.uuid}/VHD-{above}"
    done = sr.host.kernel.run(["lvchange", "-p", "rw", volume])
    assert done.returncode == 0, done.stderr
    assert collect(sr).coalesced
    shown = sr.host.kernel.run(["lvs", "--noheadings", "-o", "lv_permissions", volume])
    assert shown.stdout.strip() == "read-only"
    vdi.must_hold(model)
    snapshot.must_hold(model)
