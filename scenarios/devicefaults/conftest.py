"""An SR whose device can fail, and disks on it that must not be lost."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from scenarios.invariants import check_everything
from scenarios.oracle import BLOCK, Model, awkward_spans, full_block, one_sector
from scenarios.plugin import DEFAULT_KINDS, RepositoryCache
from scenarios.storage import VDI, Repository

#: Kinds whose device is a disk of the host itself.
_KINDS = ("file", "ext", "lvhd", "lvhd-thin")


@dataclass
class Disks:
    """A disk, its snapshot, a sibling; and what each must hold.

    Attributes:
        disk: was written after the snapshot.
        snapshot: what the disk is reverted to.
        sibling: a clone of the snapshot.
        models: by reference.
    """

    sr: Repository
    disk: VDI
    snapshot: VDI
    sibling: VDI
    models: dict[str, Model] = field(default_factory=dict)

    def must_be_whole(self) -> None:
        """Nothing was lost, and what was refused has changed nothing."""
        check_everything(self.sr, self.models)

    def reverted(self) -> None:
        """From now on the disk must hold what the snapshot does."""
        self.models[self.disk.ref] = self.models[self.snapshot.ref].fork()

    def must_work(self) -> None:
        """Revert, write, snapshot: everything works, on what is whole."""
        self.must_be_whole()
        self.snapshot.revert_live_disk()
        self.reverted()
        spans = one_sector("afterwards", BLOCK)
        self.disk.write(spans)
        self.models[self.disk.ref].write(spans)
        fresh = self.disk.snapshot()
        self.models[fresh.ref] = self.models[self.disk.ref].fork()
        self.must_be_whole()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The kinds of this run that can have a layer."""
    if "sr" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--sr") or DEFAULT_KINDS
        metafunc.parametrize("sr", [kind for kind in _KINDS if kind in chosen], indirect=True)


@pytest.fixture
def sr(request: pytest.FixtureRequest, repositories: RepositoryCache) -> Iterator[Repository]:
    """An SR with a layer below its device."""
    with repositories.lend(request.param, layered=True) as repository:
        yield repository


@pytest.fixture
def disks(sr: Repository) -> Disks:
    """Disks with something to lose."""
    disk = sr.create(6 * BLOCK)
    first = Model(disk.size)
    spans = [*awkward_spans("first", disk.size), *full_block("first")]
    disk.write(spans)
    first.write(spans)
    snapshot = disk.snapshot()
    sibling = snapshot.clone()
    second = first.fork()
    spans = awkward_spans("second", disk.size)
    disk.write(spans)
    second.write(spans)
    models = {disk.ref: second, snapshot.ref: first, sibling.ref: first.fork()}
    return Disks(sr, disk, snapshot, sibling, models)
