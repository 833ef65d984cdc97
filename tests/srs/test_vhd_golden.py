"""Golden images: what others wrote, in old and odd forms, reads as it should; so does what we do.

The images and their digests are golden.py's, which knows the format but not the engine.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import golden
import pytest
from readers import by_libvhdi, by_qemu, by_us

from srs import vhd

if TYPE_CHECKING:
    from tests.conftest import Compare


TOLD: dict[str, dict[str, Any]] = json.loads(golden.MANIFEST.read_text())
DISKS = sorted(name for name, told in TOLD.items() if "content" in told)
STAMP = 0x2A000000 + 946684800
FINDINGS = {"crashed.vhd": ["primary footer invalid: invalid cookie"]}
ODD = {"crashed.vhd", "footer-of-511.vhd", "lv.vhd", "lv-child.vhd", "grandchild.vhd"}
"""What the others do not read: they want a whole primary footer of 512 bytes, qemu-img takes the
sectors of a block that nobody wrote from the file, stale bytes and all, and so does libvhdi those
that follow a run of others in one byte of a bitmap."""


def ancestry(name: str, directory: Path) -> list[Path]:
    """The disk and its ancestors, the parent first."""
    parent = TOLD[name].get("parent")
    return [directory / name, *(ancestry(parent, directory) if parent else ())]


def test_made_again_they_are_the_same() -> None:
    fresh = {name: golden.entry(name, raw, content) for name, raw, content in golden.made()}
    assert {name: told for name, told in TOLD.items() if "qemu" not in name} == fresh


@pytest.mark.parametrize("name", sorted(TOLD))
def test_bytes(scratch: Path, name: str) -> None:
    path = golden.unpack(name, scratch)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == TOLD[name]["bytes"]


@pytest.mark.parametrize("name", DISKS)
def test_content(scratch: Path, name: str) -> None:
    path, told = golden.unpack(name, scratch), TOLD[name]
    before = path.read_bytes()
    assert hashlib.sha256(by_us(path)).hexdigest() == told["content"]
    info = vhd.query(path)
    assert info.size == told["size"]
    assert info.parent == (str(scratch / told["parent"]) if "parent" in told else None)
    assert [str(finding) for finding in vhd.check(path).findings] == FINDINGS.get(name, [])
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", sorted(golden.ERRORS))
def test_refused(scratch: Path, name: str) -> None:
    path = golden.unpack(f"{name}.vhd", scratch)
    with pytest.raises(getattr(vhd, golden.ERRORS[name])):
        vhd.open_chain(path)
    assert not vhd.check(path).valid


@pytest.mark.parametrize("name", DISKS)
def test_written_and_snapshotted(scratch: Path, name: str) -> None:
    """In place, in holes, over a block's border; then the same once more from a child."""
    path = golden.unpack(name, scratch)
    leaf, model = scratch / "leaf.vhd", bytearray(by_us(path))
    for disk in (path, leaf):
        with vhd.open_chain(disk, writable=True) as chain:
            data = (b"leaf" if disk == leaf else b"disk") * 2048
            for offset in (0, 5 * 512 + 100, (2 << 20) - 4096, (4 << 20) + 7, len(model) - 8192):
                chain.write(offset, data)
                model[offset : offset + len(data)] = data
        assert by_us(disk) == model
        assert vhd.check(disk).valid
        if disk == path:
            vhd.snapshot(leaf, path)


@pytest.mark.parametrize("name", sorted({*DISKS} - ODD))
def test_others_read_the_same(scratch: Path, name: str, compare: Compare) -> None:
    path, told = golden.unpack(name, scratch), TOLD[name]
    expected = by_us(path)
    if not told.get("parent", "").endswith(".raw"):
        compare("libvhdi", by_libvhdi(ancestry(name, scratch)), expected)
    if "parent" not in told:
        compare("qemu-img", by_qemu(path), expected)


@pytest.mark.parametrize("image", golden.IMAGES[:3], ids=lambda image: image.name)
def test_ours_are_the_same_bytes(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, image: golden.Image
) -> None:
    """Made by the engine with the same writes, an image is the golden one."""
    monkeypatch.setattr("time.time", lambda: float(STAMP))
    name = f"{image.name}.vhd"
    path = golden.unpack(name, scratch)
    expected = path.read_bytes()
    path.unlink()
    identity = UUID(bytes=image.unique_id)
    if image.parent:
        os.utime(scratch / image.parent, (STAMP, STAMP))
        vhd.snapshot(path, scratch / image.parent, unique_id=identity)
    else:
        vhd.create(path, golden.SIZE, unique_id=identity)
    with vhd.open_chain(path, writable=True) as disk:
        for block, runs in image.blocks.items():
            for first, stop in runs:
                data = b"".join(image.sector(block, at) for at in range(first, stop))
                disk.write(block * golden.BLOCK + first * 512, data)
    assert path.read_bytes() == expected
