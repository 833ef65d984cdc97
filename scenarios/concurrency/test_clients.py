"""Clients at once, through the XenAPI: what races with a revert of the same disk."""

import random
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from scenarios.background import Call, calls
from scenarios.concurrency.serial import (
    GROWN,
    Act,
    Stage,
    copied,
    grown,
    nothing,
    reverted_to,
    settle,
    without,
)
from scenarios.oracle import Content
from scenarios.storage import Repository

#: The toolstack's own word, or what it comes to when the other call was faster.
REFUSALS = {"OTHER_OPERATION_IN_PROGRESS", "VDI_IN_USE", "HANDLE_INVALID"}
SEEDS = (1, 2)


def _revert(stage: Stage, role: str) -> None:
    stage.roles[role].revert_live_disk()


def _look(stage: Stage, role: str, mode: str) -> Content:
    with stage.roles[role].plugged(mode) as device:
        return Content(*stage.sr.host.digest(device))


ACTS = {
    act.name: act
    for act in (
        Act("revert", lambda s: _revert(s, "old"), reverted_to("old")),
        Act("revert to another", lambda s: _revert(s, "new"), reverted_to("new")),
        Act("revert again", lambda s: _revert(s, "old"), reverted_to("old")),
        Act("snapshot", lambda s: s.roles["disk"].snapshot(), copied("disk", "fresh"), "fresh"),
        Act("clone", lambda s: s.roles["disk"].clone(), copied("disk", "twin"), "twin"),
        Act("clone the snapshot", lambda s: s.roles["old"].clone(), copied("old", "copy"), "copy"),
        Act("destroy the snapshot", lambda s: s.roles["old"].destroy(), without("old")),
        Act("destroy the disk", lambda s: s.roles["disk"].destroy(), without("disk")),
        Act("resize", lambda s: s.roles["disk"].resize(GROWN), grown),
        Act("attach", lambda s: _look(s, "disk", "RW"), copied("disk", "seen"), "seen"),
        Act("attach the snapshot", lambda s: _look(s, "old", "RO"), copied("old", "seen"), "seen"),
        Act("scan", lambda s: s.sr.scan(), nothing),
    )
}
RIVALS = [name for name in ACTS if name != "revert"]


def race(sr: Repository, names: Sequence[str]) -> tuple[Stage, dict[Act, Call]]:
    """All at once, from one start."""
    stage = Stage.build(sr)
    barrier = threading.Barrier(len(names))
    with calls(sr) as start:

        def run(own: Repository, act: Act) -> Any:
            mine = stage.over(own)
            barrier.wait(60)
            return act.run(mine)

        started = {ACTS[name]: start(partial(run, act=ACTS[name])) for name in names}
    return stage, started


@pytest.mark.parametrize("rival", RIVALS)
def test_two_at_once(sr: Repository, rival: str) -> None:
    """A revert and a rival start together, in either order of sending."""
    for names in (("revert", rival), (rival, "revert")):
        stage, started = race(sr, names)
        _, codes = settle(stage, started, REFUSALS)
        assert "" in codes.values(), codes  # one of both has done its work
        sr.clear()


@pytest.mark.parametrize("rival", RIVALS)
def test_in_the_middle_of_a_revert(sr: Repository, rival: str) -> None:
    """The rival is sent while the revert stands before its commit point."""
    stage = Stage.build(sr)
    point = "LVM_revert_create_dest" if sr.on_volumes else "FileSR_revert_create_dest"
    sent = threading.Event()
    with calls(sr) as start:

        def follow(own: Repository) -> Any:
            mine = stage.over(own)
            sent.set()
            return ACTS[rival].run(mine)

        with sr.host.fist(point, "hold") as held:
            first = start(lambda own: ACTS["revert"].run(stage.over(own)))
            assert held.wait(60)
            second = start(follow)
            assert sent.wait(60)
    world, codes = settle(stage, {ACTS["revert"]: first, ACTS[rival]: second}, REFUSALS)
    assert codes["revert"] == ""
    stage.must_be_whole(world)


@pytest.mark.parametrize("seed", SEEDS)
def test_five_at_once(sr: Repository, seed: int) -> None:
    """Any five calls, in any order of sending."""
    names = random.Random(seed).sample(list(ACTS), 5)
    stage, started = race(sr, names)
    world, _ = settle(stage, started, REFUSALS)
    stage.must_be_whole(world)
