"""Other people's readers see what was written: libvhdi on chains, qemu-img on single disks.

libvhdi does not look for parents, so each level gets its parent by hand. It takes the rest of a
bitmap's byte for set behind a run of set bits (seen in 20260901), so chains for it are written
in pieces of 4 KiB. qemu-img ignores parents altogether. Both read the primary footer only.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from srs import vhd

MIB = 1 << 20
SIZE = 16 * MIB
PAGE = 4096
pyvhdi = pytest.importorskip("pyvhdi", reason="libvhdi-python is not installed")
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")


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


def levels(directory: Path, depth: int) -> Iterator[tuple[Path, bytes]]:
    """Make a chain level by level, each with its content before the next is put on top."""
    chance = random.Random(depth)
    model = bytearray(SIZE)
    for level in range(depth):
        path = directory / f"{level}.vhd"
        if level:
            vhd.snapshot(path, directory / f"{level - 1}.vhd", max_size=2 << 40)
        else:
            vhd.create(path, SIZE)
        scribble(path, model, chance, PAGE)
        yield path, bytes(model)


def test_libvhdi_reads_every_level(tmp_path: Path) -> None:
    below: list[tuple[Path, object]] = []
    for path, model in levels(tmp_path, 4):
        file = pyvhdi.file()
        file.open(str(path))
        for parent_path, parent in below[-1:]:
            assert file.get_parent_filename() == parent_path.name
            assert file.get_parent_identifier() == str(vhd.query(parent_path).unique_id)
            file.set_parent(parent)
        assert file.get_media_size() == SIZE
        assert file.get_identifier() == str(vhd.query(path).unique_id)
        assert file.read_buffer_at_offset(SIZE, 0) == model
        with vhd.open_chain(path) as disk:
            assert disk.read(0, SIZE) == model
        below.append((path, file))


def qemu_convert(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", "convert", *map(str, arguments)], check=True)


@needs_qemu
def test_qemu_reads(tmp_path: Path) -> None:
    path, raw = tmp_path / "disk.vhd", tmp_path / "disk.raw"
    model = bytearray(SIZE)
    vhd.create(path, SIZE)
    scribble(path, model, random.Random(2))
    # The size of the field, not that of the geometry, which rounds.
    options = f"driver=vpc,force_size_calc=current_size,file.filename={path}"
    qemu_convert("--image-opts", options, "-O", "raw", raw)
    assert raw.read_bytes() == model


@needs_qemu
def test_disk_of_qemu_is_read_written_and_snapshotted(tmp_path: Path) -> None:
    """Its blocks are packed without alignment and it has no batmap; neither may be damaged."""
    raw, path, leaf = tmp_path / "disk.raw", tmp_path / "qemu.vhd", tmp_path / "leaf.vhd"
    chance = random.Random(3)
    model = bytearray(chance.randbytes(4 * MIB) + bytes(SIZE - 4 * MIB))
    raw.write_bytes(model)
    qemu_convert("-f", "raw", "-O", "vpc", "-o", "force_size", raw, path)
    with vhd.open_chain(path) as disk:
        assert disk.read(0, SIZE) == model
    scribble(path, model, chance)
    file = pyvhdi.file()
    file.open(str(path))
    assert file.read_buffer_at_offset(SIZE, 0) == model
    vhd.snapshot(leaf, path)
    scribble(leaf, model, chance)
    with vhd.open_chain(leaf) as disk:
        assert disk.read(0, SIZE) == model
