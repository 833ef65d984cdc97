"""Reading and writing a virtual disk: who supplies a sector, and where writes end up."""

import errno
import os
from pathlib import Path

import pytest

from srs import vhd
from srs.vhd import bitmap

MIB = 1 << 20


def fill(path: Path, *writes: tuple[int, bytes]) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        for offset, data in writes:
            disk.write(offset, data)


def content(path: Path, offset: int, length: int) -> bytes:
    with vhd.open_chain(path) as disk:
        return disk.read(offset, length)


def test_fresh_disk_reads_zeros(tmp_path: Path) -> None:
    vhd.create(tmp_path / "a.vhd", 6 * MIB)
    with vhd.open_chain(tmp_path / "a.vhd") as disk:
        assert disk.size == 6 * MIB
        assert disk.read(0, disk.size) == bytes(disk.size)


def test_topmost_disk_supplies_the_sector(tmp_path: Path) -> None:
    base, middle, leaf = (tmp_path / f"{name}.vhd" for name in ("base", "middle", "leaf"))
    vhd.create(base, 4 * MIB)
    fill(base, (0, b"b" * 4096))
    vhd.snapshot(middle, base)
    fill(middle, (512, b"m" * 1024))
    vhd.snapshot(leaf, middle)
    fill(leaf, (1024, b"l" * 512), (3 * MIB, b"L" * 512))
    expected = b"b" * 512 + b"m" * 512 + b"l" * 512 + b"b" * (4096 - 1536) + bytes(512)
    assert content(leaf, 0, 4096 + 512) == expected
    assert content(leaf, 3 * MIB - 512, 1536) == bytes(512) + b"L" * 512 + bytes(512)
    assert content(base, 0, 4096) == b"b" * 4096
    with vhd.open_chain(leaf) as disk:
        assert disk.paths == [str(leaf), str(middle), str(base)]
        assert disk.depth == 3


@pytest.mark.parametrize("gap", [1, 40, 100])
def test_interleaved_sectors(tmp_path: Path, gap: int) -> None:
    """Runs of one sector, near and far from each other, taken in turn from two disks."""
    base, leaf = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, 4 * MIB)
    model = bytearray(os.urandom(4 * MIB))
    fill(base, (0, bytes(model)))
    vhd.snapshot(leaf, base)
    with vhd.open_chain(leaf, writable=True) as disk:
        for at in range(0, 4 * MIB, (1 + gap) * 512):
            model[at : at + 512] = data = os.urandom(512)
            disk.write(at, data)
        assert disk.read(0, 4 * MIB) == model
    assert content(leaf, 512, 3 * MIB) == model[512 : 512 + 3 * MIB]


def test_own_writes_are_seen_before_the_flush(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 4 * MIB)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(1 * MIB, b"1" * (2 * MIB))
        disk.write(2 * MIB, b"2" * 512)
        assert disk.read(2 * MIB - 512, 1536) == b"1" * 512 + b"2" * 512 + b"1" * 512
        disk.flush()
        assert disk.read(2 * MIB - 512, 1536) == b"1" * 512 + b"2" * 512 + b"1" * 512
        assert content(path, 2 * MIB, 512) == b"2" * 512


def test_another_process_sees_what_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 4 * MIB)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(0, b"1" * 512)
        assert content(path, 0, 512) == bytes(512)
        disk.flush()
        assert content(path, 0, 512) == b"1" * 512


