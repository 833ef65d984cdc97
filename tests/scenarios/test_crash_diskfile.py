"""An SR's disk, read from its file outside, shows what the guest sees; and what tells SRs apart."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scenarios.contents import Known, compare
from scenarios.crash.bed import Opened
from scenarios.crash.diskfile import DiskFile
from scenarios.fingerprint import fingerprints
from scenarios.invariants import look
from scenarios.medium import Medium
from scenarios.oracle import BLOCK, Model, Span, noise, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository
from testbed.devices.disk import Disk

KINDS = ["file", "ext", "lvhd"]


@pytest.fixture(params=KINDS)
def sr(repositories: RepositoryCache, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with repositories.lend(request.param) as lent:
        yield lent


@contextmanager
def opened(sr: Repository) -> Iterator[Opened]:
    medium = sr.provisioned.medium
    disk = medium if isinstance(medium, Disk) else sr.host.disk_below(str(medium))
    fd = os.open(disk.path, os.O_RDONLY)
    try:
        yield Opened(sr, fd)
    finally:
        os.close(fd)


def family(sr: Repository) -> tuple[VDI, VDI]:
    """A disk that was written before and after a snapshot of it."""
    disk = sr.create(3 * BLOCK)
    disk.write([Span(512, noise("first", 1024)), Span(BLOCK, noise("more", 8192))])
    snapshot = disk.snapshot()
    disk.write([Span(BLOCK + 512, noise("second", 1024))])
    return disk, snapshot


def prints(sr: Repository, *disks: VDI) -> list[str]:
    with opened(sr) as outside:
        found = fingerprints(look(outside).medium)
    return [found[disk.uuid] for disk in disks]


def bytes_of(medium: Medium) -> dict[str, bytes]:
    return {uuid: medium.reader(i)(0, i.size) for uuid, i in medium.images.items()}


def test_bytes_from_outside(sr: Repository) -> None:
    """Every image, byte by byte; and all that invariants read."""
    family(sr)
    with opened(sr) as outside:
        there, here = look(outside), look(sr)
        assert isinstance(there.medium.source, DiskFile)
        assert bytes_of(there.medium) == bytes_of(here.medium)
        assert there.medium.images == here.medium.images


def test_families_that_differ_in_names_alone(sr: Repository) -> None:
    first, second = family(sr), family(sr)
    assert prints(sr, *first) == prints(sr, *second)
    assert len(set(prints(sr, *first))) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_families_that_differ_in_one_sector(sr: Repository, which: int) -> None:
    first, second = family(sr), family(sr)
    second[which].write(one_sector("other", 2 * BLOCK))
    before, after = prints(sr, *first), prints(sr, *second)
    assert before[which] != after[which]
    assert before[1 - which] == after[1 - which]


def test_what_is_known_is_not_asked_again_but_still_compared(sr: Repository) -> None:
    disk, _ = family(sr)
    known = Known()
    with opened(sr) as outside:
        assert not list(compare(outside, look(outside).medium, {}, known))
        seen = dict(known.shown)
        (wrong,) = compare(outside, look(outside).medium, {disk.uuid: Model(disk.size)}, known)
        assert wrong.rule == "the device shows the content"
        assert known.shown == seen
        disk.write(one_sector("other", 0))
        assert not list(compare(outside, look(outside).medium, {}, known))
        assert len(known.shown) == len(seen) + 1
