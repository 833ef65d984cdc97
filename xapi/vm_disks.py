"""The disks of a VM: opened on the host while it runs, closed when it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from xapi import pbd, vbd, vdi_steps
from xapi.database import Database
from xapi.errors import XenAPIError
from xapi.hosts import Member
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


def to_open(db: Database, vm: str) -> tuple[str, ...]:
    """The VBDs that a VM opens: all that it has, or those that it fell asleep with."""
    with db.lock:
        links: tuple[str, ...] = db.get("VM", vm, "VBDs")
        if db.get("VM", vm, "power_state") != "Suspended":
            return links
        return tuple(link for link in links if db.get("VBD", link, "currently_attached"))


def marks(db: Database, vm: str, operation: str, of_vbds: str) -> Iterator[Mark]:
    """The VM and the VBDs that it opens or closes: nobody else gets at their VDIs meanwhile."""
    yield Mark("VM", vm, operation)
    links = to_open(db, vm)
    for link in links:
        yield Mark("VBD", link, of_vbds, frozenset(links))


def marked(call: Call, vm: str) -> tuple[str, ...]:
    """The VM's VBDs that the call has marked; one that was made since is none of them."""
    db = call.xapi.db
    with db.lock:
        links: tuple[str, ...] = db.get("VM", vm, "VBDs")
        return tuple(
            link for link in links if call.task in db.get("VBD", link, "current_operations")
        )


def begin_epochs(call: Call, links: Iterable[str], host: Member) -> None:
    """The VM is about to start: its disks that are reset on boot get their first content back."""
    db = call.xapi.db
    for link in links:
        if db.get("VBD", link, "type") != "Disk":
            continue
        disk: str = db.get("VBD", link, "VDI")
        sr, sr_uuid, location = vdi_steps.names(call.xapi, disk)
        resets = features(db, sr).get("VDI_RESET_ON_BOOT", 0) >= _EPOCHS
        if resets and db.get("VDI", disk, "on_boot") == "reset":
            with as_xenapi_errors(sr, disk):
                host.storage.vdi_epoch_begin(call.task, sr_uuid, location)


def attach_all(call: Call, links: Iterable[str], host: Member) -> None:
    """Open disks and CDs of a VM that starts on a host; if one cannot be opened, none stays open.

    Raises:
        XenAPIError: SR_HAS_NO_PBDS [sr], or what the driver has to say.
    """
    db, links = call.xapi.db, tuple(links)
    for link in links:
        if not db.get("VBD", link, "empty"):
            sr: str = db.get("VDI", db.get("VBD", link, "VDI"), "SR")
            pbd.require_plugged(call.xapi, sr, host.ref)
    with ExitStack() as undo:
        for link in links:
            attached: bool = db.get("VBD", link, "currently_attached")
            vbd.attach(call, link)
            undo.callback(_quietly, call, link, vbd.release if attached else vbd.detach)
        undo.pop_all()


def release_all(call: Call, vm: str) -> None:
    """Close every disk of a VM that falls asleep; if one cannot be closed, all stay open."""
    _close_all(call, vm, vbd.release)


def detach_all(call: Call, vm: str, *, force: bool = False) -> None:
    """Close every disk and take it out; if one cannot be closed, all stay attached."""
    _close_all(call, vm, partial(vbd.detach, force=force))


def _close_all(call: Call, vm: str, close: Callable[[Call, str], None]) -> None:
    links: tuple[str, ...] = call.xapi.db.get("VM", vm, "VBDs")
    with ExitStack() as undo:
        for link in links:
            if call.xapi.db.get("VBD", link, "currently_attached"):
                # First, since the one that fails may be half closed by then.
                undo.callback(_quietly, call, link, vbd.attach)
                close(call, link)
        undo.pop_all()


def _quietly(call: Call, link: str, step: Callable[[Call, str], object]) -> None:
    """One step back after a failure, whose own error is what the client shall see."""
    try:
        step(call, link)
    except XenAPIError as error:
        _log.warning("%s: cleaning up VBD %s: %s", call.method, link, error)
