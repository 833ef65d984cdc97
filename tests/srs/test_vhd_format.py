"""The bytes of a disk: golden images, sums, alignment. The expected bytes are XenServer's own."""

import os
import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from srs import vhd
from srs.vhd import format as fmt
from srs.vhd.header import BatmapHeader, Header, Locator, bat_length, map_sectors

MIB = 1 << 20
GIB = 1 << 30
BASE_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
CHILD_ID = UUID("f0e1d2c3-b4a5-4697-8879-6a5b4c3d2e1f")
NOW = 1_700_000_000
STAMP = struct.pack(">I", NOW - 946684800).hex()


@pytest.fixture(autouse=True)
def frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: float(NOW))


def sum_of(hexadecimal: str) -> str:
    """The checksum of a structure whose checksum field is left out, as eight digits."""
    return f"{~sum(bytes.fromhex(hexadecimal)) & 0xFFFFFFFF:08x}"


def test_golden_base(tmp_path: Path) -> None:
    path = tmp_path / "base.vhd"
    vhd.create(path, 100 * MIB, unique_id=BASE_ID)
    raw = path.read_bytes()
    start = "636f6e656374697800000002000100000000000000000200" + STAMP
    start += "74617000000100030000000000000000064000000000000006400000"
    start += "03eb0c1100000003"
    footer = start + sum_of(start + BASE_ID.hex) + BASE_ID.hex
    assert raw[:512].hex() == footer.ljust(1024, "0")
    header = "6378737061727365ffffffffffffffff00000000000006000001000000000032"
    header += "00200000fffff445"
    assert raw[512:1536].hex() == header.ljust(2048, "0")
    assert raw[1536:2048] == b"\xff" * 200 + bytes(312)
    batmap = "74646261746d61700000000000000a000000000100010002ffffffff"
    assert raw[2048:2560].hex() == batmap.ljust(1024, "0")
    assert raw[2560:3072] == bytes(512)
    assert raw[3072:] == raw[:512]


def test_golden_child(tmp_path: Path) -> None:
    base, child = tmp_path / "p.vhd", tmp_path / "c.vhd"
    vhd.create(base, 100 * MIB, unique_id=BASE_ID)
    os.utime(base, (NOW, NOW))
    vhd.snapshot(child, base, unique_id=CHILD_ID)
    raw = child.read_bytes()
    assert raw[60:64] == b"\0\0\0\x04"
    assert raw[68:84] == CHILD_ID.bytes
    header = raw[512:1536]
    assert header[40:56] == BASE_ID.bytes
    assert header[56:64].hex() == STAMP + "00000000"
    assert header[64:576] == "p.vhd".encode("utf-16-be").ljust(512, b"\0")
    locators = "4d616358000002000000000e000000000000000000000c00"
    locators += "57326b75000002000000000e000000000000000000000e00"
    locators += "57327275000002000000000e000000000000000000001000"
    assert header[576:768].hex() == locators.ljust(384, "0")
    assert raw[0xC00:0xE00] == b"file://./p.vhd".ljust(512, b"\0")
    assert raw[0xE00:0x1000] == ".\\p.vhd".encode("utf-16-le").ljust(512, b"\0")
    assert raw[0x1000:0x1200] == raw[0xE00:0x1000]
    assert raw[0x1200:] == raw[:512]


LAYOUTS = [
    # size, max size, child?, file size, first bitmap sector
    (20 * MIB, 0, False, 3584, 7),
    (20 * MIB, 0, True, 5120, 15),
    (100 * GIB, 0, False, 214016, 423),
    (100 * GIB, 2 << 40, False, 4327936, 8455),
    (100 * GIB, 2 << 40, True, 4329472, 8455),
]


@pytest.mark.parametrize(("size", "limit", "child", "length", "first"), LAYOUTS)
def test_layout(
    tmp_path: Path, size: int, limit: int, child: bool, length: int, first: int
) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, size, max_size=limit)
    if child:
        vhd.snapshot(tmp_path / "b.vhd", path, max_size=limit)
        path = tmp_path / "b.vhd"
    assert path.stat().st_size == length
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(4 * MIB, b"x" * 512)
        disk.write(0, b"y" * 512)
    raw = path.read_bytes()
    assert struct.unpack(">III", raw[1536:1548]) == (first + 4104, fmt.UNUSED, first)
    assert raw[(first + 1) * 512 :][:512] == b"x" * 512
    assert len(raw) == (first + 4104 + 4097) * 512 + 512


