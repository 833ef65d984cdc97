"""A call on a file SR that dies at any change of files, logs or database, and recovery.

The database is a file beside the SR, so what the dead call has told it stays. Files are only
cut between calls of the operating system here; scenarios/crash loses writes in flight, too.
"""

import itertools
import os
import shutil
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from directory import Directory, LastingDatabase, live_in
from stepwise import Changes, dies_at

from srs import hardlinks, vhd
from srs.cbtlogs import FileLogs
from srs.cowvdi import CowVDI
from srs.datapath import tap
from srs.errors import SRError, SRScan, SRUnavailable, VDIUnavailable
from srs.filestore import FileStore
from srs.journal import RESIZE, FileJournal
from srs.protocol import Request
from srs.session import Failure
from srs.vdi import NewDisk
from srs.vhd import cbt

SIZE = 4 << 20
PIECE = 64 << 10
SR, T, S, O = (f"{letter * 8}-1111-4222-8333-444444444444" for letter in "abcd")  # noqa: E741

_CHANGES: Changes = (
    *((os, name) for name in ("rename", "link", "unlink", "fsync", "write")),
    *((vhd, name) for name in ("create", "snapshot", "set_hidden", "resize")),
    *((cbt, name) for name in ("create", "set_fields", "resize")),
    (LastingDatabase, "call"),
)

#: Where it is written that a shared file system has no hard links.
_NO_LINKS = "sm-hardlink.conf"
_LINKS = pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])


