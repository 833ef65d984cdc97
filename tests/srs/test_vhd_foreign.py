"""Disks of other writers, and of old versions of the field's: read, written, left what they are."""

import random
import struct
import subprocess
from pathlib import Path

import pytest
from readers import by_us

from srs import vhd
from srs.vhd.format import geometry

MIB = 1 << 20
HEADER, BATMAP = 512, 2048


def seal(raw: bytearray, start: int, length: int, at: int) -> None:
    raw[start + at : start + at + 4] = bytes(4)
    total = ~sum(raw[start : start + length]) & 0xFFFFFFFF
    raw[start + at : start + at + 4] = total.to_bytes(4, "big")


def as_if_by(path: Path, creator: bytes, version: int, *, batmap: bool = True) -> None:
    """Make a disk of ours look like that of another writer."""
    raw = bytearray(path.read_bytes())
    for start in (0, len(raw) - 512):
        raw[start + 28 : start + 36] = creator + struct.pack(">I", version)
        seal(raw, start, 512, 64)
    if not batmap:
        raw[BATMAP : BATMAP + 1024] = bytes(1024)
    path.write_bytes(raw)


def rewrite(path: Path, model: bytearray) -> None:
    """Write to blocks that are there and to others, in pieces and whole."""
    chance = random.Random(7)
    with vhd.open_chain(path, writable=True) as disk:
        for _ in range(12):
            length = chance.choice([512, 4096, 2 * MIB])
            offset = chance.randrange(0, len(model) - length, 512)
            data = chance.randbytes(length)
            disk.write(offset, data)
            model[offset : offset + length] = data


CREATORS = [
    (b"tap\0", 0x00010001, True),
    (b"tap\0", 0x00010001, False),
    (b"tap\0", 0x00010002, True),
    (b"tap\0", 0x00010003, True),
    (b"win ", 0x00060001, False),
    (b"vbox", 0x00040000, False),
    (b"vs\0\0", 0x00010000, False),
    (b"qemu", 0x00050003, False),
]


@pytest.mark.parametrize(("creator", "version", "batmap"), CREATORS)
def test_creators(tmp_path: Path, creator: bytes, version: int, batmap: bool) -> None:
    path, leaf = tmp_path / "a.vhd", tmp_path / "leaf.vhd"
    vhd.create(path, 20 * MIB)
    as_if_by(path, creator, version, batmap=batmap)
    assert vhd.check(path).valid
    model = bytearray(20 * MIB)
    for _ in range(2):
        rewrite(path, model)
        assert by_us(path) == model
        assert vhd.check(path, blocks=True).valid, vhd.check(path)
    assert path.read_bytes()[28:36] == creator + struct.pack(">I", version)
    vhd.snapshot(leaf, path)
    vhd.set_hidden(path, True)
    rewrite(leaf, model)
    assert by_us(leaf) == model
    assert vhd.check(leaf, parents=True, blocks=True).valid
    if not batmap:
        assert b"tdbatmap" not in path.read_bytes()[: 16 << 10]


@pytest.mark.parametrize("version", [0x00000001, 0x00010004])
def test_versions_that_check_rejects(tmp_path: Path, version: int) -> None:
    """Bitmaps of 0.1 are little-endian, so nobody reads them; later ones are tried."""
    path = tmp_path / "a.vhd"
    vhd.create(path, 2 * MIB)
    as_if_by(path, b"tap\0", version)
    text = "primary footer invalid: unsupported tap creator version"
    assert str(vhd.check(path).findings[0]) == text
    if version == 0x00000001:
        with pytest.raises(vhd.BadHeader, match="too old"):
            vhd.open_chain(path)
    else:
        assert by_us(path) == bytes(2 * MIB)


def test_blocks_right_behind_the_table(tmp_path: Path) -> None:
    """Without a batmap nothing keeps them away from there, and they need no alignment."""
    path = tmp_path / "a.vhd"
    vhd.create(path, 20 * MIB)
    for creator, version in ((b"tap\0", 0x00010001), (b"win ", 0x00060001)):
        as_if_by(path, creator, version, batmap=False)
        raw = bytearray(path.read_bytes()[:2048])
        raw[1536:1540] = struct.pack(">I", 4)
        raw += b"\xff" * 512 + b"d" * (2 * MIB) + raw[:512]
        path.write_bytes(raw)
        assert vhd.check(path, blocks=True).valid
        model = bytearray(b"d" * (2 * MIB) + bytes(18 * MIB))
        rewrite(path, model)
        assert by_us(path) == model
        assert vhd.check(path, blocks=True).valid
        vhd.create(path, 20 * MIB)


def test_geometry_of_another_writer_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create(path, 20 * MIB, max_size=1 << 30)
    raw = bytearray(path.read_bytes())
    for start in (0, len(raw) - 512):
        raw[start + 28 : start + 32] = b"qem2"
        raw[start + 56 : start + 60] = b"\xff\xff\x10\xff"
        seal(raw, start, 512, 64)
    path.write_bytes(raw)
    vhd.set_hidden(path, True)
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(0, b"x")
    assert path.read_bytes()[56:60] == path.read_bytes()[-456:-452] == b"\xff\xff\x10\xff"
    assert vhd.check(path).valid
    vhd.resize(path, 40 * MIB)
    expected = struct.pack(">HBB", *geometry(40 * MIB))
    assert path.read_bytes()[56:60] == path.read_bytes()[-456:-452] == expected


def test_fixed_disk_with_a_footer_of_511_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.vhd"
    vhd.create_fixed(path, 2 * MIB)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert vhd.check(path).valid
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(2 * MIB - 512, b"x" * 512)
        assert disk.read(2 * MIB - 1024, 1024) == bytes(512) + b"x" * 512
    vhd.set_hidden(path, False)
    assert path.read_bytes() == whole[: 2 * MIB - 512] + b"x" * 512 + whole[-512:]


@pytest.mark.parametrize("options", ["subformat=dynamic", "force_size"])
def test_disk_of_qemu_stays_sound_when_written(tmp_path: Path, options: str) -> None:
    raw, path = tmp_path / "disk.raw", tmp_path / "qemu.vhd"
    raw.write_bytes(random.Random(5).randbytes(5 * MIB) + bytes(11 * MIB))
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", options, str(raw), str(path)]
    subprocess.run(command, check=True)
    model = bytearray(by_us(path))
    assert model[: 16 * MIB] == raw.read_bytes()
    rewrite(path, model)
    assert vhd.check(path, blocks=True).valid, vhd.check(path)
    assert path.read_bytes()[:512] == path.read_bytes()[-512:]
    subprocess.run(
        ["qemu-img", "convert", "-f", "vpc", str(path), "-O", "raw", str(raw)], check=True
    )
    assert raw.read_bytes() == model
    vhd.repair(path)
    assert by_us(path) == model
