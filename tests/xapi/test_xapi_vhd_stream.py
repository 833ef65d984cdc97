"""VHDs as streams: other readers see what was sent, and what they write is read."""

from __future__ import annotations

import functools
import io
import random
import subprocess
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
import pyvhdi
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xapi import vhd_stream
from xapi.vhd_stream import BLOCK, SECTOR, BadVHD, Image, Reader

MIB = 1 << 20
BASE, CHILD = UUID(int=1), UUID(int=2)


def stream(image: Image, content: bytes) -> bytes:
    """The VHD of a disk of which `content` is the whole."""
    parts = [image.head()]
    parts += [image.block(content[n * BLOCK : (n + 1) * BLOCK]) for n in image.blocks]
    return b"".join([*parts, image.foot()])


def read(document: bytes, onto: bytes = b"") -> bytes:
    """The disk that a VHD makes of `onto`."""
    reader = Reader(io.BytesIO(document).read)
    disk = bytearray(onto.ljust(reader.size, b"\0"))
    for span in reader.spans():
        disk[span.offset : span.offset + len(span.data)] = span.data
    if not reader.differencing:
        for block in reader.missing:
            disk[block * reader.block_size : (block + 1) * reader.block_size] = bytes(
                len(disk[block * reader.block_size : (block + 1) * reader.block_size])
            )
    return bytes(disk)


@functools.cache
def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def disk(size: int, blocks: list[int], seed: int = 0) -> bytes:
    """Noise in some blocks, zeros in the others."""
    parts = [
        noise(seed + n, BLOCK) if n in blocks else bytes(BLOCK) for n in range(size // BLOCK + 1)
    ]
    return b"".join(parts)[:size]


sizes = st.integers(1, 5 * BLOCK // SECTOR).map(lambda sectors: sectors * SECTOR)


@settings(deadline=None, max_examples=8)
@given(sizes, st.sets(st.integers(0, 4)))
@example(BLOCK, {0})
@example(SECTOR, set())
def test_what_is_sent_is_read(size: int, used: set[int]) -> None:
    blocks = sorted(block for block in used if block * BLOCK < size)
    content = disk(size, blocks)
    image = Image(BASE, size, blocks)
    document = stream(image, content)
    assert len(document) == image.length
    assert document.endswith(document[:SECTOR])
    assert read(document, onto=noise(9, size)) == content


def test_a_delta_changes_only_what_it_holds() -> None:
    size = 3 * BLOCK
    base, changed = noise(1, size), noise(2, size)
    document = stream(Image(CHILD, size, [1], BASE), changed)
    expected = base[:BLOCK] + changed[BLOCK : 2 * BLOCK] + base[2 * BLOCK :]
    assert read(document, onto=base) == expected


@pytest.mark.parametrize("size", [5 * BLOCK, 3 * BLOCK + 7 * SECTOR, SECTOR])
def test_qemu_reads_it_and_is_read(tmp_path: Path, size: int) -> None:
    content = disk(size, [0, 2])
    ours, theirs, raw = (tmp_path / name for name in ("ours.vhd", "theirs.vhd", "raw"))
    ours.write_bytes(stream(Image(BASE, size, [n for n in (0, 2) if n * BLOCK < size]), content))
    convert = ["qemu-img", "convert", "-f", "vpc", "-O", "raw", str(ours), str(raw)]
    subprocess.run(convert, check=True)
    assert raw.read_bytes() == content
    options = ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"]
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", *options, str(raw), str(theirs)], check=True
    )
    assert read(theirs.read_bytes(), onto=noise(9, size)) == content


def test_libvhdi_reads_a_chain(tmp_path: Path) -> None:
    size = 4 * BLOCK
    base, changed = disk(size, [0, 1]), disk(size, [0, 1, 3], seed=7)
    (tmp_path / "base.vhd").write_bytes(stream(Image(BASE, size, [0, 1]), base))
    (tmp_path / "child.vhd").write_bytes(stream(Image(CHILD, size, [1, 3], BASE), changed))
    parent, child = pyvhdi.file(), pyvhdi.file()
    parent.open(str(tmp_path / "base.vhd"))
    child.open(str(tmp_path / "child.vhd"))
    assert parent.read_buffer_at_offset(size, 0) == base
    assert child.get_parent_identifier() == parent.get_identifier() == str(BASE)
    assert child.get_parent_filename() == f"{BASE}.vhd"
    child.set_parent(parent)
    assert child.read_buffer_at_offset(size, 0) == base[:BLOCK] + changed[BLOCK:]


GOOD = stream(Image(BASE, 2 * BLOCK, [0, 1]), noise(3, 2 * BLOCK))


def changed(at: int, value: bytes, checksum: tuple[int, int] | None = None) -> bytes:
    """The good stream with other bytes somewhere, and a checksum (of where, and where it is)."""
    document = bytearray(GOOD)
    document[at : at + len(value)] = value
    if checksum:
        start, field = checksum
        length = SECTOR if start == 0 else 1024
        document[field : field + 4] = bytes(4)
        total = ~sum(document[start : start + length]) & 0xFFFFFFFF
        document[field : field + 4] = total.to_bytes(4, "big")
    return bytes(document)


FOOTER, HEADER = (0, 64), (512, 512 + 36)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "ends 512 bytes early"),
        (noise(1, 4096), "no VHD footer"),
        (GOOD[:-1], ""),
        (GOOD[: len(GOOD) - SECTOR - 1], "ends 1 bytes early"),
        (changed(50, b"\1"), "checksum of the VHD footer"),
        (changed(600, b"\1"), "checksum of the dynamic header"),
        (changed(60, b"\0\0\0\2", FOOTER), "only dynamic and differencing"),
        (changed(16, bytes(8), FOOTER), "leads back to 0"),
        (changed(48, b"\xff" * 8, FOOTER), "is too large"),
        (changed(512 + 28, b"\0\0\0\1", HEADER), "a table of 1 blocks"),
        (changed(512 + 32, b"\0\0\0\0", HEADER), "blocks of 0 bytes"),
        (changed(512 + 32, b"\x80\0\0\0", HEADER), "blocks of 2147483648 bytes"),
        (changed(1536, b"\0\0\0\1"), "leads back to 512"),
        (changed(1536, b"\0\0\0\4\0\0\0\4"), "leads back to 2048"),
    ],
)
def test_bad_streams(document: bytes, complaint: str) -> None:
    if not complaint:
        read(document)  # nothing depends on the footer at the end
        return
    with pytest.raises(BadVHD, match=complaint):
        read(document)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2048), st.binary(min_size=1, max_size=8))
