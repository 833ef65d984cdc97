"""The promises of the VHD engine, as works that can be timed."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scenarios.bench import disks
from scenarios.bench.disks import GIB, MIB, PAGE
from scenarios.bench.pairs import Subject, Work, nothing, program
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


def _coalesce(places: Sequence[int], unit: int, directory: Path, *, full_parent: bool) -> Subject:
    """``places`` as of :func:`disks.write`; an empty parent is made anew each time."""
    parent, child = directory / "parent.vhd", directory / "child.vhd"

    def empty() -> None:
        vhd.create(parent, GIB, unique_id=disks.PARENT_ID)

    empty()
    vhd.snapshot(child, parent)
    disks.write(child, places, unit)
    if full_parent:
        disks.write(parent, range(GIB // _PIECE), _PIECE)
    return Subject(lambda: vhd.coalesce(child), reset=nothing if full_parent else empty)


def _check(size: int, directory: Path) -> Subject:
    path = directory / "full.vhd"
    disks.full(path, size)

    def check() -> None:
        report = vhd.check(path)
        if not report.valid:
            raise RuntimeError(f"a sound disk, but {report.findings}")

    return Subject(check)


def _copy(directory: Path) -> Subject:
    source, ours, peer = (directory / name for name in ("source.vhd", "ours.vhd", "peer.vhd"))
    vhd.create(source, GIB)
    disks.write(source, _ALL, _PIECE)
    return Subject(
        lambda: vhd.copy(source, ours),
        program("qemu-img", "convert", "-t", "writeback", "-f", "vpc", "-O", "vpc", source, peer),
        lambda: disks.remove(ours, peer),
    )


def _process(_: Path) -> Subject:
    """Not ours to make faster, but part of every command: shown apart."""
    return Subject(program(sys.executable, "-c", "import srs.vhd") or nothing)


_RUNS = disks.scattered(GIB, 8192)
_ALL = range(GIB // _PIECE)

WORKS = (
    Work(
        "coalesce 8192 runs into empty",
        0.5,
        "6691",
        partial(_coalesce, _RUNS, PAGE, full_parent=False),
    ),
    Work(
        "coalesce 8192 runs into full",
        0.5,
        "4618",
        partial(_coalesce, _RUNS, PAGE, full_parent=True),
    ),
    Work(
        "coalesce 1 GiB into empty",
        1.0,
        "1388",
        partial(_coalesce, _ALL, _PIECE, full_parent=False),
    ),
    Work(
        "coalesce 1 GiB into full",
        0.8,
        "955",
        partial(_coalesce, _ALL, _PIECE, full_parent=True),
    ),
    Work("copy 1 GiB", 0.7, "3933", _copy),
    Work("check full 100 GiB", 0.5, "3714", partial(_check, 100 * GIB)),
    Work("check full 500 GiB", 2.0, "102729", partial(_check, 500 * GIB)),
    Work("create 100 GiB", 0.001, "2.3", _create),
    Work("snapshot 100 GiB", 0.001, "3.1", _snapshot),
    Work("write 1 GiB", 0.8, "-", _sequential_write),
    Work("read 1 GiB 30 deep, 4 KiB pages", 1.5, "7721", partial(_read, PAGE)),
    Work("read 1 GiB 30 deep, 1 MiB pieces", 1.5, "7721", partial(_read, MIB)),
    Work("python, srs.vhd imported", None, "-", _process),
)
