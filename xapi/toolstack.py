"""The toolstack as a whole: what every XenAPI call works with."""

from __future__ import annotations

from dataclasses import dataclass

from xapi.database import Database
from xapi.event import Events
from xapi.hosts import Hosts
from xapi.policy import Policy
from xapi.session import Sessions
from xapi.storage import Storage


@dataclass(frozen=True, slots=True)
class Toolstack:
    """A pool and its hosts. `storage` works where an SR's own host is; `pool` is a reference."""

    db: Database
    sessions: Sessions
    events: Events
    policy: Policy
    storage: Storage
    hosts: Hosts
    pool: str

    @property
    def host(self) -> str:
        """The pool's master, to which clients log in."""
        return self.hosts.master.ref

    @property
    def dom0(self) -> str:
        """The master's control domain."""
        return self.hosts.master.dom0
