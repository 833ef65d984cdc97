"""A host that is not the SR's master: what it may do by itself, and what it asks the master for.

    Exception
    ├── SRUnavailable 47      a change of the disk was interrupted, and its master is not at it
    ├── VDIUnavailable 46     the master takes too long
    └── SRError               what the master answered, such as SRNoSpace 44

The master changes what lies below disks while hosts use them. It marks a disk as `paused`
first, and asks the hosts that have claimed it to let go (plugin `tapdisk-pause`). So a host
that opens a disk claims it, and then looks whether it is paused, both before anything is
opened: either the master sees the claim, or the host sees the mark. While a host opens or
closes a disk it holds the disk's own lock, which the plugin takes, too; it never waits for the
master with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from srs import errors, lvhd_layout
from srs.datapath import tap
from srs.datapath.server import Server
from srs.errors import SRError, SRUnavailable, VDIUnavailable
from srs.locks import Lock
from srs.lvhd_slave import SlaveVolumes
from srs.recovery import CRITICAL
from srs.session import Failure, Session
from srs.vdi import Disk

if TYPE_CHECKING:
    from srs.cow import CowSR

#: Seconds that a host waits for the master to be done with a disk.
_PATIENCE: Final = 60.0
#: Seconds until it looks whether the master is still at it.
_LOOK: Final = 5.0


def lock(vdi_uuid: str) -> Lock:
    """Held by whoever opens or closes a disk on this host."""
    return Lock(vdi_uuid, "vdi")


# -- asked by the master


def pause(sr_uuid: str, vdi_uuid: str) -> None:
    """Close the images of a disk, and give its volumes back; requests wait."""
    with lock(vdi_uuid):
        server = Server(sr_uuid, vdi_uuid)
        if server.is_running():
            server.pause()
            if _is_on_volumes(sr_uuid, vdi_uuid):
                SlaveVolumes(sr_uuid).let_go(vdi_uuid)


def unpause(sr_uuid: str, vdi_uuid: str) -> None:
    """Open the images again, as they are now."""
    with lock(vdi_uuid):
        server = Server(sr_uuid, vdi_uuid)
        if server.is_running():
            if _is_on_volumes(sr_uuid, vdi_uuid):
                SlaveVolumes(sr_uuid).open(vdi_uuid)
            server.unpause()


def _is_on_volumes(sr_uuid: str, vdi_uuid: str) -> bool:
    target = os.readlink(tap.link_path(sr_uuid, vdi_uuid))
    return target.startswith(f"/dev/{lvhd_layout.GROUP_PREFIX}")


# -- asking the master


def ask_master(session: Session, plugin: str, fn: str, arguments: dict[str, str]) -> str:
    """Have the pool's master run a plugin, which is told as `hostRef` who is called.

    Raises:
        Failure: it cannot be asked, or the plugin failed.
        SRError: the plugin failed with that.
        SRUnavailable: it is this host by now, and the SR's lock that it looks at is the caller's.
    """
    (pool,) = session.call("pool.get_all")
    master = session.call("pool.get_master", pool)
    if master == session.host:
        raise SRUnavailable("this host has become the master: try again")
    arguments = {**arguments, "hostRef": master}
    try:
        return str(session.call("host.call_plugin", master, plugin, fn, arguments))
    except Failure as failure:
        raise _raised_there(failure) from failure


def _raised_there(failure: Failure) -> Exception:
    """The error of the storage manager that a plugin failed with, or else the failure."""
    if failure.error != "XENAPI_PLUGIN_FAILURE":
        return failure
    _, _, name, text = failure.details
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, SRError)):
        return failure
    return kind(text.removeprefix(kind.description).removeprefix(" [opterr=").removesuffix("]"))


@contextmanager
def steady(sr: CowSR, uuid: str, ref: str, *, writable: bool) -> Iterator[Disk]:
    """A disk that this host has claimed, as nobody changes it until the block ends.

    Args:
        sr: where it is.
        uuid: the disk.
        ref: its reference.
        writable: there is to be room for all that can be written.

    Raises:
        SRUnavailable: its change was interrupted; the SR's next scan mends it.
        VDIUnavailable: it is not there, or the master took too long.
    """
    deadline = time.monotonic() + _PATIENCE
    token = ""
    while time.monotonic() < deadline:
        with lock(uuid):
            still = not _is_being_changed(sr, uuid, ref)
            if still and not (writable and sr.lacks_room(uuid)):
                yield sr.disk(uuid)
                return
        if still:
            sr.have_room_made(uuid)
            continue
        _require_master_at_work(sr)
        # An empty token is answered at once: what changed before is looked at once more.
        events = sr.session.call("event.from", [f"vdi/{ref}"], token, _LOOK if token else 0.0)
        token = events["token"]
    raise VDIUnavailable(f"{uuid} is being changed")


def _is_being_changed(sr: CowSR, uuid: str, ref: str) -> bool:
    # The mark first: it goes after the change is on the medium.
    marked = tap.PAUSED in sr.session.vdi_record(ref)["sm_config"]
    sr.reread()
    return marked or sr.is_pending(uuid)


def _require_master_at_work(sr: CowSR) -> None:
    try:
        working = ask_master(sr.session, "sr-master", "is_working", {"srUuid": sr.uuid}) == "True"
    except (Failure, SRError):
        working = False
    if not working:
        raise SRUnavailable(CRITICAL)
