"""A disk that hosts share, and a pool that is whole again after each scenario."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from scenarios.oracle import BLOCK, Model, awkward_spans
from scenarios.storage import VDI, Repository
from testbed.member import Member
from testbed.pool import Pool


@dataclass(frozen=True, slots=True)
class Shared:
    """A disk and its snapshot, on an SR that every host has plugged in.

    Attributes:
        vdi: the disk; it was last open on the last host, which has written all that it holds.
        snapshot: of it.
        old: what the disk holds.
        wanted: what the snapshot holds.
    """

    vdi: VDI
    snapshot: VDI
    old: Model
    wanted: Model

    def must_hold(self, model: Model, *hosts: Member) -> None:
        """Compare every byte that these hosts see with a model."""
        for host in hosts:
            self.vdi.on(host).must_hold(model)

    def revert_and_check(self, pool: Pool) -> None:
        """Revert, and look at the disk from everywhere."""
        self.snapshot.revert_live_disk()
        self.must_hold(self.wanted, *pool.hosts)


@pytest.fixture(autouse=True)
def whole(pool: Pool, sr: Repository, xenapi: Any) -> Iterator[None]:
    """Whoever lost power has it again, and the first host is master again."""
    yield
    for machine in pool.machines:
        if not machine.kernel.running:
            pool.restart(machine, xenapi)
    if pool.master is not pool.hosts[0]:
        sr.api.pool.designate_new_master(pool.hosts[0].ref)


@pytest.fixture
def disk(sr: Repository) -> Shared:
    """A disk of eight blocks (16 MiB), with a snapshot."""
    vdi = sr.create(8 * BLOCK)
    wanted = Model(vdi.size)
    wanted.write(awkward_spans("wanted", vdi.size))
    vdi.write(awkward_spans("wanted", vdi.size))
    snapshot, old = vdi.snapshot(), wanted.fork()
    old.write(awkward_spans("old", vdi.size))
    vdi.write(awkward_spans("old", vdi.size))
    return Shared(vdi, snapshot, old, wanted)