@dataclass(frozen=True, slots=True)
class Rig:
    """An SR with a tracked disk T and its snapshot S, which other tests take further."""

    root: Path

    @property
    def directory(self) -> Path:
        """Where the images are."""
        return self.root / SR

    def sr(self) -> Directory:
        """The driver, during one call."""
        return Directory(self.directory, LastingDatabase(self.root / "database"))

    def vdi(self, uuid: str) -> CowVDI:
        """A disk in a call of its own."""
        return CowVDI(self.sr(), uuid)

    def snapshot(self, uuid: str, name: str) -> None:
        """A snapshot that is called as we like, marked as the toolstack does it."""
        names = iter([name, name.replace("1111", "9999")])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("srs.snapshot.new_uuid", lambda: next(names))
            self.vdi(uuid).snapshot({})
        self.set(name, is_a_snapshot=True)

    def set(self, uuid: str, **fields: Any) -> None:
        """Change a record."""
        for key, value in fields.items():
            self.sr().session.call(f"VDI.set_{key}", f"OpaqueRef:{uuid}", value)

    def write(self, uuid: str, text: bytes, piece: int = 0) -> None:
        """Write into a disk, and into its log that something changed there."""
        sr = self.sr()
        log = sr.tracking.opened(sr.disk(uuid), f"OpaqueRef:{uuid}")
        with vhd.open_chain(self.directory / f"{uuid}.vhd", writable=True) as chain:
            chain.write(piece * PIECE, text.ljust(512))
        if os.path.exists(log):
            with open(log, "r+b") as file:
                file.seek(48 + piece // 8)
                old = file.read(1)[0]
                file.seek(48 + piece // 8)
                file.write(bytes([old | 1 << piece % 8]))
        sr.tracking.closed(uuid)

    def read(self, uuid: str) -> bytes:
        """All of a disk."""
        with vhd.open_chain(self.directory / f"{uuid}.vhd") as chain:
            return chain.read(0, chain.size)

    def copy(self, to: Path) -> "Rig":
        """The same once more."""
        shutil.copytree(self.root, to)
        return Rig(to)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    live_in(tmp_path / "run", monkeypatch)
    rig = Rig(tmp_path / "rig")
    rig.directory.mkdir(parents=True)
    rig.vdi(T).create(NewDisk(SIZE, label="database"))
    rig.vdi(T).enable_cbt(True)
    rig.set(T, cbt_enabled=True)
    rig.write(T, b"oldest")
    rig.snapshot(T, O)
    rig.write(T, b"wanted", 1)
    rig.snapshot(T, S)
    rig.write(T, b"lost", 2)
    return rig


def have(rig: Rig, links: bool) -> None:
    """Let the directory have hard links, or, as on some servers, none."""
    if not links:
        (rig.directory / _NO_LINKS).write_text("0")


def must_hold(rig: Rig, contents: dict[str, set[bytes]]) -> None:
    """Everything that must be true when recovery is done."""
    sr = rig.sr()
    sr.mend()
    disks = {disk.uuid: disk for disk in sr.disks()}
    for uuid, allowed in contents.items():
        assert rig.read(uuid) in allowed, uuid
        assert not sr.usable(uuid).hidden
    parents = {disk.parent for disk in disks.values()}
    assert all(disk.hidden == (uuid in parents) for uuid, disk in disks.items())
    logs = set(sr.logs.uuids())
    names = {f"{uuid}.vhd" for uuid in disks} | {f"{uuid}.cbtlog" for uuid in logs}
    assert set(os.listdir(rig.directory)) - {_NO_LINKS} == names
    agrees(sr, logs)
    before = dict(sr.session.vdi_records_of(""))
    sr.scan()
    assert sr.session.vdi_records_of("") == before
    for older, newer in itertools.permutations(contents, 2):
        covers(rig, older, newer)


def agrees(sr: Directory, logs: set[str]) -> None:
    """The database says what the medium says."""
    records = {record["uuid"]: record for record in sr.session.vdi_records_of("").values()}
    disks = {disk.uuid: disk for disk in sr.disks()}
    assert set(records) == set(disks)
    for uuid, disk in disks.items():
        record = records[uuid]
        told = (int(record["virtual_size"]), int(record["physical_utilisation"]))
        assert told == (disk.size, disk.utilisation)
        assert record["managed"] != disk.hidden
        assert record["sm_config"] == disk.sm_config
        assert record["cbt_enabled"] == (uuid in logs)
    visible = sum(disk.size for disk in disks.values() if not disk.hidden)
    assert int(sr.session.call("SR.get_virtual_allocation", "")) == visible


def covers(rig: Rig, older: str, newer: str) -> None:
    """What list_changed_blocks tells, if it tells anything, covers what differs."""
    try:
        bitmap = b64decode(rig.vdi(older).list_changed_blocks(f"OpaqueRef:{newer}"))
    except (SRError, Failure):
        return
    one, two = rig.read(older), rig.read(newer)
    for piece in range(len(two) // PIECE):
        span = slice(piece * PIECE, (piece + 1) * PIECE)
        if one[span] != two[span]:
            assert bitmap[piece // 8] & 0x80 >> piece % 8, (older, newer, piece)


def dies_everywhere(
    rig: Rig, act: Callable[[Rig], object], contents: dict[str, set[bytes]], *, steps: int
) -> None:
    """Cut an action before each of its changes, recover, then do it again."""
    rig.sr().scan()
    for step in itertools.count():
        cut = rig.copy(rig.root.with_name(f"cut{step}"))
        died = dies_at(step, lambda: act(cut), _CHANGES)  # noqa: B023  # it runs at once
        must_hold(cut, contents)
        if not died:
            assert step > steps
            return
        act(cut)
        must_hold(cut, contents)
        shutil.rmtree(cut.root)


@pytest.mark.parametrize(("to", "tracked"), [(S, True), (O, True), (S, False)])
def test_revert_to_an_empty_snapshot(rig: Rig, to: str, tracked: bool) -> None:
    if not tracked:
        rig.vdi(T).enable_cbt(False)
        rig.set(T, cbt_enabled=False)
    lost, wanted, older = rig.read(T), rig.read(S), rig.read(O)
    contents = {T: {lost, rig.read(to)}, S: {wanted}, O: {older}}
    dies_everywhere(rig, lambda rig: rig.vdi(to).revert(T), contents, steps=12)


def test_a_revert_that_is_undone_leaves_tracking_as_it_was(rig: Rig) -> None:
    """Up to the commit point, the log goes on where it was."""
    for step in itertools.count():
        cut = rig.copy(rig.root.with_name(f"cut{step}"))
        lost = cut.read(T)
        assert dies_at(step, lambda: cut.vdi(S).revert(T), _CHANGES)  # noqa: B023
        cut.sr().mend()
        if cut.read(T) != lost:
            assert step > 4
            return
        bitmap = b64decode(cut.vdi(S).list_changed_blocks(f"OpaqueRef:{T}"))
        assert bitmap[0] == 0x80 >> 2
        assert cut.sr().session.vdi_record(f"OpaqueRef:{T}")["cbt_enabled"]


@_LINKS
def test_revert_to_a_snapshot_that_was_written_to(rig: Rig, links: bool) -> None:
    have(rig, links)
    rig.write(S, b"own", 3)
    lost, wanted, older = rig.read(T), rig.read(S), rig.read(O)
    contents = {T: {lost, wanted}, S: {wanted}, O: {older}}
    dies_everywhere(rig, lambda rig: rig.vdi(S).revert(T), contents, steps=25)


def test_revert_to_a_blank_snapshot_of_another_size(rig: Rig) -> None:
    """A disk that grew after a snapshot that holds nothing, and stands on nothing."""
    blank, mark = (T.replace("1111", name) for name in ("5555", "6666"))
    rig.vdi(blank).create(NewDisk(SIZE))
    rig.snapshot(blank, mark)
    rig.write(blank, b"lost")
    rig.vdi(blank).resize(2 * SIZE)
    contents = {blank: {rig.read(blank), bytes(SIZE)}, mark: {bytes(SIZE)}, T: {rig.read(T)}}
    dies_everywhere(rig, lambda rig: rig.vdi(mark).revert(blank), contents, steps=12)


@_LINKS
@pytest.mark.parametrize("operation", ["snapshot", "clone"])
def test_splits(rig: Rig, operation: str, links: bool) -> None:
    have(rig, links)
    contents = {T: {rig.read(T)}, S: {rig.read(S)}, O: {rig.read(O)}}
    dies_everywhere(rig, lambda rig: getattr(rig.vdi(T), operation)({}), contents, steps=25)


@pytest.mark.parametrize("size", [2 * SIZE, 16 << 30])
def test_growing(rig: Rig, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the tables of the image, and beyond; where blocks move, the engine has its tests."""
    monkeypatch.setattr(Rig, "read", _beginning)
    contents = {T: {rig.read(T)}, S: {rig.read(S)}, O: {rig.read(O)}}
    dies_everywhere(rig, lambda rig: rig.vdi(T).resize(size), contents, steps=9)


def _beginning(rig: Rig, uuid: str) -> bytes:
    with vhd.open_chain(rig.directory / f"{uuid}.vhd") as chain:
        return chain.read(0, SIZE)


# -- what cannot be recovered


def lose(rig: Rig) -> None:
    """A resize that died, and whose undo journal is damaged."""
    path = rig.directory / f"{T}.vhd"
    changes: Changes = ((os, "pwritev"), (os, "ftruncate"), (os, "fdatasync"))
    for step in itertools.count():
        assert dies_at(step, lambda: rig.vdi(T).resize(8 << 30), changes)
        try:
            vhd.query(path)
        except vhd.Poisoned:
            break
        rig.sr().mend()
    (rig.directory / f".journal-{T}").write_bytes(b"torn")


def test_one_lost_image_does_not_block_the_others(rig: Rig) -> None:
    lose(rig)
    sr = rig.sr()
    sr.mend()
    with pytest.raises(VDIUnavailable, match="journal resize is pending"):
        CowVDI(sr, T).attach(True)
    with pytest.raises(VDIUnavailable):
        CowVDI(sr, S).revert(T)
    with pytest.raises(SRScan):
        sr.scan()
    assert CowVDI(sr, S).attach(True)
    CowVDI(sr, S).clone({})
    CowVDI(sr, T).delete()
    assert not [name for name in os.listdir(rig.directory) if "journal" in name or RESIZE in name]
    assert rig.sr().pending() == []
    rig.sr().scan()


def test_an_unreadable_entry_blocks_its_disk_alone(rig: Rig) -> None:
    (rig.directory / f"clone_{T}").mkdir()  # reading it fails, whoever we are
    sr = rig.sr()
    sr.mend()
    with pytest.raises(VDIUnavailable, match="Is a directory"):
        sr.usable(T)
    assert sr.usable(S).uuid == S


def test_what_is_lost_can_be_let_go_of(rig: Rig) -> None:
    """Its link and this host's claim go, whatever is behind them."""
    lose(rig)
    sr, ref = rig.sr(), f"OpaqueRef:{T}"
    tap.link(SR, T, str(rig.directory / f"{T}.vhd"))
    sr.session.set_sm_config_key(ref, "host_host", "RO")
    sr.mend()
    with pytest.raises(VDIUnavailable):
        sr.usable(T)
    CowVDI(sr, T).deactivate()
    assert not os.path.lexists(tap.link_path(SR, T))
    assert "host_host" not in sr.session.vdi_record(ref)["sm_config"]


@pytest.mark.parametrize("where", [(FileStore, "sweep"), (FileLogs, "exists")])
def test_a_disk_whose_directory_cannot_be_read_is_let_go_of(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str]
) -> None:
    """A file system whose device is gone still says from memory how large it is."""
    ref = f"OpaqueRef:{T}"
    CowVDI(rig.sr(), T).activate(True)
    with monkeypatch.context() as gone:
        gone.setattr(*where, _fails)
        CowVDI(rig.sr(), T).deactivate()
    assert not tap.is_active(SR, T)
    assert not os.path.lexists(tap.link_path(SR, T))
    assert "host_host" not in rig.sr().session.vdi_record(ref)["sm_config"]


def test_what_cannot_be_undone_stays_paused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be written to a leaf that recovery is going to remove."""
    ref = f"OpaqueRef:{T}"
    with monkeypatch.context() as broken:
        broken.setattr(FileStore, "put_leaf", _fails)
        broken.setattr(hardlinks, "take_back", _fails)
        with pytest.raises(OSError, match="output error"):
            rig.vdi(T).snapshot({})
        sr = rig.sr()
        sr.mend()
        with suppress(SRScan):
            sr.scan()
        with pytest.raises(VDIUnavailable):
            CowVDI(sr, T).activate(True)
        assert sr.session.vdi_record(ref)["sm_config"].get("paused") == "true"
    rig.sr().mend()
    assert "paused" not in rig.sr().session.vdi_record(ref)["sm_config"]


def test_a_disk_of_two_entries_stays_paused_until_both_are_ended(rig: Rig) -> None:
    """A crash may come while recovery gives a disk the room back that a split took."""
    ref = f"OpaqueRef:{T}"
    (rig.directory / f"{RESIZE}_{T}").write_text(f"{SIZE}_{SIZE}\n")
    (rig.directory / f"clone_{T}").mkdir()  # cannot be read, so it cannot be ended
    rig.sr().session.set_sm_config_key(ref, "paused", "true")
    sr = rig.sr()
    sr.mend()
    assert [entry.kind for entry in sr.pending()] == ["clone"]
    assert sr.session.vdi_record(ref)["sm_config"]["paused"] == "true"
    (rig.directory / f"clone_{T}").rmdir()
    (rig.directory / f"{RESIZE}_{T}").write_text(f"{SIZE}_{SIZE}\n")
    rig.sr().mend()
    assert "paused" not in rig.sr().session.vdi_record(ref)["sm_config"]


def test_a_toolstack_that_has_never_seen_the_disks(rig: Rig) -> None:
    """Attached to another pool, after a crash: the scan tells of the disks, then entries end."""
    contents = {uuid: {rig.read(uuid)} for uuid in (T, S, O)}
    for step in itertools.count():
        cut = rig.copy(rig.root.with_name(f"cut{step}"))
        died = dies_at(step, lambda: cut.vdi(T).snapshot({}), _CHANGES)  # noqa: B023
        (cut.root / "database").unlink()
        sr = cut.sr()
        sr.after_attach()
        assert sr.pending() == []
        for uuid in contents:
            assert sr.usable(uuid).uuid == uuid
        must_hold(cut, contents)
        if not died:
            return
        shutil.rmtree(cut.root)


def test_what_is_undone_is_not_paused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the entry resists."""
    with monkeypatch.context() as broken:
        broken.setattr(FileStore, "put_leaf", _fails)
        broken.setattr(FileJournal, "remove", _fails)
        with pytest.raises(OSError, match="output error"):
            rig.vdi(T).snapshot({})
    assert "paused" not in rig.sr().session.vdi_record(f"OpaqueRef:{T}")["sm_config"]


def _fails(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error")


def test_only_the_master_recovers(rig: Rig) -> None:
    """Another host refuses the disks that the entry is about, and no others."""
    for step in itertools.count():
        rig.sr().mend()
        assert dies_at(step, lambda: rig.vdi(S).revert(T), _CHANGES)
        if any(entry.value for entry in rig.sr().pending()):
            break
    before = sorted(os.listdir(rig.directory))
    slave = rig.sr()
    slave.request = Request("", sr_uuid=SR, host_ref="other")
    slave.require_settled(O)
    for uuid in (T, S):
        with pytest.raises(SRUnavailable) as caught:
            CowVDI(slave, uuid).list_changed_blocks(f"OpaqueRef:{O}")
        assert caught.value.text == (
            "The SR is not available [opterr=Critical journals are pending. A scan is required.]"
        )
    assert sorted(os.listdir(rig.directory)) == before
    rig.sr().mend()
    slave.require_settled(T)
