"""Damaged, foreign and impossible disks: a named error with its fields, and nothing changed."""

import errno
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scenarios.fuzz.judge import bounded_memory
from srs import vhd
from srs.vhd.reset import drop_data

MIB = 1 << 20
UUID_AT, HEADER = 68, 512


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A differencing disk of 4 MiB with one block, on top of a parent with data."""
    vhd.create(tmp_path / "parent.vhd", 4 * MIB)
    with vhd.open_chain(tmp_path / "parent.vhd", writable=True) as chain:
        chain.write(0, b"p" * 4096)
    path = tmp_path / "leaf.vhd"
    vhd.snapshot(path, tmp_path / "parent.vhd")
    with vhd.open_chain(path, writable=True) as chain:
        chain.write(0, b"l" * 512)
    return path


def seal(raw: bytearray, start: int, length: int, at: int) -> None:
    """Recompute the checksum of a structure."""
    raw[start + at : start + at + 4] = bytes(4)
    total = ~sum(raw[start : start + length]) & 0xFFFFFFFF
    raw[start + at : start + at + 4] = total.to_bytes(4, "big")


def edit(path: Path, change: Callable[[bytearray], None]) -> bytes:
    raw = bytearray(path.read_bytes())
    change(raw)
    path.write_bytes(raw)
    return bytes(raw)


def both_footers(offset: int, value: bytes, *, sealed: bool = True) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        for start in (0, len(raw) - 512):
            raw[start + offset : start + offset + len(value)] = value
            if sealed:
                seal(raw, start, 512, 64)

    return change


def header(offset: int, value: bytes, *, sealed: bool = True) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        raw[HEADER + offset : HEADER + offset + len(value)] = value
        if sealed:
            seal(raw, HEADER, 1024, 36)

    return change


DAMAGES = [
    (both_footers(0, b"notavhd!"), vhd.BadFooter, "no cookie"),
    (both_footers(64, b"\0\0\0\1", sealed=False), vhd.BadFooter, "wrong checksum"),
    (both_footers(12, b"\0\2\0\0"), vhd.BadFooter, "version 0x20000"),
    (both_footers(60, b"\0\0\0\7"), vhd.BadFooter, "disk type 7"),
    (both_footers(48, struct.pack(">Q", 4 * MIB + 1)), vhd.BadFooter, "whole number of sectors"),
    (both_footers(0, b"v_poison"), vhd.Poisoned, "resize"),
    (both_footers(32, b"\0\0\0\1"), vhd.BadHeader, "too old"),
    (both_footers(48, struct.pack(">Q", 40 * MIB)), vhd.BadHeader, "2 table slots for 20 blocks"),
    (header(0, b"no"), vhd.BadHeader, "no cookie"),
    (header(36, b"\0\0\0\1", sealed=False), vhd.BadHeader, "wrong checksum"),
    (header(24, b"\0\2\0\0"), vhd.BadHeader, "version 0x20000"),
    (header(8, bytes(8)), vhd.BadHeader, "data offset 0x0"),
    (header(32, struct.pack(">I", 512 << 10)), vhd.BadHeader, "blocks of 524288 bytes"),
    (header(16, struct.pack(">Q", 1537)), vhd.BadHeader, "block table at byte 1537"),
    (header(28, struct.pack(">I", (1 << 22) + 1)), vhd.BadHeader, "no disk has that many"),
    (header(576, b"Xxxx"), vhd.BadHeader, "unknown platform b'Xxxx'"),
    (header(16, struct.pack(">Q", 1 << 40)), vhd.Truncated, str((1 << 40) + 512)),
]


@pytest.mark.parametrize(("change", "error", "text"), DAMAGES)
def test_damaged(
    disk: Path, change: Callable[[bytearray], None], error: type[vhd.VHDError], text: str
) -> None:
    raw = edit(disk, change)
    for use in (
        lambda: vhd.open_chain(disk),
        lambda: vhd.open_chain(disk, writable=True),
        lambda: vhd.query(disk),
        lambda: vhd.resize(disk, 4 * MIB),
        lambda: vhd.set_parent(disk, disk.with_name("parent.vhd")),
        lambda: vhd.snapshot(disk.with_name("new.vhd"), disk),
    ):
        with pytest.raises(error) as caught:
            use()
        assert caught.value.path == str(disk)
        assert text in str(caught.value)
    assert disk.read_bytes() == raw
    assert not disk.with_name("new.vhd").exists()


@pytest.mark.parametrize("length", [0, 1, 511, 512, 1535])
def test_too_short_for_anything(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.vhd"
    path.write_bytes(bytes(length))
    with pytest.raises(vhd.BadFooter):
        vhd.open_chain(path)


@pytest.mark.parametrize("length", [1000, 1536, 1600])
def test_truncated_inside_the_metadata(disk: Path, length: int) -> None:
    disk.write_bytes(disk.read_bytes()[:length])
    with pytest.raises(vhd.InvalidImage if length < 1536 else vhd.Truncated):
        vhd.open_chain(disk)


def test_truncated_inside_a_block(disk: Path) -> None:
    disk.write_bytes(disk.read_bytes()[:8192])
    with vhd.open_chain(disk) as chain:
        with pytest.raises(vhd.Truncated) as caught:
            chain.read(0, 512)
        assert caught.value.end == 8192 + 512
        assert caught.value.errno == errno.EIO
        assert chain.read(512, 512) == b"p" * 512


def test_table_that_leads_into_the_metadata(disk: Path) -> None:
    def change(raw: bytearray) -> None:
        raw[1540:1544] = struct.pack(">I", 2)

    raw = edit(disk, change)
    with vhd.open_chain(disk, writable=True) as chain:
        with pytest.raises(vhd.BadBlock) as caught:
            chain.write(2 * MIB, bytes(512))
        assert (caught.value.block, caught.value.sector) == (1, 2)
    assert disk.read_bytes() == raw


def test_table_that_leads_out_of_the_file(disk: Path) -> None:
    """A write that followed it would make the file as long as it says."""

    def change(raw: bytearray) -> None:
        raw[1540:1544] = struct.pack(">I", 0xF0000007)

    raw = edit(disk, change)
    with vhd.open_chain(disk, writable=True) as chain:
        for offset in (2 * MIB, 2 * MIB + 512):
            with pytest.raises(vhd.BadBlock, match="past the end of the file") as caught:
                chain.write(offset, bytes(512))
            assert (caught.value.block, caught.value.sector) == (1, 0xF0000007)
        with pytest.raises(vhd.BadBlock):
            chain.read(2 * MIB, 512)
    with pytest.raises(vhd.BadBlock):
        vhd.set_physical_size(disk, 8 * MIB)
    with pytest.raises(vhd.BadBlock):
        vhd.resize(disk, 300 * MIB, journal=disk.with_name("journal"))
    assert not disk.with_name("journal").exists()
    assert disk.read_bytes() == raw


def test_blocks_that_a_crash_cut_off(disk: Path) -> None:
    """The table was durable, the length of the file was not: the disk can be written again."""
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(2 * MIB, b"n" * 512)
    block = struct.unpack_from(">I", disk.read_bytes(), 1540)[0] * 512
    os.truncate(disk, block)
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(0, b"m" * 512)
        with pytest.raises(vhd.Truncated):
            chain.write(2 * MIB, b"m" * 512)
    with vhd.open_chain(disk) as chain:
        assert chain.read(0, 512) == b"m" * 512
        assert chain.read(2 * MIB, 512) == bytes(512)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_disk_is_not_opened(disk: Path, kind: str) -> None:
    """Reading from a pipe would wait for a writer, from some devices it does things."""
    parent = disk.with_name("parent.vhd")
    parent.unlink()
    if kind == "pipe":
        os.mkfifo(parent)
    elif kind == "directory":
        parent.mkdir()
    else:
        parent.symlink_to("/dev/zero")
    with pytest.raises(vhd.StorageFailed, match="neither a regular file") as caught:
        vhd.open_chain(disk)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("offset", [(1 << 64) - 1024, 1 << 63])
def test_places_that_no_system_call_knows(disk: Path, offset: int) -> None:
    edit(disk, both_footers(16, struct.pack(">Q", offset)))
    with pytest.raises(vhd.StorageFailed) as caught:
        vhd.open_chain(disk)
    assert caught.value.errno == errno.EFBIG


def test_locator_with_a_nul_spells_no_path(disk: Path) -> None:
    """The operating system cannot be asked for such a file; the next locator is."""

    def change(raw: bytearray) -> None:
        length, at = struct.unpack_from(">I4xQ", raw, HEADER + 584)
        assert raw[at : at + length] == b"file://./parent.vhd"
        raw[at + 12] = 0

    edit(disk, change)
    with vhd.open_chain(disk) as chain:
        assert chain.paths[1] == str(disk.with_name("parent.vhd"))


@pytest.mark.parametrize(
    ("space", "offset"),
    [
        (512, 0),
        (512, 1024),
        (512, 1536),
        (512, 2048),
        (512, 2560),
        (512, 8192 - 512),
        (512, 1 << 40),
        (512, (1 << 64) - 512),
        (0xFFFFFE00, 4096),
    ],
)
def test_locator_over_something_else_is_not_written(disk: Path, space: int, offset: int) -> None:
    raw = edit(disk, header(580, struct.pack(">I4xI", space, 0) + struct.pack(">Q", offset)))
    with pytest.raises(vhd.BadHeader, match=f"a locator at byte {offset}, over something else"):
        vhd.set_parent(disk, disk.with_name("parent.vhd"))
    assert disk.read_bytes() == raw


def test_locator_of_gigabytes_is_not_read(disk: Path) -> None:
    """It lies in a file with a hole, and claims more text than memory may hold."""
    edit(disk, header(580, struct.pack(">II", 1 << 31, 1 << 31)))
    footer = disk.read_bytes()[-512:]
    with disk.open("r+b") as file:
        file.seek(5 << 30)
        file.write(footer)
    with bounded_memory():
        report = vhd.check(disk)
        assert vhd.query(disk).stored_parent == "./parent.vhd"
    assert f"error reading parent locator 0: {-errno.EINVAL}" in map(str, report.findings)


def test_locator_past_the_end_of_the_file(disk: Path) -> None:
    """New blocks go behind all metadata, and this one would put them a terabyte away."""
    raw = edit(disk, header(592, struct.pack(">Q", 1 << 40)))
    with vhd.open_chain(disk, writable=True) as chain, pytest.raises(vhd.Truncated):
        chain.write(2 * MIB, b"n" * 512)
    with pytest.raises(vhd.Truncated):
        drop_data(disk)
    assert disk.read_bytes() == raw


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(vhd.StorageFailed) as caught:
        vhd.open_chain(tmp_path / "gone.vhd")
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value) == f"{tmp_path}/gone.vhd: open failed: No such file or directory"
    for use in (
        lambda: vhd.query(tmp_path / "gone.vhd"),
        lambda: vhd.create(tmp_path / "no/dir.vhd", 1),
        lambda: vhd.snapshot(tmp_path / "new.vhd", tmp_path / "gone.vhd"),
        lambda: vhd.snapshot(tmp_path / "new.vhd", tmp_path / "gone.raw", raw_parent=True),
    ):
        with pytest.raises(vhd.StorageFailed):
            use()
    assert list(tmp_path.iterdir()) == []


def test_missing_parent(disk: Path) -> None:
    disk.with_name("parent.vhd").unlink()
    for use in (lambda: vhd.open_chain(disk), lambda: vhd.query(disk)):
        with pytest.raises(vhd.ParentMissing) as caught:
            use()
        assert caught.value.parent == "./parent.vhd"
        assert caught.value.errno == errno.ENOENT
        assert caught.value.hint
    info = vhd.query(disk, resolve_parent=False)
    assert (info.parent, info.stored_parent) == (None, "./parent.vhd")


def test_parent_with_another_identity(disk: Path) -> None:
    """Read-only it opens, as the field's readers do; a writer would write nonsense."""
    parent = disk.with_name("parent.vhd")
    expected = vhd.query(parent).unique_id
    vhd.create(parent, 4 * MIB)
    with vhd.open_chain(disk) as chain:
        assert chain.read(0, 1024) == b"l" * 512 + bytes(512)
    with pytest.raises(vhd.ParentMismatch) as caught:
        vhd.open_chain(disk, writable=True)
    assert caught.value.expected == str(expected)
    assert caught.value.found == str(vhd.query(parent).unique_id)


