"""Resizing with a journal: tables that grow, blocks that move, disks that shrink, and the undo."""

import errno
import itertools
import os
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from powercut import device, taping
from readers import by_libvhdi, by_qemu

from srs import vhd
from srs.vhd.backing import Backing, Buffer
from srs.vhd.journal import Journal

MIB, GIB = 1 << 20, 1 << 30
BLOCK = vhd.BLOCK


def write(path: Path, *pieces: tuple[int, bytes]) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for offset, data in pieces:
            disk.write(offset, data)


def content(path: Path, length: int = 0) -> bytes:
    """The first ``length`` bytes of a disk, or all of them."""
    with vhd.open_chain(path) as disk:
        return disk.read(0, length or disk.size)


def check_layout(path: Path, *, undone: bool = False) -> None:
    """The rules of the format, from the bytes of a closed file alone.

    In front of the first block there are zeros, unless a resize was ``undone``.
    """
    raw = path.read_bytes()
    assert raw[:512] == raw[-512:]
    (size,) = struct.unpack_from(">Q", raw, 48)
    (slots,) = struct.unpack_from(">I", raw, 512 + 28)
    blocks = -(-size // BLOCK)
    end = 1536 + -(-slots * 4 // 512) * 512
    table = struct.unpack_from(f">{slots}I", raw, 1536)
    assert all(entry == 0xFFFFFFFF for entry in table[blocks:])
    cookie, map_at, sectors, _, stored = struct.unpack_from(">8sQIII", raw, end)
    assert (cookie, map_at) == (b"tdbatmap", end + 512)
    assert sectors == max(1, -(-slots // 4096))
    covered = max(512, -(-(size >> 24) // 512) * 512)
    bits = raw[map_at : map_at + sectors * 512]
    assert stored == ~sum(bits[:covered]) & 0xFFFFFFFF
    end = map_at + sectors * 512
    for slot in range(8):
        space, offset = struct.unpack_from(">4xI8xQ", raw, 512 + 576 + 24 * slot)
        end = max(end, offset + space)
    used = sorted(entry for entry in table if entry != 0xFFFFFFFF)
    assert all(sector % 8 == 7 and sector * 512 >= end for sector in used)
    assert all(after - before >= 4104 for before, after in itertools.pairwise(used))
    assert len(raw) == max([end, *((sector + 4097) * 512 for sector in used)]) + 512
    if used and not undone:
        assert not any(raw[end : used[0] * 512])
    for block in range(sectors * 4096):
        if bits[block // 8] & (0x80 >> block % 8):
            assert raw[table[block] * 512 :][:512] == b"\xff" * 512


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A leaf of 6 MiB, its first block full, on a base."""
    base, path = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, 6 * MIB)
    write(base, (0, b"b" * (6 * MIB)))
    vhd.snapshot(path, base)
    write(path, (0, b"0" * BLOCK), (2 * BLOCK + 512, b"2" * 512), (BLOCK, b"1" * 512))
    return path


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A leaf of 6 MiB on a base of 2 MiB, so that it may shrink."""
    base, path = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, BLOCK)
    write(base, (0, b"b" * BLOCK))
    vhd.snapshot(path, base, max_size=6 * MIB)
    vhd.resize(path, 6 * MIB)
    write(path, (0, b"0" * BLOCK), (2 * BLOCK + 512, b"2" * 512), (BLOCK, b"1" * 512))
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.mark.parametrize("size", [8 * MIB, 300 * MIB, 20 * GIB, 1200 * GIB, vhd.MAX_SIZE])
def test_grow(disk: Path, journal: Path, size: int) -> None:
    """Tables in the padding, one block to move, two of them, and all three."""
    expected, identity = content(disk), vhd.query(disk).unique_id
    vhd.resize(disk, size, journal=journal)
    assert not journal.exists()
    info = vhd.query(disk, allocated=True)
    assert (info.size, info.max_size, info.allocated) == (size, size, 3)
    assert (info.unique_id, info.parent) == (identity, str(disk.with_name("base.vhd")))
    assert info.stored_parent == "./base.vhd"
    check_layout(disk)
    assert content(disk, 8 * MIB) == expected + bytes(2 * MIB)
    write(disk, (size - 512, b"end" + bytes(509)))
    with vhd.open_chain(disk) as chain:
        assert chain.read(size - 512, 3) == b"end"
    vhd.set_parent(disk, disk.with_name("base.vhd"))
    assert content(disk, len(expected)) == expected


def test_grow_an_empty_disk(tmp_path: Path, journal: Path) -> None:
    path = tmp_path / "disk.vhd"
    vhd.create(path, 2 * MIB)
    vhd.resize(path, 100 * GIB, journal=journal)
    check_layout(path)
    assert path.stat().st_size == 214016


def test_what_the_batmap_says_besides_is_kept(disk: Path, journal: Path) -> None:
    raw = bytearray(disk.read_bytes())
    assert raw[2048 + 512] == 0x80
    raw[2048 + 28 : 2048 + 94] = b"m\1" + b"n" * 32 + b"h" * 32
    disk.write_bytes(raw)
    vhd.resize(disk, 100 * GIB, journal=journal)
    grown = disk.read_bytes()
    at = 1536 + 100 * GIB // BLOCK * 4
    assert grown[at + 28 : at + 94] == raw[2048 + 28 : 2048 + 94]
    assert grown[at + 512 : at + 514] == b"\x80\0"


def test_room_in_the_table_is_used(tmp_path: Path, journal: Path) -> None:
    """Then nothing is rearranged, and the size is the one asked for, not what is left besides."""
    path = tmp_path / "disk.vhd"
    vhd.create(path, 20 * MIB, max_size=200 * MIB)
    before = path.read_bytes()
    vhd.resize(path, 40 * MIB, journal=journal)
    assert (vhd.query(path).size, vhd.query(path).max_size) == (40 * MIB, 200 * MIB)
    assert path.read_bytes()[512:-512] == before[512:-512]


def test_shrink(grown: Path, journal: Path) -> None:
    write(grown, (4 * MIB, b"2" * (2 * MIB)))
    expected = content(grown)
    vhd.resize(grown, 4 * MIB, journal=journal)
    info = vhd.query(grown, allocated=True)
    assert (info.size, info.allocated, info.max_size) == (4 * MIB, 2, 6 * MIB)
    assert content(grown) == expected[: 4 * MIB]
    check_layout(grown)
    vhd.resize(grown, 6 * MIB)
    assert content(grown) == expected[: 4 * MIB] + bytes(2 * MIB)
    check_layout(grown)


def test_shrink_gives_the_tail_back(grown: Path, journal: Path) -> None:
    """The last block of the file was the last but one of the disk; then it is the first."""
    before = grown.stat().st_size
    vhd.resize(grown, 4 * MIB, journal=journal)
    assert grown.stat().st_size == before
    vhd.resize(grown, 2 * MIB, journal=journal)
    assert grown.stat().st_size == before - 2 * 4104 * 512
    assert content(grown) == b"0" * BLOCK


@pytest.mark.parametrize(("flat", "least"), [(False, 6 * MIB), (True, 6 * MIB - 512)])
def test_not_shorter_than_its_parent(tmp_path: Path, journal: Path, flat: bool, least: int) -> None:
    """What the parent holds behind the new end would come back when the disk grows again."""
    base, path = tmp_path / "base", tmp_path / "leaf.vhd"
    if flat:
        base.write_bytes(b"b" * least)
    else:
        vhd.create(base, least)
    vhd.snapshot(path, base, raw_parent=flat)
    vhd.resize(path, 10 * MIB, journal=journal)
    vhd.resize(path, 8 * MIB, journal=journal)
    before = path.read_bytes()
    with pytest.raises(vhd.SizeRefused) as caught:
        vhd.resize(path, 4 * MIB, journal=journal)
    assert (caught.value.minimum, caught.value.maximum) == (6 * MIB, vhd.MAX_SIZE)
    assert path.read_bytes() == before
    vhd.resize(path, 6 * MIB, journal=journal)
    assert vhd.query(path).size == 6 * MIB
    base.unlink()
    with pytest.raises(vhd.ParentMissing):
        vhd.resize(path, 4 * MIB, journal=journal)
    assert not journal.exists()


def test_others_read_a_rearranged_disk(tmp_path: Path, journal: Path) -> None:
    path = tmp_path / "disk.vhd"
    vhd.create(path, 6 * MIB)
    write(path, (0, b"0" * BLOCK), (BLOCK + 4096, b"1" * 8192), (5 * MIB, b"2" * MIB))
    expected = content(path)
    for size in (300 * MIB, 4 * MIB):
        vhd.resize(path, size, journal=journal)
        known = expected[:size]
        assert by_qemu(path) == known + bytes(size - len(known))
        assert by_libvhdi([path]) == known


def test_a_lost_footer_is_replaced_first(disk: Path, journal: Path) -> None:
    disk.write_bytes(disk.read_bytes()[:-512])
    expected = content(disk)
    vhd.resize(disk, 20 * GIB, journal=journal)
    assert content(disk, 6 * MIB) == expected
    check_layout(disk)


def test_refused(disk: Path, journal: Path) -> None:
    before = disk.read_bytes()
    for size in (0, -1, vhd.MAX_SIZE + 1):
        with pytest.raises(vhd.SizeRefused) as caught:
            vhd.resize(disk, size, journal=journal)
        assert (caught.value.minimum, caught.value.maximum) == (BLOCK, vhd.MAX_SIZE)
    journal.write_bytes(b"")
    with pytest.raises(vhd.JournalExists) as exists:
        vhd.resize(disk, 8 * MIB, journal=journal)
    assert exists.value.errno == errno.EEXIST
    journal.unlink()
    for at, data in ((28, b"qem2"), (1536 + 512, b"no batmap")):
        other = bytearray(before)
        other[at : at + len(data)] = data
        if at == 28:
            other[64:68] = (~(sum(other[:64]) + sum(other[68:512])) & 0xFFFFFFFF).to_bytes(4, "big")
            other[-512:] = other[:512]
        disk.write_bytes(other)
        with pytest.raises(vhd.BadHeader):
            vhd.resize(disk, 20 * GIB, journal=journal)
        assert disk.read_bytes() == other
    assert not journal.exists()


def test_no_room_on_a_device(tmp_path: Path, journal: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(b"stale" * MIB)
    journal.write_bytes(b"stale" * MIB)
    with device():
        vhd.create(path, 4 * MIB)
        write(path, (0, b"x" * (4 * MIB)))
        before = path.read_bytes()
        with pytest.raises(vhd.NoSpace):
            vhd.resize(path, 20 * GIB, journal=journal)
        assert path.read_bytes() == before
        assert journal.read_bytes() == b"stale" * MIB


class Full(Exception):
    """A write that failed."""


def failing_at(number: int) -> pytest.MonkeyPatch:
    """Let the write of that number fail, and no other."""
    left, write = number, Backing.write

    def failing(self: Backing, offset: int, *buffers: Buffer) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Full
        write(self, offset, *buffers)

    patch = pytest.MonkeyPatch()
    patch.setattr(Backing, "write", failing)
    return patch


@pytest.mark.parametrize("size", [2 * MIB, 20 * GIB])
def test_a_failure_is_undone(grown: Path, journal: Path, size: int) -> None:
    disk, expected, raw = grown, content(grown), grown.read_bytes()
    for number in itertools.count():
        disk.write_bytes(raw)
        patch = failing_at(number)
        try:
            vhd.resize(disk, size, journal=journal)
            break
        except Full:
            pass
        finally:
            patch.undo()
        vhd.revert_journal(disk, journal)
        if vhd.query(disk).size == 6 * MIB:
            assert content(disk) == expected
            check_layout(disk, undone=True)
        assert not journal.exists()
    assert number > 10
    assert vhd.query(disk).size == size


@pytest.mark.parametrize("again", [False, True])
def test_the_last_sync_fails(disk: Path, journal: Path, again: bool) -> None:
    """The page cache shows clean footers, but who knows the medium: the journal goes when it does.

    The sync for that may succeed, or fail ``again``.
    """
    left, sync = 1 + again, Backing.sync

    def failing(self: Backing) -> None:
        nonlocal left
        if left and self.path == str(disk) and disk.read_bytes()[:8] == b"conectix":
            left -= 1
            raise vhd.StorageFailed(self.path, "sync", os.strerror(errno.EIO), errno.EIO)
        sync(self)

    with taping(disk) as tape, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backing, "sync", failing)
        with pytest.raises(vhd.StorageFailed):
            vhd.resize(disk, 20 * GIB, journal=journal)
        assert left == 0
        assert journal.exists() == again
        before = len(tape)
        vhd.revert_journal(disk, journal)
    assert vhd.query(disk).size == 20 * GIB
    backups = [i for i, event in enumerate(tape.events) if not event.where and event.data]
    assert len(backups) == 3 + again
    assert (backups[-1] >= before) == again
    assert not journal.exists()


# -- the journal's file


@pytest.fixture
def interrupted(disk: Path, journal: Path) -> Path:
    """The disk when its metadata were written and its footers were not yet."""
    with taping(disk, journal) as tape:
        vhd.resize(disk, 20 * GIB, journal=journal)
    poisoned = [i for i, event in enumerate(tape.events) if event.data[:8] == b"v_poison"]
    clean = next(
        i
        for i, event in enumerate(tape.events)
        if i > poisoned[-1] and event.data[:8] == b"conectix"
    )
    tape.cut(clean, random.Random(1))
    return disk


def test_the_format_of_the_journal(interrupted: Path, journal: Path) -> None:
    raw = journal.read_bytes()
    cookie, identity, footer_at, data, metadata, data_at, metadata_at = struct.unpack_from(
        ">8s16sQIIQQ", raw
    )
    with pytest.raises(vhd.Poisoned) as caught:
        vhd.query(interrupted)
    assert (cookie, identity) == (b"vjournal", caught.value.unique_id.bytes)
    assert (data, metadata, metadata_at) == (2, 9, 512)
    assert int.from_bytes(raw[56:64], "little") == len(raw)
    at, kinds = 512, []
    for number in range(data + metadata):
        assert number != metadata or at == data_at
        entry, kind, length, target, stored = struct.unpack_from(">QIIQI", raw, at)
        assert entry == 0xAAAA12344321AAAA
        whole = raw[at : at + 32 + length]
        assert stored == ~(sum(whole) - sum(whole[24:28])) & 0xFFFFFFFF
        kinds.append((kind, target, length))
        at += 32 + length
    first = 15 * 512
    assert kinds == [
        (1, footer_at, 512),
        (2, 0, 512),
        (3, 512, 1024),
        *((4, 3072 + 512 * slot, 512) for slot in range(3)),
        (5, 1536, 512),
        (6, 2048, 512),
        (7, 2560, 512),
        (8, first, 512),
        (8, first + 512, BLOCK),
    ]
    assert at == len(raw)


def test_undo(interrupted: Path, journal: Path) -> None:
    with pytest.raises(vhd.Poisoned):
        vhd.open_chain(interrupted)
    for _ in range(2):
        vhd.revert_journal(interrupted, journal)
        assert not journal.exists()
        assert vhd.query(interrupted).size == 6 * MIB
        assert content(interrupted)[: BLOCK + 1024] == b"0" * BLOCK + b"1" * 512 + b"b" * 512
        check_layout(interrupted, undone=True)


ENTRY = bytes.fromhex("AAAA12344321AAAA")


@pytest.mark.parametrize(
    "raw", [bytes(1057), bytes(16 * MIB), bytes(1024) + b"an ext4", bytes(512) + b"boot" * 256]
)
def test_a_file_that_begins_with_zeros_stays(disk: Path, journal: Path, raw: bytes) -> None:
    """Many a raw image does."""
    journal.write_bytes(raw)
    with pytest.raises(vhd.JournalDamaged, match="neither a header nor a first entry"):
        vhd.revert_journal(disk, journal)
    assert journal.read_bytes() == raw


def test_a_cut_while_the_journal_is_written(disk: Path, journal: Path) -> None:
    """Whatever is left of it is known as a journal, and goes."""
    before, chance = disk.read_bytes(), random.Random(1)
    with taping(disk, journal) as tape:
        vhd.resize(disk, 20 * GIB, journal=journal)
    touched = [event.path for event in tape.events].index(str(disk))
    for at in range(touched):
        for _ in range(10):
            tape.cut(at, chance)
            vhd.revert_journal(disk, journal)
            assert not journal.exists()
            assert disk.read_bytes() == before


def test_a_device_with_the_dropped_journal_of_another_disk(tmp_path: Path) -> None:
    """It holds nothing, whoever's it was; one that holds something is not touched."""
    first, second, journal = (tmp_path / name for name in ("first", "second", "journal"))
    for file in (first, second, journal):
        file.write_bytes(bytes(16 * MIB))
    with device():
        for path in (first, second):
            vhd.create(path, 4 * MIB)
            write(path, (0, b"data" * 128))
        vhd.resize(first, 20 * GIB, journal=journal)
        dropped, before = journal.read_bytes(), second.read_bytes()
        assert dropped[:8] == b"vjournal"
        vhd.revert_journal(second, journal)
        journal.write_bytes(dropped[:36] + b"\0\0\0\1" + dropped[40:])
        with pytest.raises(vhd.JournalMismatch):
            vhd.revert_journal(second, journal)
    assert second.read_bytes() == before


def test_a_journal_without_entries_or_header(disk: Path, journal: Path) -> None:
    """A cut while it was written: the disk is untouched, and the journal goes."""
    before = disk.read_bytes()
    for raw in (b"", bytes(512), bytes(1056), bytes(512) + ENTRY, bytes(512) + ENTRY + bytes(9000)):
        journal.write_bytes(raw)
        vhd.revert_journal(disk, journal)
        assert not journal.exists()
    assert disk.read_bytes() == before


def test_what_is_no_journal_stays(disk: Path, journal: Path) -> None:
    for raw in (b"precious", b"precious" * 1000):
        journal.write_bytes(raw)
        with pytest.raises(vhd.JournalDamaged):
            vhd.revert_journal(disk, journal)
        assert journal.read_bytes() == raw


def test_a_journal_of_another_disk(interrupted: Path, journal: Path) -> None:
    base = interrupted.with_name("base.vhd")
    before, raw = base.read_bytes(), journal.read_bytes()
    with pytest.raises(vhd.JournalMismatch) as caught:
        vhd.revert_journal(base, journal)
    assert caught.value.expected == str(vhd.query(base).unique_id)
    assert (base.read_bytes(), journal.read_bytes()) == (before, raw)


def test_a_journal_that_was_not_needed_any_more(interrupted: Path, journal: Path) -> None:
    """A whole disk may have been written since, so it is not put back."""
    raw = journal.read_bytes()
    vhd.revert_journal(interrupted, journal)
    write(interrupted, (0, b"since" * 1000 + bytes(120)))
    journal.write_bytes(raw)
    vhd.revert_journal(interrupted, journal)
    assert content(interrupted)[:5] == b"since"
    assert not journal.exists()


@pytest.mark.parametrize("how", ["missing", "empty", "no entries", "flipped", "cut", "outside"])
def test_a_poisoned_disk_needs_its_journal(interrupted: Path, journal: Path, how: str) -> None:
    raw, before = bytearray(journal.read_bytes()), interrupted.read_bytes()
    places = random.Random(1).sample(range(512, len(raw)), 12) if how == "flipped" else [0]
    for at in places:
        damaged = bytearray(raw)
        if how == "flipped":
            damaged[at] ^= 0x10
        elif how == "outside":
            damaged[24:32] = bytes(8)
        elif how == "no entries":
            damaged[32:40] = bytes(8)
        elif how == "cut":
            del damaged[-1000:]
        elif how == "empty":
            damaged.clear()
        journal.write_bytes(damaged)
        if how == "missing":
            journal.unlink()
        with pytest.raises(vhd.StorageFailed if how == "missing" else vhd.JournalDamaged) as caught:
            vhd.revert_journal(interrupted, journal)
        assert str(caught.value)
        assert interrupted.read_bytes() == before
    journal.write_bytes(raw)
    vhd.revert_journal(interrupted, journal)
    assert vhd.query(interrupted).size == 6 * MIB


# -- power cuts


Places = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([0, 1, 100]), st.sampled_from([1, 7, 4096])),
    max_size=5,
)


State = tuple[int, bytes]


def state(path: Path) -> State:
    """The size of a disk, and what its first blocks read as."""
    return vhd.query(path).size, content(path, min(vhd.query(path).size, 12 * MIB))


@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    places=Places,
    target=st.sampled_from([2 * MIB, 6 * MIB, 8 * MIB, 14 * MIB, 40 * GIB, 1500 * GIB]),
    flat=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_cuts(places: list[tuple[int, int, int]], target: int, flat: bool, seed: int) -> None:
    """Each leaves the old or the new disk, or a poisoned one that its journal brings back.

    On files and on devices, whose journal is one, too. The undo is cut as well.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name, device(pretend=flat):
        path, journal, chance = Path(name, "disk"), Path(name, "journal"), random.Random(seed)
        if flat:
            path.write_bytes(chance.randbytes(20 * MIB))
            journal.write_bytes(chance.randbytes(12 * MIB))
        vhd.create(path, 10 * MIB)
        for number, (block, first, count) in enumerate(places):
            data = bytes([number + 1]) * 512 * min(count, 4096 - first)
            write(path, (block * BLOCK + first * 512, data))
        old = state(path)
        with taping(path, journal) as tape:
            vhd.resize(path, target, journal=journal)
        new = state(path)
        assert new[0] == target
        for at in sorted({*chance.sample(range(len(tape) + 1), min(8, len(tape))), len(tape)}):
            tape.cut(at, chance)
            check_journal(journal)
            found = verify(path, journal, old, new, chance)
            assert found == new if at == len(tape) else found in (old, new)


def test_a_device_with_an_older_journal(tmp_path: Path) -> None:
    """No cut makes a journal of its header and some of the new entries."""
    path, journal, chance = tmp_path / "disk", tmp_path / "journal", random.Random(1)
    for file in (path, journal):
        file.write_bytes(bytes(8 * MIB))
    with device():
        vhd.create(path, 4 * MIB)
        for value in (b"old!", b"new!"):
            write(path, (0, value * (BLOCK // 4)))
            with taping(path, journal) as tape:
                vhd.resize(path, 40 * GIB, journal=journal)
            touched = [event.path for event in tape.events].index(str(path))
            tape.cut(touched, chance)
            check_journal(journal)
        for at in range(touched):
            for _ in range(3):
                tape.cut(at, chance)
                check_journal(journal)


def check_journal(path: Path) -> None:
    """A journal that has a header is whole: XenServer's tools follow it in any case."""
    if path.exists() and path.read_bytes()[:8] == b"vjournal":
        with Backing(str(path)) as file:
            header = Journal.unpack(file.read(0, 512), "journal")
            assert header is not None
            assert [place.kind for place, _ in header.entries(file)][:3] in ([], [1, 2, 3])


def believing_the_primary(path: Path) -> State | None:
    """The disk as XenServer's tools open it, to whom a whole primary footer is all."""
    raw = bytearray(path.read_bytes())
    if raw[-512:-504] != b"conectix":
        return None
    raw[:512] = raw[-512:]
    copy = path.with_name("copy")
    copy.write_bytes(raw)
    return state(copy)


def verify(path: Path, journal: Path, old: State, new: State, chance: random.Random) -> State:
    """What a cut left is a whole disk, or the old one after an undo, even one cut itself."""
    try:
        found = state(path)
    except vhd.Poisoned:
        assert believing_the_primary(path) in (None, old, new)
        with taping(path, journal) as tape:
            vhd.revert_journal(path, journal)
        for at in (chance.randint(0, len(tape)), len(tape)):
            tape.cut(at, chance)
            vhd.revert_journal(path, journal)
            found = state(path)
            assert found == old
    else:
        vhd.revert_journal(path, journal)
        assert state(path) == found
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(0, b"!" * 512)
    assert content(path, 512) == b"!" * 512
    return found


LIMITED = """
import resource, sys
from srs import vhd
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for size in vhd.MAX_SIZE, 2 << 20:
    vhd.resize(sys.argv[1], size, journal=sys.argv[1] + ".journal")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)
"""


def test_memory_for_the_largest_tables(grown: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(grown)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) * 1024 < 64 * MIB
    assert vhd.query(grown).size == 2 * MIB
