"""Images in a directory: what each change does, and what a crash at any step of it leaves."""

import itertools
import os
from pathlib import Path

import pytest
from stepwise import Changes, dies_at

from srs import file_replace, vhd
from srs.errors import SRScan, Unimplemented, VDISize, VDIUnavailable
from srs.file_split import settle, split
from srs.filestore import FileStore
from srs.gc.medium import LEAF
from srs.journal import RESIZE, REVERT, SPLIT
from srs.snapshot import Branch
from srs.vdi import Disk

SIZE = 4 << 20
T, S, B, N = (f"{letter * 8}-1111-2222-3333-444444444444" for letter in "abcd")


def insert_base(store: FileStore, uuid: str, base: str, twin: str = "") -> Branch:
    """A whole split."""
    branch = split(store, store.disk(uuid), base, twin)
    store.drop(branch.entry)
    return branch


def revert(store: FileStore) -> Disk:
    """T becomes what S is, which holds no data."""
    file_replace.begin(store, store.disk(T), store.disk(S))
    new = file_replace.replace(store, store.disk(T), store.disk(S))
    (entry,) = store.pending()
    store.drop(entry)
    return new


def recover(store: FileStore) -> list[str]:
    """What a driver does first, without a database; returns the disks that it was about."""
    store.sweep()
    entries = store.pending()
    for entry in entries:
        if entry.kind == SPLIT:
            settle(store, entry)
        elif entry.kind == REVERT:
            file_replace.settle(store, entry)
        else:
            store.undo_growth(entry)
        store.drop(entry)
    return [entry.id for entry in entries]


