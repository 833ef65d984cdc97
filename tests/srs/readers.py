"""Three readers of a VHD: the engine, libvhdi and qemu-img."""

import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyvhdi

from srs import vhd


def by_us(path: Path) -> bytes:
    """The content of a disk."""
    with vhd.open_chain(path) as disk:
        return disk.read(0, disk.size)


def by_libvhdi(paths: Sequence[Path]) -> bytes:
    """The content of the first disk; the others are its ancestors, the parent first.

    libvhdi takes the size at creation for the size, so it reads a grown disk only up to there.
    """
    files = []
    for path in paths:
        file = pyvhdi.file()
        file.open(str(path))
        files.append(file)
    for child, path in zip(files, paths[1:], strict=False):
        assert child.get_parent_filename() == path.name
        assert child.get_parent_identifier() == str(vhd.query(path).unique_id)
    for child, parent in reversed(list(pairwise(files))):
        child.set_parent(parent)
    info = vhd.query(paths[0])
    assert files[0].get_identifier() == str(info.unique_id)
    assert files[0].get_disk_type() == info.disk_type
    size = min(info.size, files[0].get_media_size())
    content: bytes = files[0].read_buffer_at_offset(size, 0)
    return content


def qemu(*arguments: str | Path) -> None:
    """Run one of qemu's programs."""
    subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.DEVNULL)


def options(path: Path) -> str:
    """How qemu is told to open a disk: with its size, not that of the geometry, which rounds."""
    return f"driver=vpc,force_size_calc=current_size,file.filename={path}"


def by_qemu(path: Path) -> bytes:
    """The content of a disk, without ancestors."""
    raw = path.with_suffix(".raw")
    qemu("qemu-img", "convert", "--image-opts", options(path), "-O", "raw", raw)
    return raw.read_bytes()
