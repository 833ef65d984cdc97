"""Other people's readers and writers on the same images, both ways.

libvhdi does not look for parents, so each level gets its parent by hand. It takes the rest of a
bitmap's byte for set behind a run of set bits (seen in 20260901), so chains for it are written
in pieces of 4 KiB. qemu-img ignores parents altogether. Both read the primary footer only. How
many images and bytes were compared is in pytest's summary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from readers import by_libvhdi, by_qemu, by_us, options, qemu

from srs import vhd

if TYPE_CHECKING:
    from tests.conftest import Compare


MIB = 1 << 20
SIZE = 16 * MIB
PAGE = 4096


def scribble(path: Path, model: bytearray, chance: random.Random, grain: int = 512) -> None:
    """A few large and many small writes of whole grains, some flushes."""
    with vhd.open_chain(path, writable=True) as disk:
        for length in [3 * MIB, 2 * MIB, *[64 << 10] * 8, *[4096] * 30, *[grain] * 30]:
            offset = chance.randrange((len(model) - length) // grain + 1) * grain
            data = chance.randbytes(length)
            disk.write(offset, data)
            model[offset : offset + length] = data
            if chance.random() < 0.1:
                disk.flush()


def compare_chain(
    compare: Compare, paths: Sequence[Path], model: bytearray, created: int = 0
) -> None:
    """The first of ``paths``, a leaf before its ancestors, has the content of ``model``.

    ``created`` is its size at creation, if it has been resized.
    """
    compare("us", by_us(paths[0]), model)
    size = min(len(model), created or len(model))
    compare("libvhdi", by_libvhdi(paths), model[:size])
    if len(paths) == 1:
        compare("qemu-img", by_qemu(paths[0]), model)


@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("max_size", [0, 2 << 40])
def test_chains(scratch: Path, compare: Compare, depth: int, max_size: int) -> None:
    """Each level is compared before the next is put on top of it."""
    chance, model = random.Random(depth), bytearray(SIZE)
    paths: list[Path] = []
    for level in range(depth):
        path = scratch / f"{level}.vhd"
        if paths:
            vhd.snapshot(path, paths[0], max_size=max_size)
        else:
            vhd.create(path, SIZE, max_size=max_size)
        paths.insert(0, path)
        scribble(path, model, chance, PAGE)
        compare_chain(compare, paths, model)


@pytest.fixture
def chain(scratch: Path) -> tuple[list[Path], list[bytearray]]:
    """Four disks, leaf first, and the content of each."""
    chance, model = random.Random(4), bytearray(SIZE)
    paths: list[Path] = []
    models: list[bytearray] = []
    for level in range(4):
        path = scratch / f"{level}.vhd"
        if paths:
            vhd.snapshot(path, paths[0], max_size=64 * MIB)
        else:
            vhd.create(path, SIZE)
        scribble(path, model, chance, PAGE)
        paths.insert(0, path)
        models.insert(0, bytearray(model))
    return paths, models


def test_coalesced(chain: tuple[list[Path], list[bytearray]], compare: Compare) -> None:
    """Each into its parent, and the leaf relinked, until the leaf stands on the root."""
    paths, models = chain
    model = models[0]
    while len(paths) > 2:
        vhd.coalesce(paths[1])
        vhd.set_parent(paths[0], paths[2])
        del paths[1]
        compare_chain(compare, paths, model)
    vhd.coalesce(paths[0])
    compare_chain(compare, paths[1:], model)


def test_copied(chain: tuple[list[Path], list[bytearray]], compare: Compare, scratch: Path) -> None:
    paths, models = chain
    whole, part = scratch / "whole.vhd", scratch / "part.vhd"
    for path, model in zip(paths, models, strict=True):
        vhd.copy(path, whole)
        compare_chain(compare, [whole], model)
        whole.unlink()
    vhd.copy(paths[1], part, differences=True)
    compare_chain(compare, [part, *paths[2:]], models[1])


def test_resized(chain: tuple[list[Path], list[bytearray]], compare: Compare) -> None:
    """The leaf within its room, and with a journal beyond it, and back."""
    paths, (model, *_) = chain
    for megabytes in (32, 300, 24):
        vhd.resize(paths[0], megabytes * MIB, journal=paths[0].with_suffix(".journal"))
        model = model[: megabytes * MIB].ljust(megabytes * MIB, b"\0")
        compare_chain(compare, paths, model, created=SIZE)
    scribble(paths[0], model, random.Random(5), PAGE)
    compare_chain(compare, paths, model, created=SIZE)


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("size", [SIZE, 5 * MIB + 512, 37 * MIB])
@pytest.mark.parametrize("force", ["on", "off"])
def test_disk_of_qemu(
    scratch: Path, compare: Compare, subformat: str, size: int, force: str
) -> None:
    """Its blocks are packed without alignment and it has no batmap; neither may be damaged."""
    raw, path, leaf = scratch / "disk.raw", scratch / "qemu.vhd", scratch / "leaf.vhd"
    chance = random.Random(size)
    raw.write_bytes(chance.randbytes(4 * MIB) + bytes(size - 4 * MIB))
    how = f"subformat={subformat},force_size={force}"
    qemu("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", how, raw, path)
    model = bytearray(raw.read_bytes().ljust(vhd.query(path).size, b"\0"))
    compare_chain(compare, [path], model)
    scribble(path, model, chance)
    compare_chain(compare, [path], model)
    vhd.snapshot(leaf, path)
    model = model.ljust(vhd.query(leaf).size, b"\0")
    scribble(leaf, model, chance, PAGE)
    compare_chain(compare, [leaf, path], model)


@pytest.mark.parametrize("max_size", [0, 2 << 40])
def test_qemu_writes_into_ours(scratch: Path, compare: Compare, max_size: int) -> None:
    """It knows no batmap: the blocks that it adds are not in ours, those that it fills may be."""
    path, chance, model = scratch / "disk.vhd", random.Random(7), bytearray(SIZE)
    vhd.create(path, SIZE, max_size=max_size)
    for turn in range(1, 4):
        with vhd.open_chain(path, writable=True) as disk:
            for _ in range(4):
                offset = chance.randrange(SIZE // PAGE - 100) * PAGE
                data = chance.randbytes(100 * PAGE)
                disk.write(offset, data)
                model[offset : offset + len(data)] = data
        commands = []
        for _ in range(6):
            offset, length = chance.randrange(SIZE // PAGE - 600) * PAGE, 600 * PAGE
            commands += ["-c", f"write -q -P {turn} {offset} {length}"]
            model[offset : offset + length] = bytes([turn]) * length
        qemu("qemu-io", "--image-opts", options(path), *commands)
        compare_chain(compare, [path], model)
        assert vhd.query(path, allocated=True).allocated == SIZE // vhd.BLOCK
