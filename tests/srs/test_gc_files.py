"""A collector on real images in a directory: any history of disks, and its fixed point."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from directory import Database, Directory, live_in
from hypothesis import given, settings
from hypothesis import strategies as st

from srs import fist, vhd
from srs.cowvdi import CowVDI
from srs.errors import FistPoint
from srs.gc.collector import Collector, Report
from srs.gc.control import Aborted
from srs.gc.leaf import Speed
from srs.gc.merge import Bases
from srs.gc.tree import Forest
from srs.journal import FileJournal
from srs.vdi import NewDisk, new_uuid
from srs.vhd.backing import Backing

BLOCK = 2 << 20
SIZE = 3 * BLOCK


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a host keeps outside its SRs."""
    with pytest.MonkeyPatch.context() as patch:
        live_in(tmp_path_factory.mktemp("run"), patch)
        yield


class Bench:
    """An SR whose disks have known contents."""

    def __init__(self, path: Path) -> None:
        self.database = Database()
        self.sr = Directory(path, self.database)
        self.path = path
        self.contents: dict[str, bytearray] = {}

    def create(self) -> str:
        uuid = new_uuid()
        CowVDI(self.sr, uuid).create(NewDisk(SIZE))
        self.contents[uuid] = bytearray(SIZE)
        return uuid

    def write(self, uuid: str, offset: int, data: bytes) -> None:
        with vhd.open_chain(self.path / f"{uuid}.vhd", writable=True) as chain:
            chain.write(offset, data)
        self.contents[uuid][offset : offset + len(data)] = data

    def snapshot(self, uuid: str) -> str:
        made = CowVDI(self.sr, uuid).snapshot({})["uuid"]
        self.contents[made] = bytearray(self.contents[uuid])
        return made

    def revert(self, snapshot: str, target: str) -> None:
        CowVDI(self.sr, snapshot).revert(target)
        self.contents[target] = bytearray(self.contents[snapshot])

    def grow(self, uuid: str) -> None:
        self.contents[uuid] += bytes(BLOCK)
        CowVDI(self.sr, uuid).resize(len(self.contents[uuid]))

    def delete(self, uuid: str) -> None:
        CowVDI(self.sr, uuid).delete()
        del self.contents[uuid]

    def collect(self, check: Callable[[], None] = lambda: None) -> Report:
        @contextmanager
        def section() -> Iterator[Bases]:
            self.sr.mend()
            yield Bases(self.sr)

        speed = Speed(str(self.path / "speed"))
        collector = Collector(section, lambda done: check(), speed)
        return collector.run(lambda bases, report: None)

    def must_be_right(self) -> None:
        for uuid, content in self.contents.items():
            with vhd.open_chain(self.path / f"{uuid}.vhd") as chain:
                assert chain.size == len(content)
                assert chain.read(0, chain.size) == content

    def must_be_at_rest(self) -> None:
        """Nothing is left to do, nothing lies about, and the database knows just what is there."""
        disks = self.sr.disks()
        assert not Forest(disks).has_work
        files = {name for name in os.listdir(self.path) if name != "speed"}
        assert files == {f"{disk.uuid}.vhd" for disk in disks}
        known = {record["uuid"]: record for record in self.database.vdis.values()}
        assert set(known) == {disk.uuid for disk in disks}
        for disk in disks:
            assert known[disk.uuid]["sm_config"] == disk.sm_config
            assert int(known[disk.uuid]["virtual_size"]) == disk.size


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


_ACTS = ("write", "write", "snapshot", "revert", "grow", "delete", "collect")


