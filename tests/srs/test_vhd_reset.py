"""Dropping all data of a disk, and what stands beside its batmap; also when the power goes."""

import os
import random
from pathlib import Path

import pytest
from powercut import device, taping
from readers import by_us

from srs import vhd
from srs.vhd import labels
from srs.vhd.errors import NotEmpty
from srs.vhd.reset import drop_data

MIB = 1 << 20
BELOW = random.Random(1).randbytes(6 * MIB)
ABOVE = random.Random(2).randbytes(4 * MIB)


@pytest.fixture
def leaf(tmp_path: Path) -> Path:
    """A disk of 6 MiB on another, with two blocks of its own, one of them full."""
    base, leaf = tmp_path / "base.vhd", tmp_path / "leaf.vhd"
    vhd.create(base, 6 * MIB)
    with vhd.open_chain(base, writable=True) as disk:
        disk.write(0, BELOW)
    vhd.snapshot(leaf, base)
    with vhd.open_chain(leaf, writable=True) as disk:
        disk.write(0, ABOVE[: 2 * MIB])
        disk.write(4 * MIB, ABOVE[2 * MIB : 3 * MIB])
    return leaf


def test_parent_shows_through(leaf: Path) -> None:
    drop_data(leaf)
    assert by_us(leaf) == BELOW
    assert vhd.check(leaf).valid
    assert (vhd.query(leaf, allocated=True).allocated, leaf.stat().st_size) == (0, 5120)
    drop_data(leaf)
    assert leaf.stat().st_size == 5120


def test_disk_without_parent_is_zeros(leaf: Path) -> None:
    base = leaf.with_name("base.vhd")
    drop_data(base)
    assert by_us(base) == bytes(6 * MIB)
    assert vhd.check(base).valid


def test_disk_of_another_writer(leaf: Path) -> None:
    """Without a batmap there are blocks where one would be."""
    raw = bytearray(leaf.read_bytes())
    for at in (0, len(raw) - 512):
        raw[at + 28 : at + 32], raw[at + 64 : at + 68] = b"qemu", bytes(4)
        total = ~sum(raw[at : at + 512]) & 0xFFFFFFFF
        raw[at + 64 : at + 68] = total.to_bytes(4, "big")
    leaf.write_bytes(raw)
    drop_data(leaf)
    assert by_us(leaf) == BELOW


def test_fixed_disk_is_refused(tmp_path: Path, leaf: Path) -> None:
    footer = bytearray(leaf.read_bytes()[-512:])
    footer[60:64], footer[64:68] = (2).to_bytes(4, "big"), bytes(4)
    footer[64:68] = (~sum(footer) & 0xFFFFFFFF).to_bytes(4, "big")
    fixed = tmp_path / "fixed.vhd"
    fixed.write_bytes(bytes(6 * MIB) + footer)
    with pytest.raises(vhd.NotSparse):
        drop_data(fixed)


@pytest.mark.parametrize("on_device", [False, True])
def test_cut_while_dropping(leaf: Path, on_device: bool) -> None:
    """Each block has its content or none, and the disk can be dropped and written again."""
    if on_device:
        vhd.set_physical_size(leaf, 8 * MIB)
    before = by_us(leaf)
    with device(pretend=on_device), taping(leaf) as tape:
        drop_data(leaf)
    for at in range(len(tape) + 1):
        for seed in range(3):
            tape.cut(at, random.Random(seed))
            found = by_us(leaf)
            for block in range(0, 6 * MIB, 2 * MIB):
                end = block + 2 * MIB
                assert found[block:end] in (before[block:end], BELOW[block:end])
            with vhd.open_chain(leaf, writable=True) as disk:
                disk.write(MIB, b"new")
            assert vhd.check(leaf).valid
            drop_data(leaf)
            assert by_us(leaf) == BELOW


@pytest.mark.parametrize("marker", [0, 1, 255])
def test_marker(leaf: Path, marker: int) -> None:
    at, before = 2048 + 28, leaf.read_bytes()
    labels.set_marker(leaf, marker)
    assert leaf.read_bytes() == before[:at] + bytes([marker]) + before[at + 1 :]
    assert vhd.check(leaf).valid


def test_key(leaf: Path) -> None:
    child = leaf.with_name("child.vhd")
    vhd.snapshot(child, leaf)
    nonce, digest = os.urandom(32), os.urandom(32)
    assert labels.key_hash(child) is None
    labels.set_key_hash(child, nonce, digest)
    assert labels.key_hash(child) == (nonce, digest)
    assert vhd.check(child).valid
    with pytest.raises(NotEmpty) as caught:
        labels.set_key_hash(leaf, nonce, digest)
    assert caught.value.blocks == 2
    assert labels.key_hash(leaf) is None


def test_disk_without_batmap_has_no_labels(leaf: Path) -> None:
    raw = bytearray(leaf.read_bytes())
    raw[2048:2056] = b"xxxxxxxx"
    leaf.write_bytes(raw)
    assert labels.key_hash(leaf) is None
    with pytest.raises(vhd.InvalidImage, match="no usable batmap"):
        labels.set_marker(leaf, 1)
    with pytest.raises(vhd.InvalidImage, match="no usable batmap"):
        labels.set_key_hash(leaf, bytes(32), bytes(32))
    assert leaf.read_bytes() == raw


@pytest.mark.parametrize("seed", range(3))
def test_cut_while_setting_a_marker(leaf: Path, seed: int) -> None:
    with taping(leaf) as tape:
        labels.set_marker(leaf, 7)
    for at in range(len(tape) + 1):
        tape.cut(at, random.Random(seed))
        assert leaf.read_bytes()[2048 + 28] in (0, 7)
        assert vhd.check(leaf).valid
