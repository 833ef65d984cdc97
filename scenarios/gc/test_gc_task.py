"""What a collector does, and how it ended, is a task that anybody can see and cancel."""

from typing import Any

import pytest

from scenarios.background import calls
from scenarios.gc.support import by_itself, collect, tasks, wait_until
from scenarios.oracle import BLOCK, Model, one_sector
from scenarios.storage import VDI, Repository
from xapi.backend import PluginFailed

_COPYING = "LVHDRT_coalescing_VHD_data"


@pytest.fixture
def model(vdi: VDI) -> Model:
    """The disk stands on two base copies, one of which is to go down into the other."""
    model = Model(vdi.size)
    for number in range(3):
        spans = one_sector(f"level {number}", number * BLOCK)
        model.write(spans)
        vdi.write(spans)
        if number < 2:
            vdi.snapshot().destroy()
    return model


@pytest.fixture(autouse=True)
def forgotten(sr: Repository) -> None:
    """Tasks of other scenarios are none of ours."""
    for task in tasks(sr):
        sr.api.task.destroy(task)


def only(sr: Repository) -> dict[str, Any]:
    """The one task that there is."""
    (task,) = tasks(sr).values()
    return task


def test_it_has_done_its_work(sr: Repository, vdi: VDI, model: Model) -> None:
    """Success, of a hundred percent."""
    assert len(collect(sr).coalesced) == 1
    task = only(sr)
    assert (task["status"], task["progress"], task["error_info"]) == ("success", 1.0, [])
    vdi.must_hold(model)


def test_somebody_cancels_it(sr: Repository, vdi: VDI, model: Model) -> None:
    """It ends in the middle of a copy; the next collector makes another one."""
    with calls(sr) as start, sr.host.fist(_COPYING, "hold") as held:
        collector = start(lambda _: sr.host.gc(sr.uuid))
        assert held.wait(60)
        ((ref, task),) = tasks(sr).items()
        assert task["status"] == "pending"
        sr.api.task.cancel(ref)
    assert collector.answer().ended == "aborted"
    assert only(sr)["status"] == "cancelled"
    vdi.must_hold(model)
    assert len(collect(sr).coalesced) == 1
    vdi.must_hold(model)


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "cancelled"])
def test_it_was_killed(sr: Repository, vdi: VDI, model: Model, cancelled: bool) -> None:
    """The next collector says so, and does the work; also if somebody has cancelled the dead."""
    with sr.host.fist(_COPYING, "kill"), pytest.raises(PluginFailed):
        sr.host.gc(sr.uuid)
    assert only(sr)["status"] == "pending"
    if cancelled:
        sr.api.task.cancel(*tasks(sr))
        assert only(sr)["status"] == "cancelling"
    collect(sr)
    assert sorted(task["status"] for task in tasks(sr).values()) == ["failure", "success"]
    vdi.must_hold(model)


def test_one_that_nobody_waits_for_fails(sr: Repository, vdi: VDI, model: Model) -> None:
    """Its task says which image resists, and why."""
    vdi.api.add_to_other_config(vdi.ref, "leaf-coalesce", "false")
    point = {"fistPoint": "cleanup_coalesceVHD_inject_failure", "active": "True"}
    sr.host.plugin_call("testing-hooks", "setFistPoint", point)
    try:
        with by_itself(sr):
            sr.scan()
            wait_until(sr, lambda: [t["status"] for t in tasks(sr).values()] == ["failure"], "task")
    finally:
        sr.host.plugin_call("testing-hooks", "setFistPoint", {**point, "active": "False"})
    code, _, text = only(sr)["error_info"]
    assert code == "SR_BACKEND_FAILURE_202"
    assert "Input/output error" in text
    vdi.must_hold(model)
    collect(sr)