@pytest.mark.parametrize(
    ("offset", "length"), [(1, 1), (510, 4), (0, 513), (100, 5000), (700, 324)]
)
def test_requests_need_no_alignment(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    model = bytearray(b"o" * 8192)
    fill(path, (0, bytes(model)))
    model[offset : offset + length] = b"n" * length
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(offset, b"n" * length)
        assert disk.read(0, 8192) == model
        assert disk.read(offset, length) == b"n" * length
        model[offset : offset + length] = bytes(length)
        disk.zero(offset, length)
        assert disk.read(0, 8192) == model


def test_empty_requests_do_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    before = path.read_bytes()
    with vhd.open_chain(path, writable=True) as disk:
        for offset in (0, 100, 2 * MIB):
            assert disk.read(offset, 0) == b""
            disk.write(offset, b"")
            disk.zero(offset, 0)
    assert path.read_bytes() == before


def test_sectors_past_the_end_of_an_ancestor_are_zero(tmp_path: Path) -> None:
    """Even where a disk further down was longer: the shorter one in between hides it."""
    long, short, leaf = (tmp_path / f"{name}.vhd" for name in ("long", "short", "leaf"))
    vhd.create(long, 6 * MIB)
    fill(long, (0, b"x" * (6 * MIB)))
    vhd.create(tmp_path / "other.vhd", 2 * MIB)
    vhd.snapshot(short, tmp_path / "other.vhd")
    vhd.snapshot(leaf, short, max_size=8 * MIB, link_empty=True)
    vhd.resize(leaf, 8 * MIB)
    vhd.set_parent(short, long)
    assert content(leaf, 0, 8 * MIB) == b"x" * (2 * MIB) + bytes(6 * MIB)


def test_raw_parent(tmp_path: Path) -> None:
    raw, leaf = tmp_path / "base.raw", tmp_path / "leaf.vhd"
    raw.write_bytes(b"r" * (3 * MIB) + b"tail")
    vhd.snapshot(leaf, raw, raw_parent=True, max_size=8 * MIB)
    info = vhd.query(leaf, depth=True)
    assert (info.size, info.parent, info.depth) == (3 * MIB, str(raw), 2)
    fill(leaf, (MIB, b"l" * 512))
    vhd.resize(leaf, 6 * MIB)
    expected = b"r" * MIB + b"l" * 512 + b"r" * (2 * MIB - 512) + bytes(3 * MIB)
    assert content(leaf, 0, 6 * MIB) == expected
    assert raw.read_bytes() == b"r" * (3 * MIB) + b"tail"


def test_raw_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(5 * MIB))
    with vhd.open_raw(path, writable=True) as disk:
        assert disk.size == 5 * MIB
        disk.write(2 * MIB - 100, b"x" * 200)
        disk.zero(2 * MIB, 50)
        disk.flush()
        assert disk.read(2 * MIB - 101, 202) == b"\0" + b"x" * 100 + bytes(50) + b"x" * 50 + b"\0"
    assert path.stat().st_size == 5 * MIB


def test_fixed_disk(tmp_path: Path) -> None:
    """Data, then a footer of type 2; also as the root of a chain."""
    path, leaf = tmp_path / "fixed.vhd", tmp_path / "leaf.vhd"
    vhd.create(path, 4 * MIB)
    footer = bytearray(path.read_bytes()[-512:])
    footer[16:24], footer[60:64] = b"\xff" * 8, b"\0\0\0\2"
    footer[64:68] = bytes(4)
    footer[64:68] = (~sum(footer) & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(bytes(4 * MIB) + footer)
    fill(path, (4 * MIB - 512, b"f" * 512))
    assert path.read_bytes()[-512:] == footer
    vhd.snapshot(leaf, path)
    fill(leaf, (0, b"l" * 512))
    assert content(leaf, 0, 512) + content(leaf, 4 * MIB - 512, 512) == b"l" * 512 + b"f" * 512
    vhd.set_hidden(path, True)
    info = vhd.query(path, allocated=True)
    assert (info.disk_type, info.hidden, info.max_size, info.allocated) == (vhd.FIXED, 1, 0, None)


def test_zero_allocates_nothing_where_nothing_is(tmp_path: Path) -> None:
    base, leaf = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, 8 * MIB)
    fill(base, (2 * MIB + 512, b"x" * 1024))
    vhd.snapshot(leaf, base)
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.zero(0, 8 * MIB)
    assert vhd.query(leaf, allocated=True).allocated == 1
    assert content(leaf, 0, 8 * MIB) == bytes(8 * MIB)
    assert content(base, 2 * MIB, 2048) == bytes(512) + b"x" * 1024 + bytes(512)


