"""repair brings back footers and batmap, and refuses to paper over lost data; fill completes."""

import os
import random
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import by_us

from srs import vhd

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of 8 MiB on a parent: block 0 full, the last one with two sectors."""
    vhd.create(tmp_path / "parent.vhd", SIZE)
    with vhd.open_chain(tmp_path / "parent.vhd", writable=True) as chain:
        chain.write(MIB, b"p" * (4 * MIB))
    path = tmp_path / "leaf.vhd"
    vhd.snapshot(path, tmp_path / "parent.vhd")
    with vhd.open_chain(path, writable=True) as chain:
        chain.write(0, b"l" * (2 * MIB))
        chain.write(6 * MIB, b"l" * 1024)
    return path


def put(path: Path, offset: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        file.write(value)


def test_sound_disk_stays_as_it_is(disk: Path) -> None:
    before = disk.read_bytes()
    vhd.repair(disk)
    vhd.repair(disk, backup=True)
    assert disk.read_bytes() == before


@pytest.mark.parametrize("lost", ["primary", "cut", "backup", "longer"])
def test_footer_comes_back(disk: Path, lost: str) -> None:
    before, expected = disk.read_bytes(), by_us(disk)
    if lost == "primary":
        put(disk, -512, b"\xc7" * 512)
    elif lost == "cut":
        os.truncate(disk, len(before) - 512)
    elif lost == "longer":
        put(disk, -512, bytes(5000))
    else:
        put(disk, 0, bytes(512))
    assert not vhd.check(disk).valid
    vhd.repair(disk)
    assert disk.read_bytes() == before
    assert vhd.check(disk).valid
    assert by_us(disk) == expected


def test_backup_decides_when_told(disk: Path) -> None:
    old = disk.read_bytes()
    vhd.set_hidden(disk, True)
    put(disk, 0, old[:512])
    vhd.repair(disk, backup=True)
    assert disk.read_bytes() == old
    put(disk, 0, bytes(512))
    with pytest.raises(vhd.BadFooter):
        vhd.repair(disk, backup=True)


def test_both_lost(disk: Path) -> None:
    put(disk, 0, bytes(512))
    put(disk, -512, bytes(512))
    before = disk.read_bytes()
    with pytest.raises(vhd.BadFooter):
        vhd.repair(disk)
    assert disk.read_bytes() == before


def test_null_identity_is_replaced(disk: Path) -> None:
    raw = bytearray(disk.read_bytes())
    for at in (0, len(raw) - 512):
        raw[at + 68 : at + 84] = bytes(16)
        raw[at + 64 : at + 68] = bytes(4)
        raw[at + 64 : at + 68] = (~sum(raw[at : at + 512]) & 0xFFFFFFFF).to_bytes(4, "big")
    disk.write_bytes(raw)
    vhd.repair(disk)
    assert vhd.query(disk).unique_id != UUID(int=0)
    assert vhd.check(disk).valid


def test_torn_batmap_is_emptied(disk: Path) -> None:
    expected = by_us(disk)
    put(disk, 2560, b"\xff")
    assert [str(line) for line in vhd.check(disk).findings] == [
        "batmap is invalid: invalid checksum"
    ]
    vhd.repair(disk)
    assert vhd.check(disk, blocks=True).valid
    assert by_us(disk) == expected


def test_end_of_the_last_block_may_be_missing_if_nothing_was_there(disk: Path) -> None:
    expected, whole = by_us(disk), disk.read_bytes()
    os.truncate(disk, len(whole) - 512 - 2 * MIB + 1024)
    vhd.repair(disk)
    assert vhd.check(disk).valid
    assert by_us(disk) == expected


@pytest.mark.parametrize("length", [1023, 1, 0, -512, -MIB])
def test_lost_data_are_not_papered_over(disk: Path, length: int) -> None:
    os.truncate(disk, disk.stat().st_size - 512 - 2 * MIB + length)
    before = disk.read_bytes()
    with pytest.raises(vhd.Truncated):
        vhd.repair(disk)
    assert disk.read_bytes() == before


def test_fixed_disk(tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhd"
    vhd.create_fixed(path, 2 * MIB)
    before = path.read_bytes()
    vhd.repair(path)
    assert path.read_bytes() == before
    with pytest.raises(vhd.BadFooter):
        vhd.repair(path, backup=True)


def test_fill(disk: Path) -> None:
    expected = by_us(disk)
    vhd.fill(disk)
    assert vhd.check(disk, usage=True).usage[-1].written == SIZE // 512
    assert vhd.check(disk, blocks=True).valid
    vhd.create(disk.with_name("parent.vhd"), SIZE)  # Whatever the parent holds does not matter.
    assert by_us(disk) == expected
    before = disk.stat().st_size
    vhd.fill(disk.with_name("parent.vhd"))
    assert by_us(disk.with_name("parent.vhd")) == bytes(SIZE)
    assert disk.stat().st_size == before


def test_fill_refuses_a_fixed_disk(tmp_path: Path) -> None:
    vhd.create_fixed(tmp_path / "fixed.vhd", 2 * MIB)
    with pytest.raises(vhd.NotSparse):
        vhd.fill(tmp_path / "fixed.vhd")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_extents_are_where_data_are(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    directory = tmp_path_factory.mktemp("extents")
    paths, held = [directory / "0.vhd", directory / "1.vhd"], [bytearray(SIZE), bytearray(SIZE)]
    vhd.create(paths[0], SIZE)
    for level in (0, 1):
        if level:
            vhd.snapshot(paths[1], paths[0], link_empty=True)
        with vhd.open_chain(paths[level], writable=True) as disk:
            for _ in range(chance.randrange(8)):
                offset = chance.randrange(0, SIZE, 512)
                length = min(chance.choice([512, 4096, 3 * MIB]), SIZE - offset)
                disk.write(offset, b"x" * length)
                held[level][offset : offset + length] = b"x" * length
    both = bytearray(
        one | other for one, other in zip(*(part[::512] for part in held), strict=True)
    )
    for path, ancestors, sectors in (
        (paths[0], False, held[0][::512]),
        (paths[1], False, held[1][::512]),
        (paths[1], True, both),
    ):
        model = bytearray(SIZE // 512)
        last = -1
        for offset, length in vhd.extents(path, ancestors=ancestors):
            assert offset > last  # Neither overlapping nor touching.
            assert length > 0
            last = offset + length
            model[offset // 512 : last // 512] = b"x" * (length // 512)
        assert model == sectors


def test_extents_of_flat_disks(tmp_path: Path) -> None:
    """Space that is taken, but was never written to, reads as zeros like a hole."""
    path = tmp_path / "fixed.vhd"
    vhd.create_fixed(path, 4 * MIB)
    assert list(vhd.extents(path)) == []
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(MIB, b"x" * (2 * MIB))
    assert list(vhd.extents(path)) == [(MIB, 2 * MIB)]
    leaf = tmp_path / "leaf.vhd"
    vhd.snapshot(leaf, path)
    assert list(vhd.extents(leaf)) == []
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.write(0, b"x" * MIB)
    assert list(vhd.extents(leaf)) == [(0, MIB)]
    assert list(vhd.extents(leaf, ancestors=True)) == [(0, 3 * MIB)]
