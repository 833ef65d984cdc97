"""The toolstack as a whole: what every XenAPI call works with."""

from __future__ import annotations

from dataclasses import dataclass

from xapi.backend import HostBackend
from xapi.database import Database
from xapi.datapath import Datapath
from xapi.event import Events
from xapi.policy import Policy
from xapi.session import Sessions
from xapi.storage import Storage


@dataclass(frozen=True, slots=True)
class Toolstack:
    """One pool with one host. `host`, `pool` and `dom0` are references of the database."""

    db: Database
    sessions: Sessions
    events: Events
    policy: Policy
    storage: Storage
    datapath: Datapath
    backend: HostBackend
    pool: str
    host: str
    dom0: str
