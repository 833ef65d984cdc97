"""Changed block tracking on a directory of files: each step alone, and damaged or missing logs.

The toolstack's database is a dictionary here; with a real one, and real block devices, the
scenarios in scenarios/cbt do the same.
"""

import os
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from directory import Database, Directory, live_in
from hypothesis import given, settings
from hypothesis import strategies as st

from srs.cbterrors import CBTChangedBlocksError, CBTMetadataInconsistent
from srs.cowvdi import CowVDI
from srs.datapath.store import Export, ImageStore
from srs.errors import SRError, VDIInUse, VDIType
from srs.vdi import NewDisk
from srs.vhd import cbt

SIZE = 8 << 20
PIECE = 64 << 10


class Disk:
    """A disk, as its user and a backup program see it."""

    def __init__(self, sr: Directory, uuid: str) -> None:
        self.sr = sr
        self.uuid = uuid
        self.vdi = CowVDI(sr, uuid)
        self.ref = f"OpaqueRef:{uuid}"

    @property
    def record(self) -> dict[str, Any]:
        """Its record."""
        return self.sr.session.vdi_record(self.ref)

    @property
    def log(self) -> Path:
        """Its log."""
        return Path(self.sr.logs.place(self.uuid))

    def touch(self, *pieces: int, mark: int = 1) -> None:
        """Write into pieces, the way an activated disk is written."""
        with self.written() as store:
            for piece in pieces:
                store.write(piece * PIECE + 512, memoryview(bytes([mark]) * 512))

    def marks(self) -> dict[int, int]:
        """The pieces that were written to, and with what."""
        image = self.sr.disk(self.uuid)
        store = ImageStore(Export(self.uuid, self.sr.store.path_of(image), False, False))
        byte, found = memoryview(bytearray(1)), {}
        for piece in range(SIZE // PIECE):
            store.readinto(piece * PIECE + 512, byte)
            if byte[0]:
                found[piece] = byte[0]
        store.close()
        return found

    def written(self) -> "Written":
        """The disk, active for writing."""
        return Written(self)

    def snapshot(self) -> "Disk":
        """A snapshot, which the toolstack marks as one."""
        made = Disk(self.sr, self.vdi.snapshot({})["uuid"])
        made.record["is_a_snapshot"] = True
        return made


class Written:
    """What activation and deactivation do about a disk, without the process that serves it."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __enter__(self) -> ImageStore:
        disk, sr = self._disk, self._disk.sr
        image = sr.disk(disk.uuid)
        disk.record["sm_config"]["host_host"] = "RW"
        log = sr.tracking.opened(image, disk.ref)
        self.store = ImageStore(Export(disk.uuid, sr.store.path_of(image), False, True, log))
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._disk.sr.tracking.closed(self._disk.uuid)
        del self._disk.record["sm_config"]["host_host"]


def changed(older: Disk, newer: Disk) -> set[int]:
    bitmap = b64decode(older.vdi.list_changed_blocks(newer.ref))
    assert len(bitmap) == -(-int(newer.record["virtual_size"]) // PIECE // 8)
    return {8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte << bit & 128}


@pytest.fixture
def sr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    live_in(tmp_path / "run", monkeypatch)
    path = tmp_path / "a0000000-0000-4000-8000-000000000000"
    path.mkdir()
    yield Directory(path, Database())
    assert not [name for name in os.listdir(path) if name.endswith(".new")]


@pytest.fixture
def disk(sr: Directory) -> Disk:
    """A tracked disk."""
    uuid = "b0000000-0000-4000-8000-000000000000"
    CowVDI(sr, uuid).create(NewDisk(SIZE))
    made = Disk(sr, uuid)
    made.vdi.enable_cbt(True)
    made.record["cbt_enabled"] = True  # the toolstack does
    return made


def test_a_line(disk: Disk) -> None:
    first = disk.snapshot()
    disk.touch(0, 9)
    second = disk.snapshot()
    disk.touch(127)
    assert changed(first, second) == {0, 9}
    assert changed(second, disk) == {127}
    assert changed(first, disk) == {0, 9, 127}
    one, two, three = (cbt.get(each.log) for each in (first, second, disk))
    assert (one.parent, one.child) == (UUID(int=0), UUID(second.uuid))
    assert (two.parent, two.child) == (UUID(first.uuid), UUID(disk.uuid))
    assert (three.parent, three.child) == (UUID(second.uuid), UUID(int=0))
    assert first.record["cbt_enabled"]
    assert not Disk(disk.sr, disk.vdi.clone({})["uuid"]).record["cbt_enabled"]


def test_every_way_of_writing_is_seen(disk: Disk) -> None:
    first = disk.snapshot()
    with disk.written() as store:
        store.write(PIECE - 1, memoryview(b"ab"))
        store.write(5 * PIECE, memoryview(bytes(2 * PIECE)))
        store.zero(10 * PIECE - 100, 3 * PIECE)
        store.zero(20 * PIECE + 10, 20)
        store.zero(30 * PIECE, 512)
        store.write(40 * PIECE, memoryview(b""))
        store.readinto(50 * PIECE, memoryview(bytearray(512)))
    assert changed(first, disk) == {0, 1, 5, 6, 9, 10, 11, 12, 20, 30}


def test_who_is_not_tracked(sr: Directory, disk: Disk) -> None:
    snapshot = disk.snapshot()
    raw = CowVDI(sr, "c0000000-0000-4000-8000-000000000000")
    raw.create(NewDisk(SIZE, raw=True))
    for vdi in (raw, snapshot.vdi):
        for on in (True, False):
            with pytest.raises(VDIType):
                vdi.enable_cbt(on)
    with pytest.raises(VDIType):
        disk.vdi.data_destroy()
    before = disk.log.stat()
    disk.vdi.enable_cbt(True)  # again: nothing to do
    assert disk.log.stat() == before
    disk.vdi.enable_cbt(False)
    disk.vdi.enable_cbt(False)
    assert not disk.log.exists()


def test_off_and_on_again(disk: Disk) -> None:
    """The new log has the disk's name, too, but does not continue the snapshot's."""
    first = disk.snapshot()
    disk.vdi.enable_cbt(False)
    disk.touch(1)
    disk.vdi.enable_cbt(True)
    assert cbt.get(first.log).child == UUID(disk.uuid)
    with pytest.raises(CBTChangedBlocksError):
        changed(first, disk)


def test_revert(disk: Disk) -> None:
    first = disk.snapshot()
    disk.touch(1)
    second = disk.snapshot()
    disk.touch(2)
    second.vdi.revert(disk.ref)
    assert (changed(second, disk), changed(first, disk)) == (set(), {1})
    first.vdi.revert(disk.ref)
    disk.touch(3)
    assert changed(first, second) == {1}
    for snapshot in (first, second):
        with pytest.raises(CBTChangedBlocksError):
            changed(snapshot, disk)
    second.vdi.delete()
    first.vdi.revert(disk.ref)
    disk.touch(4)
    assert changed(first, disk) == {4}


def test_writing_to_a_snapshot_ends_its_line(disk: Disk) -> None:
    """Else the next newer log would keep quiet about what the snapshot itself got."""
    first = disk.snapshot()
    second = disk.snapshot()
    disk.touch(2)
    assert changed(second, disk) == {2}
    second.touch(7)
    assert changed(first, second) == {7}
    with pytest.raises(CBTChangedBlocksError):
        changed(second, disk)


def test_data_destroy(sr: Directory, disk: Disk) -> None:
    first = disk.snapshot()
    disk.touch(4)
    first.record["sm_config"]["host_other"] = "RO"
    with pytest.raises(VDIInUse):
        first.vdi.data_destroy()
    del first.record["sm_config"]["host_other"]
    first.vdi.data_destroy()
    first.vdi.data_destroy()
    assert not sr.exists(first.uuid)
    assert changed(first, disk) == {4}
    disk.record["cbt_enabled"] = False
    sr.scan()
    assert first.record["virtual_size"] == str(SIZE)
    assert disk.record["cbt_enabled"]
    first.vdi.delete()
    assert first.ref not in sr.session.vdi_records_of("")
    assert not first.log.exists()


def test_scan_of_an_sr_that_nobody_knows(sr: Directory, disk: Disk) -> None:
    first = disk.snapshot()
    first.vdi.data_destroy()
    (Path(sr.path) / "no-uuid.cbtlog").write_text("somebody's file")
    sr.session.vdi_records_of("")
    for ref in sr.session.vdi_records_of(""):
        sr.session.call("VDI.db_forget", ref)
    sr.scan()
    assert (first.record["type"], first.record["cbt_enabled"]) == ("cbt_metadata", True)
    assert (disk.record["type"], disk.record["cbt_enabled"]) == ("user", True)


def test_inconsistent_after_a_crash(disk: Disk) -> None:
    first = disk.snapshot()
    disk.touch(1)
    cbt.set_fields(disk.log, consistent=0)  # as a host leaves it that dies
    with pytest.raises(CBTMetadataInconsistent):
        changed(first, disk)
    disk.touch(2)
    assert not disk.log.exists()
    assert not disk.record["cbt_enabled"]
    assert disk.sr.session.messages == ["VDI_CBT_METADATA_INCONSISTENT"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", [b"", b"short", bytes(48), bytes(40) + b"\xff" * 8])
def test_damaged_log(disk: Disk, damage: bytes) -> None:
    first = disk.snapshot()
    disk.log.write_bytes(damage)
    with pytest.raises(SRError) as caught:
        changed(first, disk)
    assert caught.value.code in (459, 460)
    second = disk.snapshot()  # which does not fail because of it
    assert disk.sr.session.messages == ["VDI_CBT_SNAPSHOT_FAILED"]  # type: ignore[attr-defined]
    assert not second.record["cbt_enabled"]
    assert not second.log.exists()
    assert not disk.log.exists()
    disk.vdi.enable_cbt(True)
    third = disk.snapshot()
    disk.touch(3)
    assert changed(third, disk) == {3}


def test_damaged_log_of_a_disk_that_grows_or_goes(disk: Disk) -> None:
    first = disk.snapshot()
    disk.log.write_bytes(b"short")
    disk.vdi.resize(2 * SIZE)
    assert disk.sr.session.messages == ["VDI_CBT_RESIZE_FAILED"]  # type: ignore[attr-defined]
    assert not disk.log.exists()
    first.log.write_bytes(b"short")
    first.vdi.delete()
    assert not first.log.exists()


def test_a_snapshot_larger_than_what_follows_is_not_bridged(disk: Disk) -> None:
    """After a revert to a smaller snapshot a newer log may be shorter; then nothing is said."""
    first = disk.snapshot()
    second = disk.snapshot()
    cbt.resize(second.log, 4 * SIZE)
    with pytest.raises(CBTMetadataInconsistent):
        changed(first, disk)
    second.vdi.delete()
    with pytest.raises(CBTChangedBlocksError):
        changed(first, disk)


def test_revert_that_fails_leaves_the_log_as_it_was(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = disk.snapshot()
    disk.touch(1)

    def fail(*_: object) -> None:
        raise OSError("pulled out")

    monkeypatch.setattr(disk.sr, "replace", fail)
    with pytest.raises(OSError, match="pulled out"):
        first.vdi.revert(disk.ref)
    assert changed(first, disk) == {1}
    assert disk.record["cbt_enabled"]


class _Cut(BaseException):
    """The host dies."""


ACTIONS = ("snapshot", "delete", "revert", "resize", "enable", "disable", "destroy data")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_answer_is_never_too_short(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any sequence of operations, some cut in the middle: what is told covers what differs."""
    path = tmp_path_factory.mktemp("sr") / "a0000000-0000-4000-8000-000000000000"
    path.mkdir()
    sr = Directory(path, Database())
    uuid = "b0000000-0000-4000-8000-000000000000"
    CowVDI(sr, uuid).create(NewDisk(SIZE))
    disk = Disk(sr, uuid)
    disk.vdi.enable_cbt(True)
    contents: dict[str, dict[int, int]] = {uuid: {}}
    snapshots: list[Disk] = []
    for serial in range(data.draw(st.integers(1, 12))):
        pieces = data.draw(st.lists(st.integers(0, 127), max_size=3))
        disk.touch(*pieces, mark=serial + 1)
        contents[uuid] = disk.marks()
        action = data.draw(st.sampled_from(ACTIONS))
        cut = data.draw(st.one_of(st.none(), st.integers(0, 6)))
        chosen = data.draw(st.sampled_from(snapshots)) if snapshots else None
        _act(disk, chosen, action, cut, snapshots, contents)
        for older in (*snapshots, disk):
            for newer in (*snapshots, disk):
                _compare(older, newer, contents)


def _act(
    disk: Disk,
    chosen: Disk | None,
    action: str,
    cut: int | None,
    snapshots: list[Disk],
    contents: dict[str, dict[int, int]],
) -> None:
    """One operation, ended at the `cut`-th change of a log, as by a crash; then a scan."""
    known = set(disk.sr.session.vdi_records_of(""))
    with pytest.MonkeyPatch.context() as patch:
        if cut is not None:
            _arm(patch, cut)
        try:
            if action == "snapshot":
                disk.vdi.snapshot({})
            elif action == "resize":
                disk.vdi.resize(int(disk.record["virtual_size"]) + SIZE // 4)
            elif action in ("enable", "disable"):
                disk.vdi.enable_cbt(action == "enable")
            elif chosen is not None and action == "delete":
                chosen.vdi.delete()
            elif chosen is not None and action == "destroy data":
                if chosen.sr.exists(chosen.uuid):
                    chosen.vdi.data_destroy()
            elif chosen is not None and chosen.sr.exists(chosen.uuid):
                chosen.vdi.revert(disk.ref)
        except (_Cut, VDIType):
            pass
    disk.sr.mend()
    disk.sr.scan()
    for ref, record in disk.sr.session.vdi_records_of("").items():
        if ref not in known and record["managed"]:
            record["is_a_snapshot"] = True
            snapshots.append(Disk(disk.sr, record["uuid"]))
            contents[record["uuid"]] = contents[disk.uuid]
    there = disk.sr.session.vdi_records_of("")
    snapshots[:] = [each for each in snapshots if each.ref in there]
    contents[disk.uuid] = disk.marks()


def _arm(patch: pytest.MonkeyPatch, cut: int) -> None:
    left = [cut]

    def dying(name: str) -> Any:
        real = getattr(cbt, name)

        def step(*args: Any, **fields: Any) -> None:
            if not left[0]:
                raise _Cut
            left[0] -= 1
            real(*args, **fields)

        return step

    for name in ("set_fields", "create", "coalesce", "resize"):
        patch.setattr(cbt, name, dying(name))


def _compare(older: Disk, newer: Disk, contents: dict[str, dict[int, int]]) -> None:
    if older.uuid == newer.uuid:
        return
    try:
        told = changed(older, newer)
    except (CBTChangedBlocksError, CBTMetadataInconsistent):
        return
    one, other = contents[older.uuid], contents[newer.uuid]
    differ = {piece for piece in range(128) if one.get(piece) != other.get(piece)}
    assert differ <= told
