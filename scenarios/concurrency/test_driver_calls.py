"""Driver calls at once, past all that the toolstack would have refused or put in order.

Another toolstack, or the same one after a restart, may send what it likes; each call is a
process of its own, and between them is only what drivers do about it themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
from scenarios.storage import VDI, Repository

_TASK = "OpaqueRef:NULL"
#: Gone, in use, no snapshot chain to split, or not to be removed any more.
REFUSALS = {"SR_BACKEND_FAILURE_46", "VDI_IN_USE", "HANDLE_INVALID", "VDI_MISSING"}
_LOCKS = "/proc/locks"


@dataclass(frozen=True)
class Driver:
    """The driver's calls on the disks of a stage."""

    stage: Stage

    def names(self, role: str) -> tuple[str, str, str]:
        """What a driver call about a disk begins with."""
        return _TASK, self.stage.sr.uuid, self.stage.roles[role].uuid

    @property
    def calls(self) -> Any:
        """The storage layer below the toolstack's policies."""
        return self.stage.sr.host.xapi.xapi.storage

    def revert(self, role: str) -> None:
        """vdi_revert of the disk."""
        self.calls.vdi_revert(*self.names(role), self.stage.roles["disk"].uuid, {})

    def clone(self, role: str) -> VDI:
        """vdi_clone."""
        made = self.calls.vdi_clone(*self.names(role), {})
        return VDI(self.stage.sr, self.stage.sr.api.VDI.get_by_uuid(made.uuid))

    def look(self, role: str) -> Content:
        """vdi_attach, vdi_activate, all bytes, and back."""
        attached = self.calls.vdi_attach(*self.names(role), writable=True)
        self.calls.vdi_activate(*self.names(role), writable=True)
        try:
            host = self.stage.sr.host
            device = host.plug(attached, writable=True)
            try:
                return Content(*host.digest(device))
            finally:
                host.unplug(device)
        finally:
            self.calls.vdi_deactivate(*self.names(role))
            self.calls.vdi_detach(*self.names(role))


def _act(
    name: str, run: Callable[[Driver], VDI | Content | None], effect: Any, makes: str = ""
) -> Act:
    return Act(name, lambda stage: run(Driver(stage)), effect, makes)


ACTS = {
    act.name: act
    for act in (
        _act("revert", lambda d: d.revert("old"), reverted_to("old")),
        _act("revert to another", lambda d: d.revert("new"), reverted_to("new")),
        _act("revert again", lambda d: d.revert("old"), reverted_to("old")),
        _act("clone", lambda d: d.clone("disk"), copied("disk", "twin"), "twin"),
        _act("clone the snapshot", lambda d: d.clone("old"), copied("old", "copy"), "copy"),
        _act("delete the snapshot", lambda d: d.calls.vdi_delete(*d.names("old")), without("old")),
        _act("delete the disk", lambda d: d.calls.vdi_delete(*d.names("disk")), without("disk")),
        _act(
            "resize",
            lambda d: d.calls.vdi_resize(*d.names("disk"), GROWN, online=False) and None,
            grown,
        ),
        _act("attach", lambda d: d.look("disk"), copied("disk", "seen"), "seen"),
        _act("scan", lambda d: d.calls.sr_scan(_TASK, d.stage.sr.uuid), nothing),
    )
}
RIVALS = [name for name in ACTS if name != "revert"]


def waits(sr: Repository) -> bool:
    """Whether a process inside waits for a lock, as the kernel tells."""
    return "->" in sr.host.kernel.run(["cat", _LOCKS]).stdout


def _past_sessions(act: Act, stage: Stage, _own: Repository) -> VDI | Content | None:
    return act.run(stage)


@pytest.mark.parametrize("rival", RIVALS)
def test_two_processes(sr: Repository, rival: str) -> None:
    """The rival comes while the revert stands before its commit point, and waits for its lock."""
    stage = Stage.build(sr)
    point = "LVM_revert_create_dest" if sr.on_volumes else "FileSR_revert_create_dest"
    started: dict[Act, Call] = {}
    with calls(sr) as start, sr.host.fist(point, "hold") as held:
        for name in ("revert", rival):
            act = ACTS[name]
            started[act] = start(partial(_past_sessions, act, stage))
            assert held.wait(60)
        while not waits(sr) and not started[ACTS[rival]].over:
            continue
    world, codes = settle(stage, started, REFUSALS)
    assert codes["revert"] == ""
    stage.must_be_whole(world)
