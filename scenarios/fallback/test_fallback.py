"""Where a driver cannot revert, VDI.revert clones: a fresh disk takes the old one's place."""

from collections.abc import Iterator
from typing import Any

import pytest

from scenarios.oracle import BLOCK, Model, Span, awkward_spans, full_block, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository
from testbed.sessions import close_session


@pytest.fixture(params=["nocap", "says38"])
def unable(
    sr: Repository, repositories: RepositoryCache, request: pytest.FixtureRequest
) -> Iterator[Repository]:
    """An SR of the same kind whose driver cannot revert: it says so, or it does not."""
    with repositories.lend(sr.kind, variant(sr.kind, request.param)) as repository:
        yield repository


def variant(kind: str, suffix: str) -> str:
    """The driver for an SR kind, such as lvhd-thin, that cannot revert."""
    return f"{kind.partition('-')[0]}-{suffix}"


def assert_replaced(old: VDI, old_record: dict[str, Any], fresh: VDI, snapshots: list[VDI]) -> None:
    """The fresh disk stands where the old one stood, and the old one is gone."""
    assert fresh.ref != old.ref
    assert not old.exists()
    record = fresh.record()
    assert record["uuid"] != old_record["uuid"]
    for name in ("name_label", "name_description", "other_config", "type", "tags", "sharable"):
        assert record[name] == old_record[name], name
    assert record["is_a_snapshot"] is False
    assert {snapshot.snapshot_of for snapshot in snapshots} == {fresh.ref}
    assert set(record["snapshots"]) == {snapshot.ref for snapshot in snapshots}


def test_a_fresh_disk_takes_the_place(unable: Repository) -> None:
    """Content right, links and VBDs point to the fresh disk, the old disk is gone."""
    disk = unable.create(8 * BLOCK, label="database")
    unable.api.VDI.add_to_other_config(disk.ref, "owner", "somebody")
    vbd = unable.create_vbd(disk.ref)
    model = Model(disk.size)
    model.write(awkward_spans("first", disk.size))
    disk.write(awkward_spans("first", disk.size))
    wanted = disk.snapshot()
    disk.write(awkward_spans("second", disk.size))
    newer = disk.snapshot()
    before = disk.record()

    fresh = wanted.revert_live_disk()

    assert_replaced(disk, before, fresh, [wanted, newer])
    assert unable.api.VBD.get_VDI(vbd) == fresh.ref
    unable.vbd_must_hold(vbd, model)
    wanted.must_hold(model)


def test_the_fresh_disk_can_be_reverted_again(
    sr: Repository, repositories: RepositoryCache
) -> None:
    """The links that the fallback mended carry the next revert, to either snapshot."""
    with repositories.lend(sr.kind, variant(sr.kind, "nocap")) as unable:
        disk = unable.create(5 * BLOCK)
        models, snapshots = [Model(disk.size)], []
        for number in (1, 2):
            spans = one_sector(f"state {number}", number * BLOCK)
            models.append(models[-1].fork())
            models[-1].write(spans)
            disk.write(spans)
            snapshots.append(disk.snapshot())

        for index in (0, 1):
            before = disk.record()
            fresh = snapshots[index].revert_live_disk()
            assert_replaced(disk, before, fresh, snapshots)
            disk = fresh
        disk.must_hold(models[2])
        snapshots[0].revert_live_disk().must_hold(models[1])


def test_a_raw_disk(sr: Repository) -> None:
    """Raw VDIs can neither be reverted nor cloned by the driver: xapi copies the blocks."""
    used = sr.create(8 * BLOCK, label="leaves its bytes on the medium", type="raw")
    used.write(full_block("old"))
    used.destroy()
    disk = sr.create(5 * BLOCK, label="raw", type="raw")
    model = Model(disk.size)
    model.write([Span(0, sr.read_all(disk))])  # a raw volume shows what its extents held
    model.write(awkward_spans("first", disk.size))
    disk.write(awkward_spans("first", disk.size))
    # The driver has no snapshot of a raw disk either: a copy is declared to be one, with the
    # rights of a driver (a session on the host's own socket).
    snapshot = VDI(sr, sr.api.VDI.copy(disk.ref, sr.ref))
    driver = sr.host.local_session()
    driver.xenapi.VDI.set_is_a_snapshot(snapshot.ref, True)
    driver.xenapi.VDI.set_snapshot_of(snapshot.ref, disk.ref)
    close_session(driver)
    before = disk.record()

    fresh = snapshot.revert_live_disk()

    assert_replaced(disk, before, fresh, [snapshot])
    fresh.must_hold(model)