def test_garbled_heads_are_refused_or_read(at: int, value: bytes) -> None:
    try:
        disk = read(changed(at, value))
    except BadVHD:
        return
    assert len(disk) == 2 * BLOCK


def test_an_endless_source_is_read_no_further_than_the_footer() -> None:
    taken = 0
    document = io.BytesIO(GOOD + bytes(1 << 20))

    def source(length: int) -> bytes:
        nonlocal taken
        taken += length
        return document.read(length)

    assert len(list(Reader(source).spans())) == 2
    assert taken == len(GOOD)


def test_a_table_is_not_read_for_a_disk_that_is_too_large() -> None:
    head = io.BytesIO(Image(BASE, 2040 << 30, ()).head())
    with pytest.raises(BadVHD, match="too large for 1048576"):
        Reader(head.read, MIB)
    assert head.tell() <= 3 * SECTOR


def test_a_table_is_kept_as_small_as_it_is_sent() -> None:
    """The smallest blocks make the largest table: here 4 MiB."""
    entries = MIB
    image = Image(BASE, entries * 4096, ())
    header = vhd_stream._with_checksum(
        vhd_stream._HEADER.pack(
            *(b"cxsparse", 0, 1536, 0x00010000, entries, 4096, 0, bytes(16), 0, b"", b"")
        ),
        36,
    )
    head = io.BytesIO(image.foot() + header)
    tracemalloc.start()
    try:
        reader = Reader(lambda length: head.read(length) or b"\xff" * length)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in reader.missing) == entries
    assert peak < 4 * entries * 4