def write(directory: Path, uuid: str, text: bytes) -> None:
    with vhd.open_chain(directory / f"{uuid}.vhd", writable=True) as chain:
        chain.write(0, text * (512 // len(text)))


def read(directory: Path, uuid: str) -> bytes:
    with vhd.open_chain(directory / f"{uuid}.vhd") as chain:
        return chain.read(0, 4)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A disk T with a snapshot S, both above base B; T has been written to since."""
    store = FileStore(str(tmp_path))
    store.allocate(T, SIZE, raw=False)
    write(tmp_path, T, b"old!")
    insert_base(store, T, B, S)
    write(tmp_path, T, b"new!")
    return store


def test_resizes_are_settled_first(store: FileStore, tmp_path: Path) -> None:
    """A leaf-coalesce needs its base copy, which was perhaps being made larger."""
    store.journal.create(LEAF, T, B)
    store.journal.create(SPLIT, S, "base_twin")
    (tmp_path / f".journal-{B}").write_bytes(b"")
    kinds = [(entry.kind, entry.id) for entry in store.pending()]
    assert kinds == [(RESIZE, B), (LEAF, T), (SPLIT, S)]


def test_a_split(store: FileStore, tmp_path: Path) -> None:
    assert [(disk.uuid, disk.hidden, disk.parent) for disk in store.disks()] == [
        (T, False, B),
        (S, False, B),
        (B, True, ""),
    ]
    assert (read(tmp_path, T), read(tmp_path, S)) == (b"new!", b"old!")
    assert store.has_data(store.disk(T))
    assert not store.has_data(store.disk(S))
    assert (store.depth(store.disk(T)), store.depth(store.disk(B))) == (2, 1)
    assert sorted(os.listdir(tmp_path)) == sorted(f"{uuid}.vhd" for uuid in (T, S, B))


def test_case_a_and_again(store: FileStore, tmp_path: Path) -> None:
    for _ in range(2):
        new = store.put_leaf(T, store.disk(S))
        assert (new.uuid, new.parent, new.size) == (T, B, SIZE)
        assert (read(tmp_path, T), read(tmp_path, S)) == (b"old!", b"old!")
        assert len(os.listdir(tmp_path)) == 3


def test_case_b(store: FileStore, tmp_path: Path) -> None:
    write(tmp_path, S, b"own!")
    branch = insert_base(store, S, N)
    assert branch.twin is None
    assert (branch.leaf.parent, branch.base.parent, branch.base.hidden) == (N, B, True)
    store.put_leaf(T, branch.leaf)
    assert (read(tmp_path, T), read(tmp_path, S)) == (b"own!", b"own!")


def test_case_c(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    for uuid in (T, S):
        store.allocate(uuid, SIZE, raw=False)
    write(tmp_path, T, b"new!")
    new = store.put_leaf(T, store.disk(S))
    assert (new.parent, read(tmp_path, T)) == ("", bytes(4))
    assert not store.has_data(new)


def test_the_size_goes_back(store: FileStore) -> None:
    grown = store.grow(store.disk(T), 3 * SIZE)
    assert grown.size == 3 * SIZE
    assert store.put_leaf(T, store.disk(S)).size == SIZE
    with pytest.raises(VDISize):
        store.grow(store.disk(T), 3 << 40)


def test_raw_disks(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    disk = store.allocate(T, 12345, raw=True)
    assert (disk.raw, disk.size, disk.sm_config) == (True, 12345, {"type": "raw"})
    with pytest.raises(Unimplemented):
        store.grow(disk, 20000)
    store.destroy(disk)
    assert not store.exists(T)


def test_what_is_not_there_and_what_is_no_image(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(VDIUnavailable):
        store.disk(N)
    (tmp_path / f"{N}.vhd").write_bytes(b"no image" * 1000)
    with pytest.raises(VDIUnavailable):
        store.disk(N)
    with pytest.raises(SRScan):
        store.disks()


# -- crashes: a child process that ends at the n-th change of the directory

_NAMES: Changes = ((os, "rename"), (os, "link"), (os, "unlink"), (os, "fsync"))
_CHANGES: Changes = (*_NAMES, (vhd, "create"), (vhd, "snapshot"), (vhd, "set_hidden"))
_WRITES: Changes = (*_NAMES, (os, "pwritev"), (os, "ftruncate"), (os, "fdatasync"))


def check_after_crash(directory: Path, contents: dict[str, set[bytes]]) -> None:
    store = FileStore(str(directory))
    recover(store)
    disks = {disk.uuid: disk for disk in store.disks()}
    for uuid, allowed in contents.items():
        assert read(directory, uuid) in allowed
        assert not disks[uuid].hidden
    parents = {disk.parent for disk in disks.values()}
    assert all(disk.hidden == (uuid in parents) for uuid, disk in disks.items())
    names = {f"{uuid}.vhd" for uuid in disks}
    assert set(os.listdir(directory)) == names
    revert(store)
    assert read(directory, T) == read(directory, S)


@pytest.mark.parametrize("step", range(20))
def test_a_crash_in_a_revert(store: FileStore, tmp_path: Path, step: int) -> None:
    dies_at(step, lambda: revert(store), _CHANGES)
    check_after_crash(tmp_path, {T: {b"new!", b"old!"}, S: {b"old!"}})


@pytest.mark.parametrize("step", range(30))
def test_a_crash_in_a_snapshot(store: FileStore, tmp_path: Path, step: int) -> None:
    twin = T.replace("a", "e")
    dies_at(step, lambda: insert_base(store, T, N, twin), _CHANGES)
    check_after_crash(tmp_path, {T: {b"new!"}, S: {b"old!"}})


@pytest.mark.parametrize("step", range(40))
def test_a_crash_in_a_revert_that_splits(store: FileStore, tmp_path: Path, step: int) -> None:
    write(tmp_path, S, b"own!")

    def act() -> Disk:
        file_replace.begin(store, store.disk(T), store.disk(S))
        return file_replace.replace(store, store.disk(T), insert_base(store, S, N).leaf)

    dies_at(step, act, _CHANGES)
    check_after_crash(tmp_path, {T: {b"new!", b"own!"}, S: {b"own!"}})


@pytest.mark.parametrize("step", range(60))
def test_a_crash_in_a_resize(store: FileStore, tmp_path: Path, step: int) -> None:
    """The tables of 8 GiB do not fit in front of the first block."""
    dies_at(step, lambda: store.grow(store.disk(T), 8 << 30), _WRITES)
    recover(FileStore(str(tmp_path)))
    assert store.disk(T).size in (SIZE, 8 << 30)
    check_after_crash(tmp_path, {T: {b"new!"}, S: {b"old!"}})


def test_a_disk_that_a_resize_lost(store: FileStore, tmp_path: Path) -> None:
    """Without a usable journal it is poisoned; the others are not bothered."""
    steps = itertools.count()
    while dies_at(next(steps), lambda: store.grow(store.disk(T), 8 << 30), _WRITES):
        try:
            store.disk(T)
        except VDIUnavailable:
            break
        recover(store)
    else:
        pytest.fail("no crash left the disk to its journal")
    (tmp_path / f".journal-{T}").write_bytes(b"torn")
    with pytest.raises(vhd.JournalDamaged):
        recover(store)
    with pytest.raises(VDIUnavailable, match="resize"):
        store.disk(T)
    assert store.disk(S).size == SIZE


def test_the_crashes_reach_the_end(store: FileStore) -> None:
    """The ranges above cover every step: the last one is never reached."""
    assert dies_at(3, lambda: revert(store), _CHANGES)
    recover(store)
    assert not dies_at(19, lambda: revert(store), _CHANGES)
    assert not dies_at(29, lambda: insert_base(store, T, N, T.replace("a", "e")), _CHANGES)
    assert dies_at(20, lambda: store.grow(store.disk(S), 8 << 30), _WRITES)
    recover(store)
    assert not dies_at(59, lambda: store.grow(store.disk(S), 8 << 30), _WRITES)


def test_a_failure_in_the_middle_is_undone(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(os.listdir(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise vhd.StorageFailed("leaf", "writing", "No space left on device", 28)

    monkeypatch.setattr(vhd, "snapshot", full)
    with pytest.raises(vhd.StorageFailed):
        insert_base(store, T, N, T.replace("a", "e"))
    with pytest.raises(vhd.StorageFailed):
        store.put_leaf(T, store.disk(S))
    assert sorted(os.listdir(tmp_path)) == before
    assert (read(tmp_path, T), read(tmp_path, S)) == (b"new!", b"old!")


def test_a_sweep_leaves_alone_what_another_host_is_writing(tmp_path: Path) -> None:
    """Which attaches a shared SR, and takes no lock of the master's."""
    theirs = {"sm-hardlink.conf.new", f"{T}.link.new", f"{T}.test.new"}
    for name in (*theirs, f"{S}.vhd.new", f"{S}.raw.new", f"{S}.cbtlog.new"):
        (tmp_path / name).touch()

    FileStore(str(tmp_path)).sweep()

    assert {path.name for path in tmp_path.iterdir()} == theirs