def perform(bench: Bench, act: str, pick: int, at: int) -> None:
    """One thing that happens to one of the disks."""
    uuids = sorted(bench.contents)
    if not uuids:
        bench.create()
    elif act == "write":
        uuid = uuids[pick % len(uuids)]
        offset = at % (len(bench.contents[uuid]) // 512) * 512
        bench.write(uuid, offset, bytes([1 + at % 255]) * 512)
    elif act == "snapshot" and len(uuids) < 6:
        bench.snapshot(uuids[pick % len(uuids)])
    elif act == "revert" and len(uuids) > 1:
        bench.revert(*(uuids[(pick + step) % len(uuids)] for step in (0, 1)))
    elif act == "grow":
        bench.grow(uuids[pick % len(uuids)])
    elif act == "delete":
        bench.delete(uuids[pick % len(uuids)])
    elif act == "collect":
        bench.collect()


class Cut(Exception):
    """The power went."""


@contextmanager
def cut_while_relinking(syncs: int) -> Iterator[None]:
    """The power goes when so many syncs of `vhd.set_parent` have come back."""
    left = syncs
    set_parent, sync = vhd.set_parent, Backing.sync

    def count(backing: Backing) -> None:
        nonlocal left
        sync(backing)
        left -= 1
        if left == 0:
            raise Cut

    def counted(*args: Any, **options: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Backing, "sync", count)
            set_parent(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vhd, "set_parent", counted)
        yield


@pytest.mark.parametrize("syncs", range(1, 6))
def test_a_relink_that_was_cut_off_is_ended(bench: Bench, syncs: int) -> None:
    """Two disks are relinked, in three steps each; no locator leads to what is gone."""
    disk = bench.create()
    bench.write(disk, 0, b"1" * 512)
    passing = bench.snapshot(disk)
    bench.write(disk, 512, b"2" * 512)
    bench.snapshot(disk)
    bench.delete(passing)
    with cut_while_relinking(syncs), pytest.raises(Cut):
        bench.collect()
    report = bench.collect()
    assert not report.failed
    bench.must_be_right()
    bench.must_be_at_rest()
    for path in bench.path.glob("*.vhd"):
        assert vhd.check(path).findings == ()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(_ACTS), st.integers(0, 5), st.integers(0, 1 << 16)),
        min_size=4,
        max_size=16,
    )
)
def test_any_history(acts: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        bench.create()
        for act, pick, at in acts:
            perform(bench, act, pick, at)
        assert not bench.collect().failed
        bench.must_be_right()
        bench.must_be_at_rest()


def with_a_long_chain(bench: Bench) -> str:
    """A disk on three base copies, of which one is wanted, and garbage beside them."""
    disk = bench.create()
    for level in range(3):
        bench.write(disk, level * BLOCK + 512, bytes([level + 1]) * 1024)
        snapshot = bench.snapshot(disk)
        if level != 1:
            bench.delete(snapshot)
    bench.grow(disk)
    bench.write(disk, 3 * BLOCK, b"on top!!" * 64)
    lost = bench.create()
    bench.write(lost, 0, b"x" * 512)
    bench.delete(bench.snapshot(lost))
    bench.delete(lost)
    return disk


def test_a_collector_that_dies_anywhere(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each point at which one can be made to die; the next one ends what it began."""
    died = 0
    while True:
        bench = Bench(tmp_path_factory.mktemp("sr"))
        with_a_long_chain(bench)
        left = died

        def point(name: str, failure: object = None) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise FistPoint(name)

        with monkeypatch.context() as patch:
            patch.setattr(fist, "point", point)
            try:
                bench.collect()
                break
            except FistPoint:
                died += 1
        bench.sr.mend()
        bench.must_be_right()
        bench.collect()
        bench.must_be_right()
        bench.must_be_at_rest()
    assert died > 10


@pytest.mark.parametrize(
    "name", ["LVHDRT_resizing_while_vdis_are_paused", "LVHDRT_before_create_relink_journal"]
)
def test_a_merge_is_in_the_journal_from_its_first_step_to_its_last(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    disk = bench.create()
    bench.write(disk, 0, b"base" * 128)
    bench.delete(bench.snapshot(disk))
    bench.grow(disk)
    bench.write(disk, SIZE, b"grow" * 128)
    bench.delete(bench.snapshot(disk))
    (middle,) = (found for found in bench.sr.disks() if found.hidden and found.parent)

    def point(reached: str, failure: object = None) -> None:
        if reached == name:
            raise FistPoint(name)

    with monkeypatch.context() as patch:
        patch.setattr(fist, "point", point)
        with pytest.raises(FistPoint):
            bench.collect()

    assert f"coalesce_{middle.uuid}" in os.listdir(bench.path)
    bench.collect()
    bench.must_be_right()
    bench.must_be_at_rest()


def test_an_aborted_copy_leaves_a_sound_disk(bench: Bench) -> None:
    """Told to end in the middle of a copy it does; the next one begins again."""
    with_a_long_chain(bench)
    patience = iter([None, None, None])

    def check() -> None:
        if next(patience, "over"):
            raise Aborted

    assert bench.collect(check).ended == "aborted"
    bench.must_be_right()
    assert bench.collect().ended == "done"
    bench.must_be_right()
    bench.must_be_at_rest()


def test_what_is_given_up_is_known_to_the_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that grew for a copy that failed is as large in the database."""
    with_a_long_chain(bench)

    def point(name: str, failure: object = None) -> None:
        if name in ("LVHDRT_coalescing_VHD_data", "LVHDRT_coaleaf_after_coalesce"):
            raise vhd.StorageFailed("fist", "coalesce", "no room", 28)

    with monkeypatch.context() as patch:
        patch.setattr(fist, "point", point)
        assert bench.collect().failed

    for disk in bench.sr.disks():
        record = bench.database.vdi_record(bench.database.vdi_ref(disk.uuid))
        figures = record["virtual_size"], record["physical_utilisation"], record["managed"]
        assert figures == (str(disk.size), str(disk.utilisation), not disk.hidden)
    bench.must_be_right()


def test_a_leaf_is_in_the_journal_until_the_database_knows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector dies before it drops the entry: the database is right by then, or mended."""
    disk = bench.create()
    bench.write(disk, 0, b"base" * 128)
    bench.delete(bench.snapshot(disk))

    def point(name: str, failure: object = None) -> None:
        if name == "LVHDRT_coaleaf_both_renamed":
            patch.setattr(FileJournal, "remove", dies)

    def dies(*_: object) -> None:
        raise FistPoint("journal.remove")

    with monkeypatch.context() as patch:
        patch.setattr(fist, "point", point)
        with pytest.raises(FistPoint):
            bench.collect()

    (record,) = bench.database.vdis.values()
    assert record["uuid"] == disk
    assert "vhd-parent" not in record["sm_config"]
    bench.sr.mend()
    bench.must_be_right()
    bench.must_be_at_rest()


@pytest.mark.parametrize("growth", [0, BLOCK])
def test_a_parent_that_is_raw_takes_the_data_and_stays(
    bench: Bench, tmp_path: Path, growth: int
) -> None:
    disk = bench.create()
    raw = new_uuid()
    (tmp_path / f"{raw}.raw").write_bytes(b"raw!" * (SIZE // 4))
    vhd.snapshot(tmp_path / f"{disk}.vhd", tmp_path / f"{raw}.raw", raw_parent=True)
    bench.contents[disk] = bytearray(b"raw!" * (SIZE // 4))
    bench.sr.scan()
    if growth:
        bench.grow(disk)
        bench.write(disk, SIZE + 512, b"late" * 128)
    bench.write(disk, 512, b"over" * 128)
    bench.delete(bench.snapshot(disk))
    bench.write(disk, 2048, b"leaf" * 128)

    report = bench.collect()

    assert (len(report.coalesced), report.leaves, report.failed) == (1, [], {})
    bench.must_be_right()
    assert (tmp_path / f"{raw}.raw").read_bytes()[512:1024] == b"over" * 128
    assert bench.sr.disk(raw).size == SIZE + growth
    assert bench.sr.disk(disk).parent == raw
