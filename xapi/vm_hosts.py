"""On which host a VM starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xapi import vm_disks
from xapi.database import Database
from xapi.datatypes import NULL
from xapi.hosts import Member, is_live, is_plugged, require_usable
from xapi.toolstack import Toolstack


def able(xapi: Toolstack, vm: str) -> tuple[Member, ...]:
    """The enabled hosts that reach all disks of the VM: first its affinity, then the master."""
    db = xapi.db
    affinity, master = db.get("VM", vm, "affinity"), xapi.host
    srs = {db.get("VDI", vdi, "SR") for vdi in _vdis(db, vm)}
    found = (
        host
        for host in xapi.hosts
        if db.get("host", host.ref, "enabled")
        and is_live(db, host.ref)
        and all(is_plugged(db, sr, host.ref) for sr in srs)
    )
    return tuple(sorted(found, key=lambda host: (host.ref != affinity, host.ref != master)))


def choose(xapi: Toolstack, vm: str) -> Member:
    """The best of these hosts, or the master, which will find out what is wrong.

    Raises:
        XenAPIError: HOST_DISABLED [host], HOST_NOT_LIVE [host].
    """
    for host in able(xapi, vm):
        return host
    return named(xapi, xapi.host)


def named(xapi: Toolstack, host: str) -> Member:
    """The host that a client has chosen.

    Raises:
        XenAPIError: HANDLE_INVALID, HOST_DISABLED [host], HOST_NOT_LIVE [host].
    """
    require_usable(xapi.db, host)
    return xapi.hosts[host]


@contextmanager
def placed(xapi: Toolstack, vm: str, host: Member) -> Iterator[None]:
    """While a VM starts: its disks are opened on that host."""
    xapi.db.put("VM", vm, scheduled_to_be_resident_on=host.ref)
    try:
        yield
    finally:
        xapi.db.put("VM", vm, scheduled_to_be_resident_on=NULL)


def _vdis(db: Database, vm: str) -> Iterator[str]:
    for vbd in vm_disks.vbds(db, vm, disks=True):
        vdi: str = db.get("VBD", vbd, "VDI")
        if db.exists("VDI", vdi):
            yield vdi
