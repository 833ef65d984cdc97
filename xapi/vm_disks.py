"""The disks of a VM: opened on the host while it runs, closed when it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from xapi import pbd, vbd, vdi_steps
from xapi.database import Database
from xapi.errors import XenAPIError
from xapi.message import Call
from xapi.policy import Mark
from xapi.policy_sr import features
from xapi.storage import as_xenapi_errors

_log = logging.getLogger(__name__)

#: From this version of VDI_RESET_ON_BOOT on, a driver is told when a VM starts.
_EPOCHS = 2


def vbds(db: Database, vm: str, *, disks: bool) -> tuple[str, ...]:
    """The VM's VBDs of type Disk, or all others, by device number."""
    found: tuple[str, ...] = db.get("VM", vm, "VBDs")
    chosen = (link for link in found if (db.get("VBD", link, "type") == "Disk") is disks)
    return tuple(sorted(chosen, key=lambda link: int(db.get("VBD", link, "userdevice"))))


def marks(db: Database, vm: str) -> Iterator[Mark]:
    """What a start marks: every VBD with something in it, so that nobody takes it away."""
    all_of_them: tuple[str, ...] = db.get("VM", vm, "VBDs")
    for link in all_of_them:
        if not db.get("VBD", link, "empty"):
            yield Mark("VBD", link, "attach")


def begin_epochs(call: Call, vm: str) -> None:
    """The VM is about to start: its disks that are reset on boot get their first content back."""
    db = call.xapi.db
    for link in vbds(db, vm, disks=True):
        disk: str = db.get("VBD", link, "VDI")
        sr, sr_uuid, location = vdi_steps.names(call.xapi, disk)
        resets = features(db, sr).get("VDI_RESET_ON_BOOT", 0) >= _EPOCHS
        if resets and db.get("VDI", disk, "on_boot") == "reset":
            with as_xenapi_errors(sr, disk):
                call.xapi.storage.vdi_epoch_begin(call.task, sr_uuid, location)


def attach_all(call: Call, vm: str) -> None:
    """Open every disk and CD on the host; if one cannot be opened, none stays open.

    Raises:
        XenAPIError: SR_HAS_NO_PBDS [sr], or what the driver has to say.
    """
    db = call.xapi.db
    links: tuple[str, ...] = db.get("VM", vm, "VBDs")
    for link in links:
        if not db.get("VBD", link, "empty"):
            pbd.require_plugged(call.xapi, db.get("VDI", db.get("VBD", link, "VDI"), "SR"))
    with ExitStack() as undo:
        for link in links:
            attached: bool = db.get("VBD", link, "currently_attached")
            vbd.attach(call, link)
            undo.callback(_quietly, call, link, vbd.release if attached else vbd.detach)
        undo.pop_all()


def release_all(call: Call, vm: str) -> None:
    """Close every disk of a VM that falls asleep; if one cannot be closed, all stay open."""
    links: tuple[str, ...] = call.xapi.db.get("VM", vm, "VBDs")
    with ExitStack() as undo:
        for link in links:
            if call.xapi.db.get("VBD", link, "currently_attached"):
                vbd.release(call, link)
                undo.callback(_quietly, call, link, vbd.attach)
        undo.pop_all()


def detach_all(call: Call, vm: str) -> None:
    """Close every disk; one that the host does not let go of stays attached."""
    links: tuple[str, ...] = call.xapi.db.get("VM", vm, "VBDs")
    for link in links:
        if call.xapi.db.get("VBD", link, "currently_attached"):
            vbd.detach(call, link)


def _quietly(call: Call, link: str, step: Callable[[Call, str], object]) -> None:
    """One step back after a failure, whose own error is what the client shall see."""
    try:
        step(call, link)
    except XenAPIError as error:
        _log.warning("%s: cleaning up VBD %s: %s", call.method, link, error)