@pytest.mark.parametrize(("asked", "made"), [(1, 2), (2, 2), (3, 4), (2040 * 1024, 2040 * 1024)])
def test_size_is_rounded_up(tmp_path: Path, asked: int, made: int) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, asked * MIB)
    assert vhd.query(path).size == made * MIB


GEOMETRIES = [
    (2 * MIB, (60, 4, 17)),
    (20 * MIB, (602, 4, 17)),
    (100 * MIB, (1003, 12, 17)),
    (200 * MIB, (825, 16, 31)),
    (400 * MIB, (812, 16, 63)),
    (504 * MIB, (1024, 16, 63)),
    (32256 * MIB, (16191, 16, 255)),
    (127 * GIB + 512 * MIB, (65535, 16, 255)),
    (2040 * GIB, (65535, 16, 255)),
    (2 << 40, (0, 4, 17)),
]


@pytest.mark.parametrize(("size", "expected"), GEOMETRIES)
def test_geometry(size: int, expected: tuple[int, int, int]) -> None:
    assert fmt.geometry(size) == expected


def test_bitmaps_are_aligned() -> None:
    for sector in range(64):
        aligned = fmt.align_block(sector)
        assert aligned % 8 == 7
        assert sector <= aligned < sector + 8


def test_map_sizes() -> None:
    assert [map_sectors(slots) for slots in (1, 4096, 4097, 1 << 20)] == [1, 1, 2, 256]
    assert [bat_length(slots) for slots in (1, 128, 129)] == [512, 512, 1024]


def test_structures_survive_a_round_trip() -> None:
    footer = fmt.Footer.new(20 * MIB, vhd.DIFFERENCING, CHILD_ID, 77)
    footer = replace(footer, hidden=1, saved=1, original_size=MIB, reserved=b"r" * 426)
    assert fmt.Footer.unpack(footer.pack(), "x") == footer
    locators = (Locator(b"MacX", 512, 14, 3072), *[Locator()] * 7)
    header = Header(10, 2048, BASE_ID, 5, "n" * 256, locators)
    assert Header.unpack(header.pack(), "x") == header
    batmap = BatmapHeader(2560, 1, 5, 6, 1, b"n" * 32, b"h" * 32)
    assert BatmapHeader.unpack(batmap.pack()) == batmap


@pytest.mark.parametrize(
    ("stored", "capacity"), [(0, 0), (1, 512), (511, 511 * 512), (512, 512), (1024, 1024), (700, 0)]
)
def test_locator_space_in_sectors_or_bytes(stored: int, capacity: int) -> None:
    assert Locator(b"MacX", stored, 1, 3072).capacity == capacity


def test_batmap_of_full_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 20 * MIB)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(4 * MIB, bytes(2 * MIB))
        disk.write(6 * MIB, bytes(2 * MIB - 512))
    raw = path.read_bytes()
    assert raw[2560:3072] == b"\x20" + bytes(511)
    assert raw[2048 + 24 : 2048 + 28] == struct.pack(">I", ~0x20 & 0xFFFFFFFF)


def test_batmap_bits_beyond_the_checksum_stay_clear(tmp_path: Path) -> None:
    """8 GiB and 4 MiB: the last two blocks' bits lie in a sector that no checksum covers."""
    path = tmp_path / "a.vhd"
    size = 8 * GIB + 4 * MIB
    vhd.create(path, size)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(size - 2 * MIB, b"z" * (2 * MIB))
        disk.write(0, b"a" * (2 * MIB))
    raw = path.read_bytes()
    at = 1536 + bat_length(4098)
    header = BatmapHeader.unpack(raw[at : at + 512])
    assert header == BatmapHeader(at + 512, 2, ~0x80 & 0xFFFFFFFF)
    assert raw[at + 512 : at + 1536] == b"\x80" + bytes(1023)
    with vhd.open_chain(path) as disk:
        assert disk.read(size - 512, 512) == b"z" * 512


def test_public_names() -> None:
    visible = {name for name, value in vars(vhd).items() if not name.startswith("_")}
    modules = {name for name in visible if type(vars(vhd)[name]).__name__ == "module"}
    assert visible - modules == set(vhd.__all__)
