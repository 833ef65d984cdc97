"""check finds every damage done on purpose, in the field's words, and nothing in sound disks."""

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srs import vhd
from srs.vhd.tablecheck import full_but_absent, overlapping

MIB = 1 << 20
BAT, MAP = 1536, 2560
LATE = struct.pack(">I", int(time.time()) - 946684800 + 7200)

Change = Callable[[bytearray], None]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A differencing disk of 8 MiB: block 0 full, block 1 with one sector, 2 and 3 absent."""
    vhd.create(tmp_path / "parent.vhd", 8 * MIB)
    with vhd.open_chain(tmp_path / "parent.vhd", writable=True) as chain:
        chain.write(0, b"p" * (3 * MIB))
    path = tmp_path / "leaf.vhd"
    vhd.snapshot(path, tmp_path / "parent.vhd")
    with vhd.open_chain(path, writable=True) as chain:
        chain.write(0, b"l" * (2 * MIB))
        chain.write(2 * MIB, b"l" * 512)
    assert vhd.check(path, parents=True, blocks=True).valid
    return path


def put(offset: int, value: bytes) -> Change:
    """Overwrite bytes; a negative offset counts from the end."""

    def change(raw: bytearray) -> None:
        start = offset % len(raw)
        raw[start : start + len(value)] = value

    return change


def sealed(start: int, length: int, field: int, *changes: tuple[int, bytes]) -> Change:
    """Change a structure at ``start`` and make its checksum right again."""

    def change(raw: bytearray) -> None:
        at = start % len(raw)
        for offset, value in changes:
            raw[at + offset : at + offset + len(value)] = value
        raw[at + field : at + field + 4] = bytes(4)
        total = ~sum(raw[at : at + length]) & 0xFFFFFFFF
        raw[at + field : at + field + 4] = total.to_bytes(4, "big")

    return change


def footer(*changes: tuple[int, bytes]) -> Change:
    return sealed(-512, 512, 64, *changes)


def backup(*changes: tuple[int, bytes]) -> Change:
    return sealed(0, 512, 64, *changes)


def header(*changes: tuple[int, bytes]) -> Change:
    return sealed(512, 1024, 36, *changes)


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


FOOTER_RULES = [
    ("invalid cookie", (0, b"connectx")),
    ("invalid cookie", (0, b"v_poison")),
    ("invalid 'reserved' feature", (8, word(0))),
    ("invalid extra features", (8, word(6))),
    ("invalid file format version", (12, word(0x20000))),
    ("creation time in future", (24, LATE)),
    ("unsupported tap creator version", (32, word(0x10004))),
    ("geometry too large", (56, b"\xff\xff\xff\xff")),
    ("invalid type", (60, word(7))),
    ("invalid size", (48, (8 * MIB + 1).to_bytes(8, "big"))),
    ("invalid 'saved' state", (84, b"\1")),
    ("invalid 'hidden' state", (85, b"\2")),
    ("invalid 'reserved' bits", (86, b"\1")),
    ("invalid 'reserved' bits", (511, b"\1")),
    ("invalid (NULL) uuid", (68, bytes(16))),
]

HEADER_RULES = [
    ("header is invalid: invalid cookie", (0, b"cxsparsf")),
    ("header is invalid: invalid header version", (24, word(0x20000))),
    ("header is invalid: invalid data offset", (8, bytes(8))),
    ("header is invalid: invalid table offset", (16, bytes(8))),
    ("header is invalid: invalid table offset", (16, (1537).to_bytes(8, "big"))),
    ("header is invalid: invalid table offset", (16, (1 << 40).to_bytes(8, "big"))),
    ("header is invalid: invalid block size", (32, word(1 << 20))),
    ("header is invalid: invalid 'reserved' bits", (60, word(1))),
    ("header is invalid: invalid 'reserved' bits", (1023, b"\1")),
    ("header is invalid: 2 table slots for 4 blocks", (28, word(2))),
    ("header is invalid: locator for unknown platform b'Xxxx'", (576, b"Xxxx")),
    ("differencing header is invalid: parent creation time in future", (56, LATE)),
    ("differencing header is invalid: invalid parent name", (64, bytes(512))),
    ("block table clobbers header", (16, (1024).to_bytes(8, "big"))),
    ("parent locator 0 clobbers batmap", (592, MAP.to_bytes(8, "big"))),
    ("invalid parent locator 0: invalid platform code", (576, b"Wi2k")),
    ("invalid parent locator 0: invalid platform code", (576, word(0))),
    ("invalid parent locator 0: invalid data space", (580, word(513))),
    ("invalid parent locator 1: invalid data length", (608, word(0))),
    ("invalid parent locator 1: invalid data length", (608, word(513))),
    ("invalid parent locator 0: invalid 'reserved' bits", (588, word(1))),
    ("invalid parent locator 0: invalid data offset", (592, (1 << 40).to_bytes(8, "big"))),
    ("invalid parent locator 0: invalid data offset", (592, (3073).to_bytes(8, "big"))),
    ("duplicate platform code in locator 2: 0x57326b75", (624, b"W2ku")),
    ("invalid parent", (40, b"another identity")),
]

BODY_RULES = [
    ("header is invalid: invalid checksum", [put(512 + 36, bytes(4))]),
    ("primary footer invalid: invalid checksum", [put(-448, bytes(4))]),
    ("backup footer invalid: invalid checksum", [put(64, bytes(4))]),
    ("primary and backup footers do not match", [footer((85, b"\1"))]),
    ("primary and backup footers do not match", [backup((8, word(3)))]),
    ("batmap is invalid: invalid cookie", [put(MAP - 512, b"tdbatmaq")]),
    ("batmap is invalid: invalid version", [put(MAP - 512 + 20, word(0x10003))]),
    ("batmap is invalid: batmap size zero", [put(MAP - 512 + 16, word(0))]),
    ("batmap is invalid: invalid batmap size", [put(MAP - 512 + 16, word(1 << 20))]),
    ("batmap is invalid: invalid batmap offset", [put(MAP - 512 + 8, bytes(8))]),
    ("batmap is invalid: invalid checksum", [put(MAP, b"\1")]),
    (
        "batmap shows unallocated block 2 full",
        [put(MAP, b"\xa0"), put(MAP - 512 + 24, word(~0xA0 & 0xFFFFFFFF))],
    ),
    ("block 2 (offset 0x8) clobbers headers", [put(BAT + 8, word(8))]),
    ("block 2 (offset 0x200f) clobbers footer", [put(BAT + 8, word(0x200F))]),
    ("block 0 (offset 0x17) clobbers block 1 (offset 0x1017)", [put(BAT, word(0x17))]),
    ("block 1 (offset 0x1017) clobbers block 3 (offset 0x1017)", [put(BAT + 12, word(0x1017))]),
    ("error reading parent locator 0: -22", [put(3072, b"http")]),
    (
        "parent locator 0 name (q.vhd) does not match header name (parent.vhd)",
        [put(3072, b"file://./q.vhd".ljust(512, b"\0")), header((584, word(14)))],
    ),
    (
        "error resolving ../parent.vhd: -2",
        [put(3072, b"file://../parent.vhd"), header((584, word(20)))],
    ),
]


def damage(path: Path, *changes: Change) -> None:
    raw = bytearray(path.read_bytes())
    for change in changes:
        change(raw)
    path.write_bytes(raw)


def lines(report: vhd.Report) -> list[str]:
    return [str(finding) for finding in report.findings]


@pytest.mark.parametrize(("rule", "change"), FOOTER_RULES)
def test_footer(disk: Path, rule: str, change: tuple[int, bytes]) -> None:
    whole = disk.read_bytes()
    damage(disk, footer(change))
    assert lines(vhd.check(disk)) == [f"primary footer invalid: {rule}"]
    assert vhd.check(disk, ignore_footer=True).valid
    disk.write_bytes(whole)
    damage(disk, backup(change))
    assert lines(vhd.check(disk)) == [f"backup footer invalid: {rule}"]
    damage(disk, footer(change))
    assert lines(vhd.check(disk)) == [
        f"primary footer invalid: {rule}",
        f"backup footer invalid: {rule}",
    ]


@pytest.mark.parametrize(("rule", "change"), HEADER_RULES)
def test_header(disk: Path, rule: str, change: tuple[int, bytes]) -> None:
    before = disk.stat()
    damage(disk, header(change))
    raw = disk.read_bytes()
    found = lines(vhd.check(disk))
    assert any(line.startswith(rule) for line in found), found
    assert disk.read_bytes() == raw
    assert disk.stat().st_ino == before.st_ino


@pytest.mark.parametrize(("rule", "changes"), BODY_RULES)
def test_body(disk: Path, rule: str, changes: list[Change]) -> None:
    damage(disk, *changes)
    report = vhd.check(disk)
    assert rule in lines(report)
    assert not report.valid


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    report = vhd.check(tmp_path / "gone.vhd")
    assert lines(report) == [f"cannot stat {tmp_path}/gone.vhd: 2"]
    assert report.findings[0].errno == 2
    assert lines(vhd.check(tmp_path)) == [f"{tmp_path} is not a regular file or block device"]
    tiny = tmp_path / "tiny.vhd"
    tiny.write_bytes(b"conectix")
    assert lines(vhd.check(tiny)) == ["error calculating end of file: -22"]
    tiny.write_bytes(bytes(512))
    assert lines(vhd.check(tiny)) == [
        "primary footer invalid: invalid cookie",
        "backup footer invalid: invalid cookie",
    ]


@pytest.mark.parametrize("length", [511, 512, 1000, 1536, 2048, 3000, 4608, 100_000])
def test_truncated(disk: Path, length: int) -> None:
    """Cut anywhere, the disk is invalid, and no error escapes."""
    disk.write_bytes(disk.read_bytes()[:length])
    assert not vhd.check(disk).valid
    assert not vhd.check(disk, ignore_footer=True, blocks=True, usage=True, parents=True).valid


def test_ignored(disk: Path) -> None:
    damage(disk, header((40, b"another identity"), (56, LATE)))
    damage(disk, footer((24, LATE)), backup((24, LATE)))
    assert len(vhd.check(disk).findings) == 2
    assert len(vhd.check(disk, ignore_timestamps=True).findings) == 1
    assert vhd.check(disk, ignore_timestamps=True, ignore_parent_id=True).valid
    damage(disk, put(BAT + 12, word(0x1017)))
    assert vhd.check(disk, ignore_timestamps=True, ignore_parent_id=True, overlaps=False).valid


def test_dynamic_disk_with_traces_of_a_parent(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    whole = path.read_bytes()
    for what, offset in (("name", 64), ("locators", 604), ("uuid", 40), ("timestamp", 56)):
        path.write_bytes(whole)
        damage(path, header((offset, b"\1")))
        assert lines(vhd.check(path)) == [f"differencing header is invalid: non-null parent {what}"]


def test_parents(disk: Path) -> None:
    leaf, parent = disk.with_name("third.vhd"), str(disk.with_name("parent.vhd"))
    vhd.snapshot(leaf, disk)
    report = vhd.check(leaf, parents=True)
    assert [above.path for above in report.ancestors] == [str(disk), parent]
    damage(Path(parent), footer((85, b"\2")))
    report = vhd.check(leaf, parents=True)
    assert not report.findings
    assert not report.valid
    assert lines(report.ancestors[1]) == ["primary footer invalid: invalid 'hidden' state"]
    Path(parent).unlink()
    report = vhd.check(leaf, parents=True)
    assert "could not find parent ./parent.vhd" in lines(report.ancestors[0])
    assert len(report.ancestors) == 1


def test_loop(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.vhd" for name in "abc")
    vhd.create(a, 2 * MIB)
    vhd.snapshot(b, a)
    vhd.snapshot(c, b, link_empty=True)
    a.unlink()
    os.link(c, a)
    report = vhd.check(c, parents=True, ignore_parent_id=True)
    assert lines(report.ancestors[-1]) == [f"invalid parent {a}: it is its own ancestor"]


def test_fixed_disk(tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhd"
    vhd.create(path, 2 * MIB)
    raw = bytearray(path.read_bytes()[-512:])
    sealed(0, 512, 64, (60, word(2)), (16, b"\xff" * 8))(raw)
    path.write_bytes(bytes(2 * MIB) + raw)
    assert vhd.check(path, blocks=True, usage=True, parents=True) == vhd.Report(
        str(path), (), fixed=True
    )
    path.write_bytes(bytes(MIB) + raw)
    assert lines(vhd.check(path)) == ["data of 2097152 bytes clobber the footer at byte 1048576"]


def test_crash_states_that_are_sound(disk: Path) -> None:
    """A lost primary footer, clear batmap bits, a file that ends within its last gap of zeros."""
    damage(disk, put(-512, b"\xc7" * 512), put(MAP, b"\0"), put(MAP - 488, b"\xff" * 4))
    assert lines(vhd.check(disk)) == ["primary footer invalid: invalid cookie"]
    assert vhd.check(disk, ignore_footer=True).valid
    disk.write_bytes(disk.read_bytes()[:-512])
    assert vhd.check(disk, ignore_footer=True, blocks=True).valid


def test_old_tools_hide_in_the_backup_only(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    damage(path, footer((32, word(0x10001))), backup((32, word(0x10001))), put(85, b"\1"))
    assert vhd.check(path).valid
    assert vhd.query(path).hidden == 1
    damage(path, put(84, b"\1"))
    assert lines(vhd.check(path)) == ["backup footer invalid: invalid checksum"]


@pytest.mark.parametrize("byte", [0, 1, 511])
def test_data_where_the_bitmap_is_clear(disk: Path, byte: int) -> None:
    block = (0x1017 + 1) * 512
    damage(disk, put(block + 77 * 512 + byte, b"x"), put(block + 4095 * 512, b"x" * 512))
    assert vhd.check(disk).valid
    assert lines(vhd.check(disk, blocks=True)) == [
        "sector 0x4d of block 0x1 has data where bitmap is clear",
        "sector 0xfff of block 0x1 has data where bitmap is clear",
    ]


def test_findings_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 100 << 30)
    damage(path, put(BAT, bytes(200_000)))
    assert len(vhd.check(path).findings) == 100


def test_usage(disk: Path) -> None:
    leaf = disk.with_name("third.vhd")
    vhd.snapshot(leaf, disk)
    with vhd.open_chain(leaf, writable=True) as chain:
        chain.write(2 * MIB, b"t" * 2048)
        chain.write(5 * MIB, b"t" * 512)
    vhd.resize(leaf, 8 * MIB)
    counted = [
        (use.allocated, use.written, use.not_in_parent, use.not_in_ancestors)
        for use in vhd.check(leaf, usage=True).usage
    ]
    assert counted == [(8192, 6144, None, None), (8192, 4097, 0, 0), (8192, 5, 4, 1)]


BLOCKS = st.lists(
    st.one_of(st.just(0xFFFFFFFF), st.integers(0, 40_000), st.integers(0, 0xFFFFFFFE)), max_size=60
)


@given(BLOCKS)
def test_overlaps_are_those_of_a_plain_search(sectors: list[int]) -> None:
    used = [(at, block) for block, at in enumerate(sectors) if at != 0xFFFFFFFF]
    plain = {
        frozenset((one, other))
        for at, one in used
        for where, other in used
        if one != other and abs(at - where) < 4097
    }
    found = {frozenset(pair) for pair in overlapping(array("I", sectors))}
    assert found <= plain
    assert bool(found) == bool(plain)
    # Of several blocks in one place only neighbours are named, so each block of it appears once.
    places = {sectors[block] for pair in found for block in pair}
    assert places == {sectors[block] for pair in plain for block in pair}


@given(BLOCKS, st.binary(min_size=8, max_size=8))
def test_batmap_is_compared_bit_by_bit(sectors: list[int], covered: bytes) -> None:
    plain = [
        block
        for block, sector in enumerate(sectors)
        if sector == 0xFFFFFFFF and covered[block // 8] & 0x80 >> block % 8
    ]
    assert list(full_but_absent(array("I", sectors), covered)) == plain


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([2 * MIB, 9 * MIB, 8 << 30]))
def test_disks_of_the_engine_are_sound(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, size: int
) -> None:
    directory = tmp_path_factory.mktemp("sound")
    path = directory / "0.vhd"
    vhd.create(path, size, max_size=chance.choice([0, 2 << 40]))
    for level in range(3):
        with vhd.open_chain(path, writable=True) as disk:
            for _ in range(chance.randrange(6)):
                length = chance.choice([512, 4096, 3 * MIB])
                offset = chance.randrange(0, disk.size, 512)
                disk.write(offset, b"x" * min(length, disk.size - offset))
        vhd.set_hidden(path, chance.random() < 0.5)
        report = vhd.check(path, parents=True, blocks=True, usage=True)
        assert report.valid, report
        assert len(report.ancestors) <= level
        path = directory / f"{level + 1}.vhd"
        vhd.snapshot(path, directory / f"{level}.vhd", max_size=chance.choice([0, 1 << 40]))
    assert vhd.check(path).valid
    shutil.rmtree(directory)


def test_raw_parent(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(9 * MIB))
    vhd.snapshot(tmp_path / "leaf.vhd", tmp_path / "a.raw", raw_parent=True)
    report = vhd.check(tmp_path / "leaf.vhd", parents=True)
    assert report.valid
    assert report.ancestors == ()
    (tmp_path / "a.raw").unlink()
    assert not vhd.check(tmp_path / "leaf.vhd").valid


@pytest.mark.parametrize("options", ["", "force_size", "subformat=fixed"])
def test_disks_of_qemu_are_sound(tmp_path: Path, options: str) -> None:
    raw, path = tmp_path / "disk.raw", tmp_path / "qemu.vhd"
    raw.write_bytes(random.Random(5).randbytes(5 * MIB) + bytes(11 * MIB))
    extra = ["-o", options] if options else []
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vpc", *extra, str(raw), str(path)]
    subprocess.run(command, check=True)
    report = vhd.check(path, blocks=True)
    assert report.valid, report
    assert report.fixed == ("fixed" in options)
    if not report.fixed:
        vhd.snapshot(tmp_path / "leaf.vhd", path)
        assert vhd.check(tmp_path / "leaf.vhd", parents=True).valid


CHECK = """
import resource, sys
from srs import vhd
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = vhd.check(sys.argv[1])
assert report.valid, report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_full_disk_of_2040_gib_takes_little_memory(tmp_path: Path) -> None:
    """A million blocks in random order, in a file that is one hole behind its metadata."""
    path = tmp_path / "huge.vhd"
    vhd.create(path, 2040 << 30, max_size=2 << 40)
    sectors = [8455 + number * 4104 for number in range(2040 * 512)]
    random.Random(1).shuffle(sectors)
    table = array("I", sectors)
    if sys.byteorder == "little":
        table.byteswap()
    with path.open("r+b") as file:
        file.seek(BAT)
        file.write(table.tobytes())
        file.truncate((max(sectors) + 4097) * 512)
        file.seek(0)
        primary = file.read(512)
        file.seek(0, os.SEEK_END)
        file.write(primary)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 64 << 10  # KiB