def test_loop(tmp_path: Path) -> None:
    """Two disks that name each other: made by exchanging the files of a chain."""
    a, b, c = (tmp_path / f"{name}.vhd" for name in "abc")
    vhd.create(a, 2 * MIB)
    vhd.snapshot(b, a)
    vhd.snapshot(c, b, link_empty=True)
    a.unlink()
    os.link(c, a)
    with pytest.raises(vhd.ChainLoop) as caught:
        vhd.open_chain(c)
    assert caught.value.errno == errno.ELOOP


def test_snapshot_of_a_disk_whose_ancestor_is_missing(disk: Path) -> None:
    """Nothing of the ancestor is needed, as on a volume group where it is not active."""
    child = disk.with_name("child.vhd")
    child.touch()
    disk.with_name("parent.vhd").unlink()
    vhd.snapshot(child, disk)
    assert vhd.query(child).parent == str(disk)


@pytest.mark.parametrize("change", [vhd.resize, vhd.set_physical_size])
def test_fixed_disk_has_no_table(tmp_path: Path, change: Callable[[Path, int], None]) -> None:
    path = tmp_path / "fixed.vhd"
    vhd.create(path, 2 * MIB)
    edit(path, both_footers(60, b"\0\0\0\2"))
    with pytest.raises(vhd.NotSparse):
        change(path, 4 * MIB)


