"""The promises of the VHD engine, as works that can be timed."""

import sys
from functools import partial
from pathlib import Path

from scenarios.bench import disks
from scenarios.bench.disks import GIB, MIB, PAGE
from scenarios.bench.pairs import Subject, Work, program
from srs import vhd

_PIECE = 8 * MIB


def _create(directory: Path) -> Subject:
    ours, peer = directory / "ours.vhd", directory / "peer.vhd"
    return Subject(
        lambda: vhd.create(ours, 100 * GIB),
        program("qemu-img", "create", "-q", "-f", "vpc", peer, "100G"),
        lambda: disks.remove(ours, peer),
    )


def _snapshot(directory: Path) -> Subject:
    base, leaf = directory / "base.vhd", directory / "leaf.vhd"
    vhd.create(base, 100 * GIB)
    disks.write(base, [0], PAGE)
    return Subject(lambda: vhd.snapshot(leaf, base), reset=lambda: disks.remove(leaf))


def _sequential_write(directory: Path) -> Subject:
    raw, ours, peer = (directory / name for name in ("raw", "ours.vhd", "peer.vhd"))
    data = disks.noise(_PIECE)
    with raw.open("wb") as file:
        for _ in range(GIB // _PIECE):
            file.write(data)

    def write() -> None:
        vhd.create(ours, GIB)
        with vhd.open_chain(ours, writable=True) as disk:
            for offset in range(0, GIB, _PIECE):
                disk.write(offset, data)

    return Subject(
        write,
        program("qemu-img", "convert", "-t", "writeback", "-f", "raw", "-O", "vpc", raw, peer),
        lambda: disks.remove(ours, peer),
    )


def _read(unit: int, directory: Path) -> Subject:
    """Half of the disk is there, each unit in one of the thirty by lot."""
    leaf = disks.chain(directory, GIB, unit)
    buffer = memoryview(bytearray(_PIECE))

    def read() -> None:
        with vhd.open_chain(leaf) as disk:
            for offset in range(0, GIB, _PIECE):
                disk.readinto(offset, buffer)

    return Subject(read)


def _process(_: Path) -> Subject:
    """Not ours to make faster, but part of every command: shown apart."""
    return Subject(program(sys.executable, "-c", "import srs.vhd") or tuple)


WORKS = (
    Work("create 100 GiB", 0.001, "vhd-util 2.3", _create),
    Work("snapshot 100 GiB", 0.001, "vhd-util 3.1", _snapshot),
    Work("write 1 GiB", 0.8, "qemu-img 766", _sequential_write),
    Work("read 1 GiB 30 deep, 4 KiB pages", 1.5, "vhd-util 7721", partial(_read, PAGE)),
    Work("read 1 GiB 30 deep, 1 MiB pieces", 1.5, "vhd-util 7721", partial(_read, MIB)),
    Work("python, srs.vhd imported", None, "python3 -c pass 15", _process),
)
