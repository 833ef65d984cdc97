"""The pool: which of its hosts is the master."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from xapi.backend import HostError
from xapi.database import Database
from xapi.datatypes import NULL, Ref
from xapi.errors import XenAPIError, other_operation
from xapi.hosts import is_live, is_plugged, require_live, require_usable
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.storage import StorageError
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)


def designate_new_master(call: Call, host: str) -> str:
    """Make another host the master; no driver and no collector is at work on a shared SR then.

    The new master looks at each of them first, and mends what a call that died has left there.
    An SR with which that fails is reported, and does not keep the pool from its master.

    Raises:
        XenAPIError: HOST_NOT_LIVE [host], HOST_DISABLED [host].
    """
    xapi, db = call.xapi, call.xapi.db
    require_usable(db, host)
    with xapi.policy.operation_on(call.task, call.method, lambda: _marks(db)):
        for mark in _marks(db):
            _abort_collector(xapi, mark.ref)
        # A call that has begun was told who is master, and believes it until it ends.
        xapi.policy.once_allowed(call.task, lambda: _appoint(xapi, host))
        for mark in _marks(db):
            if is_plugged(db, mark.ref, host):
                _scan(call, mark.ref)
    return ""


def make_master(xapi: Toolstack, host: str) -> None:
    """Make a host the master whose master is gone, with whatever the master was working on.

    Raises:
        XenAPIError: HOST_NOT_LIVE [host], HOST_IS_LIVE [the old master]: there would be two.
    """
    with xapi.db.transaction():
        require_live(xapi.db, host)
        if host != xapi.host and is_live(xapi.db, xapi.host):
            raise XenAPIError("HOST_IS_LIVE", (xapi.host,))
        xapi.db.put("pool", xapi.pool, master=host)


def _appoint(xapi: Toolstack, host: str) -> None:
    """Make a host the master.

    Raises:
        XenAPIError: HOST_NOT_LIVE, HOST_DISABLED; OTHER_OPERATION_IN_PROGRESS: a driver is at
            work on a shared SR.
    """
    require_usable(xapi.db, host)
    for sr in xapi.sessions.with_drivers():
        if xapi.db.exists("SR", sr) and xapi.db.get("SR", sr, "shared"):
            raise other_operation("SR", sr, "driver", NULL)
    xapi.db.put("pool", xapi.pool, master=host)


def _marks(db: Database) -> Iterator[Mark]:
    # Of all operations it is `unplug` beside which nothing is opened, either.
    for sr in db.find("SR", shared=True):
        yield Mark("SR", sr, "unplug")


def _abort_collector(xapi: Toolstack, sr: str) -> None:
    old = xapi.hosts.master
    if not is_plugged(xapi.db, sr, old.ref):
        return
    try:
        old.backend.plugin_call("gc", "abort", {"srUuid": xapi.db.get("SR", sr, "uuid")})
    except HostError as error:
        # It ends by itself, as soon as it looks who is master.
        _log.warning("the collector of SR %s: %s", sr, error)


def _scan(call: Call, sr: str) -> None:
    try:
        call.xapi.storage.sr_scan(call.task, call.xapi.db.get("SR", sr, "uuid"))
    except StorageError as error:
        _log.warning("%s: the new master cannot scan SR %s: %s", call.method, sr, error)


MESSAGES = (
    Message("pool.designate_new_master", designate_new_master, (Param("host", Ref("host")),)),
)
