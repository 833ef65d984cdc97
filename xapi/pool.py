"""The pool: which of its hosts is the master."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from xapi.database import Database
from xapi.datatypes import Ref
from xapi.hosts import is_plugged, require_live, require_usable
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.storage import StorageError
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)


def designate_new_master(call: Call, host: str) -> str:
    """Make another host the master; nobody works on a shared SR meanwhile.

    The new master looks at each of them first, and mends what a call that died has left there.
    An SR with which that fails is reported, and does not keep the pool from its master.

    Raises:
        XenAPIError: HOST_NOT_LIVE [host], HOST_DISABLED [host].
    """
    xapi, db = call.xapi, call.xapi.db
    require_usable(db, host)
    with xapi.policy.operation_on(call.task, call.method, lambda: _marks(db)):
        db.put("pool", xapi.pool, master=host)
        for mark in _marks(db):
            if is_plugged(db, mark.ref, host):
                _scan(call, mark.ref)
    return ""


def make_master(xapi: Toolstack, host: str) -> None:
    """Make a host the master whose master is gone, with whatever the master was working on.

    Raises:
        XenAPIError: HOST_NOT_LIVE [host].
    """
    require_live(xapi.db, host)
    xapi.db.put("pool", xapi.pool, master=host)


def _marks(db: Database) -> Iterator[Mark]:
    for sr in db.find("SR", shared=True):
        yield Mark("SR", sr, "scan")


def _scan(call: Call, sr: str) -> None:
    try:
        call.xapi.storage.sr_scan(call.task, call.xapi.db.get("SR", sr, "uuid"))
    except StorageError as error:
        _log.warning("%s: the new master cannot scan SR %s: %s", call.method, sr, error)


MESSAGES = (
    Message("pool.designate_new_master", designate_new_master, (Param("host", Ref("host")),)),
)
