"""A list of changed blocks names every block that changed, or is refused: it is never too short."""

from base64 import b64decode
from typing import Any

import pytest
import XenAPI

from scenarios.oracle import BLOCK
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository

PIECE = 64 << 10


def changed(older: VDI, newer: VDI) -> set[int]:
    """The pieces of 64 KiB that changed from one disk to the other."""
    bitmap = b64decode(older.api.list_changed_blocks(older.ref, newer.ref))
    assert len(bitmap) == -(-newer.size // PIECE // 8)
    return {8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte << bit & 128}


def refused(older: VDI, newer: VDI) -> str:
    """The error that asking gives."""
    with pytest.raises(XenAPI.Failure) as caught:
        older.api.list_changed_blocks(older.ref, newer.ref)
    return str(caught.value.details[0])


def touch(vdi: VDI, *pieces: int) -> None:
    """Write a sector somewhere into each of the pieces."""
    with vdi.plugged() as device:
        touch_device(vdi, device, *pieces)


def touch_device(vdi: VDI, device: str, *pieces: int) -> None:
    """The same, while it is plugged."""
    spans = [(piece * PIECE + piece % 128 * 512, b"%4d" % piece * 128) for piece in pieces]
    vdi.sr.host.write(device, *spans)


@pytest.fixture
def tracked(vdi: VDI) -> VDI:
    """A disk of eight blocks whose changes are tracked."""
    vdi.api.enable_cbt(vdi.ref)
    assert vdi.record()["cbt_enabled"]
    return vdi


def test_line_of_snapshots(tracked: VDI) -> None:
    """What was written between two snapshots, across three, and since the last."""
    touch(tracked, 0, 1, 200)
    first = tracked.snapshot()
    touch(tracked, 1, 7, 8, 255)
    second = tracked.snapshot()
    touch(tracked, 9)
    third = tracked.snapshot()
    touch(tracked, 64)

    assert [snapshot.record()["cbt_enabled"] for snapshot in (first, second, third)] == [True] * 3
    assert changed(first, second) == {1, 7, 8, 255}
    assert changed(second, third) == {9}
    assert changed(first, third) == {1, 7, 8, 9, 255}
    assert changed(first, tracked) == {1, 7, 8, 9, 64, 255}
    assert changed(third, tracked) == {64}
    assert refused(second, first) == "SR_BACKEND_FAILURE_460"
    assert not tracked.clone().record()["cbt_enabled"]
    assert changed(third, tracked) == {64}


def test_while_it_is_attached(vdi: VDI) -> None:
    """Switched on and snapshotted under a running user of the disk."""
    with vdi.plugged() as device:
        vdi.api.enable_cbt(vdi.ref)
        touch_device(vdi, device, 3)
        first = vdi.snapshot()
        touch_device(vdi, device, 4, 5)
        second = vdi.snapshot()
        touch_device(vdi, device, 6)
        assert changed(first, second) == {4, 5}
        second.destroy()
        touch_device(vdi, device, 7)
    assert changed(first, vdi) == {4, 5, 6, 7}
    assert vdi.record()["cbt_enabled"]


def test_a_snapshot_between_goes(tracked: VDI) -> None:
    """Destroyed, or only its data: what it knew is still told."""
    first = tracked.snapshot()
    touch(tracked, 1)
    second = tracked.snapshot()
    touch(tracked, 2)
    third = tracked.snapshot()
    touch(tracked, 3)

    second.destroy()
    assert changed(first, third) == {1, 2}
    for snapshot in (first, third):
        snapshot.api.data_destroy(snapshot.ref)
        assert snapshot.record()["type"] == "cbt_metadata"
    assert changed(first, third) == {1, 2}
    assert changed(third, tracked) == {3}
    tracked.sr.scan()
    assert first.record()["type"] == "cbt_metadata"
    assert changed(first, tracked) == {1, 2, 3}
    third.destroy()
    assert changed(first, tracked) == {1, 2, 3}


def test_growing(tracked: VDI) -> None:
    """Pieces behind the old end are told of."""
    first = tracked.snapshot()
    touch(tracked, 1)
    tracked.resize(tracked.size + 20 * BLOCK)
    touch(tracked, 8 * 32 + 5)
    assert changed(first, tracked) == {1, 8 * 32 + 5}
    second = tracked.snapshot()
    touch(tracked, 300)
    assert changed(first, tracked) == {1, 8 * 32 + 5, 300}
    assert changed(second, tracked) == {300}


def test_off_and_on_again(tracked: VDI) -> None:
    """What was written in between nobody knows, so nobody is told a part of it."""
    first = tracked.snapshot()
    tracked.api.disable_cbt(tracked.ref)
    touch(tracked, 1)
    assert refused(first, tracked) == "SR_BACKEND_FAILURE_460"
    tracked.api.enable_cbt(tracked.ref)
    assert refused(first, tracked) == "SR_BACKEND_FAILURE_460"
    second = tracked.snapshot()
    touch(tracked, 2)
    assert refused(first, second) == "SR_BACKEND_FAILURE_460"
    assert changed(second, tracked) == {2}


def test_revert_to_the_newest(tracked: VDI) -> None:
    """The line goes on from there: what was thrown away is not told, what follows is."""
    older = tracked.snapshot()
    touch(tracked, 1)
    newest = tracked.snapshot()
    touch(tracked, 2)

    newest.revert_live_disk()

    assert tracked.record()["cbt_enabled"]
    assert changed(newest, tracked) == set()
    touch(tracked, 3)
    assert changed(newest, tracked) == {3}
    assert changed(older, tracked) == {1, 3}
    newest.revert_live_disk()
    assert changed(newest, tracked) == set()


def test_revert_to_an_older_one(tracked: VDI) -> None:
    """The history is a tree now, which logs cannot tell: between the branches nothing is told."""
    older = tracked.snapshot()
    touch(tracked, 1)
    newer = tracked.snapshot()
    touch(tracked, 2)

    older.revert_live_disk()

    touch(tracked, 3)
    assert tracked.record()["cbt_enabled"]
    assert changed(older, newer) == {1}
    assert refused(newer, tracked) == "SR_BACKEND_FAILURE_460"
    assert refused(older, tracked) == "SR_BACKEND_FAILURE_460"
    after = tracked.snapshot()
    touch(tracked, 4)
    assert changed(after, tracked) == {4}


@pytest.mark.parametrize("snapshot_on", [False, True])
@pytest.mark.parametrize("disk_on", [False, True])
def test_revert_takes_over_what_the_snapshot_says(
    vdi: VDI, snapshot_on: bool, disk_on: bool
) -> None:
    """Tracked or not, the disk becomes what the snapshot is; the snapshot stays as it is."""
    if snapshot_on:
        vdi.api.enable_cbt(vdi.ref)
    snapshot = vdi.snapshot()
    switch: Any = vdi.api.enable_cbt if disk_on else vdi.api.disable_cbt
    switch(vdi.ref)

    snapshot.revert_live_disk()

    assert vdi.record()["cbt_enabled"] == snapshot_on
    assert snapshot.record()["cbt_enabled"] == snapshot_on
    if snapshot_on:
        touch(vdi, 1)
        assert changed(snapshot, vdi) == {1}
    else:
        assert refused(snapshot, vdi) == "SR_BACKEND_FAILURE_460"


def test_power_cut(tracked: VDI, sr: Repository, repositories: RepositoryCache) -> None:
    """Bits may be lost with the host's memory, so the log is given up, and somebody is told."""
    first = tracked.snapshot()
    touch(tracked, 1)
    vbd = sr.create_vbd(tracked.ref)
    sr.api.VBD.plug(vbd)
    touch_device(tracked, "/dev/" + sr.api.VBD.get_device(vbd), 2)

    repositories.cut_the_power()

    assert refused(first, tracked) == "SR_BACKEND_FAILURE_459"
    touch(tracked, 3)
    assert not tracked.record()["cbt_enabled"]
    assert refused(first, tracked) == "SR_BACKEND_FAILURE_460"
    names = {message["name"] for message in sr.api.message.get_all_records().values()}
    assert "VDI_CBT_METADATA_INCONSISTENT" in names
