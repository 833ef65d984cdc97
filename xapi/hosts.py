"""The hosts of the pool, and which of them does what.

An SR that is shared has the pool's master for its own; any other SR has the one host that it
is plugged in on. What changes an SR is done on its master, where it has it plugged in; a disk
is opened on the host of the VM that uses it, and dom0 is a VM of its host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xapi.backend import HostBackend
from xapi.database import Database
from xapi.datapath import Datapath
from xapi.datatypes import NULL
from xapi.errors import XenAPIError, handle_invalid, sr_has_no_pbds
from xapi.storage import Storage


@dataclass(frozen=True, slots=True)
class Member:
    """One host. `ref` and `dom0` are references; `storage` runs drivers there and nowhere else."""

    ref: str
    dom0: str
    backend: HostBackend
    storage: Storage
    datapath: Datapath


class Hosts:
    """All hosts, by their references, in the order in which they joined."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._members: dict[str, Member] = {}

    def join(self, member: Member) -> None:
        """One more."""
        self._members[member.ref] = member

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __getitem__(self, ref: str) -> Member:
        """The host of that reference.

        Raises:
            XenAPIError: HANDLE_INVALID ["host", ref].
        """
        if ref not in self._members:
            raise handle_invalid("host", ref)
        return self._members[ref]

    @property
    def master(self) -> Member:
        """The pool's master."""
        return self._members[master(self._db)]

    def of_sr(self, sr: str) -> Member:
        """Where a driver works on the SR: its master, or who has it plugged in."""
        best = max(self._db.find("PBD", SR=sr), key=self._fitness, default=None)
        return self._members[self._db.get("PBD", best, "host")] if best else self.master

    def _fitness(self, pbd: str) -> tuple[bool, bool, bool]:
        host: str = self._db.get("PBD", pbd, "host")
        plugged: bool = self._db.get("PBD", pbd, "currently_attached")
        return plugged, host == master(self._db), is_live(self._db, host)

    def seeing(self, *srs: str) -> Member:
        """A host that has all of these SRs plugged in; the master, if it has.

        Raises:
            XenAPIError: SR_HAS_NO_PBDS [sr]: no host has that one beside those before it.
        """
        candidates = sorted(self, key=lambda member: member.ref != master(self._db))
        for sr in srs:
            candidates = [m for m in candidates if is_plugged(self._db, sr, m.ref)]
            if not candidates:
                raise sr_has_no_pbds(sr)
        return candidates[0]

    def between(self, source: str, destination: str) -> tuple[Member, Member]:
        """Who reads one SR and who writes another: the same host, if any has both plugged in.

        Raises:
            XenAPIError: SR_HAS_NO_PBDS [sr]: no host has it.
        """
        try:
            both = self.seeing(source, destination)
        except XenAPIError:
            return self.seeing(source), self.seeing(destination)
        return both, both

    def of_vm(self, vm: str) -> Member:
        """Where the VM has its disks open, or is just opening them; the master if nowhere."""
        return self._members.get(host_of_vm(self._db, vm), self.master)


def master(db: Database) -> str:
    """The reference of the pool's master."""
    [pool] = db.refs("pool")
    ref: str = db.get("pool", pool, "master")
    return ref


def is_master_of(db: Database, host: str, sr: str) -> bool:
    """Whether the host may change what is on the SR: the `SRmaster` that drivers are told."""
    return not db.get("SR", sr, "shared") or host == master(db)


def is_live(db: Database, host: str) -> bool:
    """Whether the host is up, as far as is known."""
    live: bool = db.get("host_metrics", db.get("host", host, "metrics"), "live")
    return live


def require_usable(db: Database, host: str) -> None:
    """Raise HOST_DISABLED [host] or HOST_NOT_LIVE [host] unless the host takes on work."""
    if not db.get("host", host, "enabled"):
        raise XenAPIError("HOST_DISABLED", (host,))
    require_live(db, host)


def require_live(db: Database, host: str) -> None:
    """Raise HOST_NOT_LIVE [host] unless the host is up."""
    if not is_live(db, host):
        raise XenAPIError("HOST_NOT_LIVE", (host,))


def is_plugged(db: Database, sr: str, host: str) -> bool:
    """Whether the host has the SR plugged in."""
    return bool(db.find("PBD", SR=sr, host=host, currently_attached=True))


def host_of_vm(db: Database, vm: str) -> str:
    """The host that a VM runs on, or is just starting on; NULL if there is none."""
    if not db.exists("VM", vm):
        return NULL
    resident: str = db.get("VM", vm, "resident_on")
    scheduled: str = db.get("VM", vm, "scheduled_to_be_resident_on")
    return scheduled if resident == NULL else resident