def test_self_snapshot(disk: Path) -> None:
    parent = disk.with_name("parent.vhd")
    link = disk.with_name("link.vhd")
    link.symlink_to(disk)
    before = disk.read_bytes(), parent.read_bytes()
    for child, base in ((disk, disk), (link, disk), (parent, disk), (parent, parent)):
        with pytest.raises(vhd.ChainLoop):
            vhd.snapshot(child, base)
    with pytest.raises(vhd.ChainLoop):
        vhd.snapshot(disk, disk, raw_parent=True)
    assert (disk.read_bytes(), parent.read_bytes()) == before


@pytest.mark.parametrize("size", [-1, 0, (2040 << 30) + 1])
def test_size_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(vhd.SizeRefused) as caught:
        vhd.create(tmp_path / "a.vhd", size)
    assert (caught.value.size, caught.value.maximum) == (caught.value.size, 2040 << 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [-1, 2 * MIB, (2 << 40) + 1])
def test_max_size_refused(disk: Path, limit: int) -> None:
    new = disk.with_name("new.vhd")
    with pytest.raises(vhd.SizeRefused):
        vhd.create(new, 4 * MIB, max_size=limit)
    with pytest.raises(vhd.SizeRefused):
        vhd.snapshot(new, disk, max_size=limit)
    assert not new.exists()


