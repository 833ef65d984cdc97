"""The toolstack as a whole: what every XenAPI call works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from xapi.backend import HostBackend
from xapi.database import Database
from xapi.datapath import Datapath
from xapi.event import Events
from xapi.policy import Policy
from xapi.session import Sessions
from xapi.storage import Storage

#: A host plugin: called with (function, arguments), it returns the result as text.
Plugin: TypeAlias = Callable[[str, Mapping[str, str]], str]


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
    plugins: Mapping[str, Plugin]
    pool: str
    host: str
    dom0: str