@pytest.mark.parametrize(
    ("offset", "length"), [(2 * MIB, 1), (2 * MIB - 1, 2), (-1, 1), (0, 3 * MIB)]
)
def test_outside_the_disk(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    before = path.read_bytes()
    with vhd.open_chain(path, writable=True) as disk:
        for request in (
            lambda: disk.read(offset, length),
            lambda: disk.write(offset, bytes(length)),
            lambda: disk.zero(offset, length),
        ):
            with pytest.raises(vhd.OutOfRange) as caught:
                request()
            assert (caught.value.offset, caught.value.size) == (offset, 2 * MIB)
            assert caught.value.errno == errno.ERANGE
    assert path.read_bytes() == before


def test_reader_refuses_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    for opener in (vhd.open_chain, vhd.open_raw):
        with opener(path) as disk:
            with pytest.raises(vhd.ReadOnly):
                disk.write(0, b"x")
            with pytest.raises(vhd.ReadOnly):
                disk.zero(0, 512)
            disk.flush()


def test_closing_without_a_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 4 * MIB)
    fill(path, (0, b"x" * 2 * MIB))
    before = path.read_bytes()
    vhd.open_chain(path, writable=True).close()
    assert path.read_bytes() == before


def test_lost_primary_footer_comes_back(tmp_path: Path) -> None:
    """A process that died between an append and the flush leaves data at the file's end."""
    path = tmp_path / "a.vhd"
    vhd.create(path, 4 * MIB)
    fill(path, (0, b"x" * 512))
    sound = path.read_bytes()
    path.write_bytes(sound[:-512] + os.urandom(100_000))
    assert content(path, 0, 512) == b"x" * 512
    vhd.open_chain(path, writable=True).close()
    assert path.read_bytes() == sound


def test_forged_footer_in_guest_data_is_not_believed(tmp_path: Path) -> None:
    """The last sector of a file that lost its footer is the guest's, who may write a footer."""
    path, other = tmp_path / "a.vhd", tmp_path / "other.vhd"
    vhd.create(path, 4 * MIB)
    vhd.create(other, 64 * MIB)
    fill(path, (2 * MIB - 512, other.read_bytes()[-512:]))
    sound = path.read_bytes()
    path.write_bytes(sound[:-512])
    assert vhd.query(path).size == 4 * MIB
    vhd.open_chain(path, writable=True).close()
    assert path.read_bytes() == sound


def test_footer_of_511_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 4 * MIB)
    raw = path.read_bytes()
    path.write_bytes(bytes(512) + raw[512:-1])
    assert vhd.query(path).size == 4 * MIB
    vhd.set_hidden(path, True)
    assert len(path.read_bytes()) == len(raw)
    assert path.read_bytes()[:512] == path.read_bytes()[-512:]


def test_torn_batmap_is_ignored_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 20 * MIB)
    fill(path, (0, b"x" * 2 * MIB))
    sound = path.read_bytes()
    torn = bytearray(sound)
    torn[2560] |= 0x40
    path.write_bytes(torn)
    assert content(path, 2 * MIB - 512, 1024) == b"x" * 512 + bytes(512)
    fill(path, (2 * MIB, b"y" * 2 * MIB))
    assert path.read_bytes()[2560:2562] == b"\x40\0"
    assert content(path, 0, 4 * MIB) == b"x" * (2 * MIB) + b"y" * (2 * MIB)


def test_batmap_bit_of_a_missing_block_does_not_fill_it(tmp_path: Path) -> None:
    """Such a map is wrong, but valid; a block written later must not show stale sectors."""
    base, path = tmp_path / "base.vhd", tmp_path / "a.vhd"
    vhd.create(base, 20 * MIB)
    fill(base, (0, b"b" * 4096))
    vhd.snapshot(path, base)
    raw = bytearray(path.read_bytes())
    raw[2560] = 0x80
    raw[2048 + 24 : 2048 + 28] = (~0x80 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(raw)
    fill(path, (0, b"n" * 512))
    assert content(path, 0, 1024) == b"n" * 512 + b"b" * 512


def test_runs_of_bits() -> None:
    bits = bitmap.span(0, 1) | bitmap.span(5, 9) | bitmap.span(4095, 4096)
    assert list(bitmap.runs(bits)) == [(0, 1), (5, 9), (4095, 4096)]
    assert list(bitmap.runs(bitmap.FULL)) == [(0, 4096)]
    assert list(bitmap.runs(0)) == []
    assert bitmap.to_bytes(bitmap.span(0, 1)) == b"\x80" + bytes(511)
    assert bitmap.from_bytes(bytes(511) + b"\x01") == bitmap.span(4095, 4096)


def test_blocks_of_a_request() -> None:
    assert list(bitmap.by_block(2 * MIB - 1024, 2 * MIB + 1536)) == [
        (0, 4094, 4096),
        (1, 0, 4096),
        (2, 0, 1),
    ]