@contextmanager
def file_limit(length: int) -> Iterator[None]:
    """Let this process write no file beyond a length: a full file system without one.

    Only inside a test, never around it: pytest writes its progress, and that may be a file.
    """
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_disk_that_cannot_be_finished_leaves_no_file(disk: Path) -> None:
    new = disk.with_name("new.vhd")
    makers: list[Callable[[], None]] = [
        lambda: vhd.create(new, 4 * MIB),
        lambda: vhd.snapshot(new, disk),
    ]
    for make in makers:
        with file_limit(3000), pytest.raises(vhd.StorageFailed) as caught:
            make()
        assert caught.value.errno == errno.EFBIG
        assert not new.exists()


def test_block_that_cannot_be_written_stays_unallocated(disk: Path) -> None:
    with vhd.open_chain(disk, writable=True) as chain, file_limit(disk.stat().st_size):
        with pytest.raises(vhd.StorageFailed):
            chain.write(2 * MIB, b"n" * (2 * MIB))
        assert chain.read(2 * MIB, 512) == bytes(512)
        chain.write(512, b"m" * 512)
    with vhd.open_chain(disk) as chain:
        assert chain.read(0, 1536) == b"l" * 512 + b"m" * 512 + b"p" * 512
        assert chain.read(2 * MIB, 2 * MIB) == bytes(2 * MIB)


def test_flush_can_be_tried_again(disk: Path) -> None:
    """The bitmap of the new block did not fit any more; after making room it does."""
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(2 * MIB, b"n" * 512)
        bitmap_at = disk.stat().st_size - 512 - 2 * MIB - 512
        with file_limit(bitmap_at), pytest.raises(vhd.StorageFailed):
            chain.flush()
        chain.flush()
        with vhd.open_chain(disk) as reader:
            assert reader.read(2 * MIB, 1024) == b"n" * 512 + bytes(512)


@pytest.mark.parametrize("good", [0, 1])
def test_nothing_is_written_after_a_failed_sync(
    disk: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """A kernel reports a lost write once. Asking again would be told that all is well."""
    syncs: list[int] = []

    def fail(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) > good:
            raise OSError(errno.EIO, "medium error")

    chain = vhd.open_chain(disk, writable=True)
    chain.write(512, b"m" * 512)
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", fail)
        with pytest.raises(vhd.StorageFailed):
            chain.flush()
    for again in (chain.flush, lambda: chain.write(0, bytes(512))):
        with pytest.raises(vhd.StorageFailed) as caught:
            again()
        assert caught.value.operation == "sync"
    chain.close()
    assert len(syncs) == good + 1
    with vhd.open_chain(disk) as reader:
        expected = b"m" if good else b"p"  # Behind the first sync the bitmap was written.
        assert reader.read(0, 1024) == b"l" * 512 + expected * 512


def test_errors_derive_their_text_and_errno() -> None:
    error = vhd.ParentMismatch("c", "p", "1", "2")
    assert str(error) == "c: the parent p is 2, not 1"
    assert isinstance(error, vhd.ParentError)
    assert isinstance(error, vhd.VHDError)
    assert error.errno == errno.EINVAL
    assert vhd.NoSpace("x", 2, 1).errno == errno.ENOSPC
