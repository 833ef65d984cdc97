"""The garbage collector below a disk that is being reverted, copied, grown or attached."""

import pytest

from scenarios.background import calls
from scenarios.concurrency.serial import Stage, settle
from scenarios.concurrency.test_clients import ACTS, REFUSALS
from scenarios.invariants import check
from scenarios.storage import Repository

#: Where the collector is held, and which snapshot is gone then. Without the older one a base copy
#: in the middle goes down into the one below; without the newer one the disk itself does.
POINTS = {
    "LVHDRT_coalescing_VHD_data": "old",
    "LVHDRT_before_create_relink_journal": "old",
    "LVHDRT_coaleaf_before_coalesce": "new",
}
RIVALS = ("revert", "snapshot", "clone", "resize", "attach")


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("point", POINTS)
def test_in_the_middle_of_a_collection(sr: Repository, point: str, rival: str) -> None:
    """The rival is sent while the collector stands at a point of its work on the same chain."""
    stage = Stage.build(sr)
    stage.roles.pop(POINTS[point]).destroy()
    act = ACTS["revert to another" if rival == "revert" and "new" in stage.roles else rival]
    with calls(sr) as start:
        with sr.host.fist(point, "hold") as held:
            collector = start(lambda _: sr.host.gc(sr.uuid))
            assert held.wait(60)
            call = start(lambda own: act.run(stage.over(own)))
        call.outcome()
        collector.answer()
    world, codes = settle(stage, {act: call}, REFUSALS)
    assert codes[act.name] == ""
    stage.must_be_whole(world)
    sr.host.gc(sr.uuid)
    check(sr, collected=True)
    stage.must_be_whole(world)
