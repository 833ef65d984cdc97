"""Which footer speaks for a disk: no sector of a guest, and none that a cut left behind."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from powercut import Tape, device, taping
from readers import by_us
from test_vhd_bad import file_limit

from srs import vhd
from srs.vhd.format import DYNAMIC, FIXED, NOWHERE, Footer
from srs.vhd.reset import drop_data

MIB = 1 << 20
SIZE = 4 * MIB
BLOCK = vhd.BLOCK


def forged(size: int, kind: int = FIXED) -> Footer:
    """A footer that a guest made up, of a hidden disk."""
    return replace(Footer.new(size, kind, UUID(int=7), 0), data_offset=NOWHERE, hidden=1)


def end_of_block(blocks: int) -> int:
    """The byte after so many blocks of a new disk: the first bitmap is sector 7, 4104 apart."""
    return blocks * 4104 * 512


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhd"
    vhd.create(path, SIZE, max_size=4 * SIZE)
    return path


def put(path: Path, offset: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


def kind_of(path: Path) -> tuple[int, int, int]:
    """Type, size and hidden."""
    info = vhd.query(path)
    return info.disk_type, info.size, info.hidden


def every_cut(tape: Tape, first: int = 0) -> Iterator[None]:
    """Cut behind each event from ``first`` on, four times."""
    chance = random.Random(0)
    for at in range(first, len(tape) + 1):
        for _ in range(4):
            tape.cut(at, chance)
            yield


# -- what a guest writes


def test_running_disk_ends_with_its_own_footer(disk: Path) -> None:
    """Whoever looks at it between writes sees what it is, even if the guest knows the place."""
    own = disk.read_bytes()[:512]
    with vhd.open_chain(disk, writable=True) as chain:
        for blocks in (1, 2):
            guest = forged(end_of_block(blocks) - 512).pack()
            chain.write(blocks * BLOCK - 512, guest)
            assert disk.read_bytes()[end_of_block(blocks) - 512 :] == guest + own
            assert kind_of(disk) == (DYNAMIC, SIZE, 0)
            assert vhd.check(disk).valid


SECTORS: list[Callable[[int], bytes]] = [
    lambda at: forged(MIB).pack(),
    lambda at: forged(at).pack(),
    lambda at: forged(1 << 40).pack(),
    lambda at: forged(MIB, DYNAMIC).pack(),
    lambda at: forged(at).poisoned(),
]


@pytest.mark.parametrize("sector", SECTORS)
def test_file_that_ends_with_a_sector_of_its_guest(
    disk: Path, sector: Callable[[int], bytes]
) -> None:
    """As a cut leaves it, or another writer while he has it open."""
    at = end_of_block(1) - 512
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(0, b"d" * 512)
        chain.write(BLOCK - 512, sector(at))
    os.truncate(disk, at + 512)
    expected = b"d" * 512 + bytes(BLOCK - 1024) + sector(at) + bytes(SIZE - BLOCK)
    assert kind_of(disk) == (DYNAMIC, SIZE, 0)
    assert by_us(disk) == expected
    assert not vhd.check(disk).valid
    assert vhd.check(disk, ignore_footer=True).valid
    vhd.repair(disk)
    assert vhd.check(disk).valid
    assert by_us(disk) == expected


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("poisoned", [False, True])
def test_fixed_disk_stays_one(tmp_path: Path, on_device: bool, poisoned: bool) -> None:
    """A guest could have a sparse disk read whatever file of the host it names as its parent."""
    path = tmp_path / "fixed.vhd"
    path.write_bytes(bytes(5 * MIB))
    guest = replace(forged(MIB, vhd.DIFFERENCING), data_offset=512)
    with device(pretend=on_device):
        vhd.create_fixed(path, SIZE)
        with vhd.open_chain(path, writable=True) as chain:
            chain.write(0, guest.poisoned() if poisoned else guest.pack())
        assert kind_of(path) == (FIXED, SIZE, 0)
        assert vhd.check(path).valid


def test_cut_under_a_guest_that_writes_footers(disk: Path) -> None:
    chance = random.Random(0)
    with taping(disk) as tape, vhd.open_chain(disk, writable=True) as chain:
        for sector in [*chance.sample(range(SIZE // 512), 20), 4095, 8191]:
            chain.write(sector * 512, forged(chance.randrange(512, 8 * MIB, 512)).pack())
            if chance.random() < 0.2:
                chain.flush()
    for _ in every_cut(tape):
        assert kind_of(disk) == (DYNAMIC, SIZE, 0)


# -- two cuts


def grow(path: Path) -> None:
    vhd.resize(path, 2 * SIZE)


def hide(path: Path) -> None:
    vhd.set_hidden(path, True)


def append(path: Path) -> None:
    with vhd.open_chain(path, writable=True) as chain:
        chain.write(0, b"a" * BLOCK)


def give_room_back(path: Path) -> None:
    vhd.set_physical_size(path, end_of_block(1) + 512)


@pytest.mark.parametrize("change", [grow, hide])
@pytest.mark.parametrize("later", [append, drop_data, grow, hide, give_room_back])
def test_what_one_cut_left_the_next_does_not_take_back(
    disk: Path, change: Callable[[Path], None], later: Callable[[Path], None]
) -> None:
    """The first falls between the two footers, so that only the one at the end is new."""
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(BLOCK, b"b" * 512)
    vhd.set_physical_size(disk, end_of_block(1) + 1024)
    backup = disk.read_bytes()[:512]
    change(disk)
    put(disk, 0, backup)
    before = kind_of(disk)
    assert before != (DYNAMIC, SIZE, 0)
    with taping(disk) as tape:
        later(disk)
    allowed = {before, kind_of(disk)}
    for _ in every_cut(tape):
        assert kind_of(disk) in allowed


def test_flushed_data_behind_the_old_end_survive(disk: Path) -> None:
    backup = disk.read_bytes()[:512]
    grow(disk)
    put(disk, 0, backup)
    with taping(disk) as tape, vhd.open_chain(disk, writable=True) as chain:
        chain.write(6 * MIB, b"paid" * 128)
        chain.flush()
        paid = len(tape)
        chain.write(0, b"z" * BLOCK)
    for _ in every_cut(tape, paid):
        with vhd.open_chain(disk) as chain:
            assert chain.read(6 * MIB, 512) == b"paid" * 128


def test_lost_backup_is_written_before_the_footer_moves(disk: Path) -> None:
    backup = disk.read_bytes()[:512]
    put(disk, 0, bytes(512))
    with taping(disk) as tape:
        append(disk)
    for _ in every_cut(tape):
        assert kind_of(disk) == (DYNAMIC, SIZE, 0)
    assert disk.read_bytes()[:512] == backup


def test_entries_behind_the_end_do_not_come_back(disk: Path) -> None:
    """An old backup that was told to decide left them, and blocks now lie where they lead."""
    backup = disk.read_bytes()[:512]
    grow(disk)
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(6 * MIB, b"o" * BLOCK)
    put(disk, 0, backup)
    vhd.repair(disk, backup=True)
    append(disk)
    grow(disk)
    assert by_us(disk) == b"a" * BLOCK + bytes(2 * SIZE - BLOCK)
    assert vhd.check(disk).valid


# -- appends that fail


@pytest.mark.parametrize("room", [0, 512, 3 * 512, 4096, MIB])
def test_block_that_did_not_fit_leaves_the_file_as_it_was(disk: Path, room: int) -> None:
    append(disk)
    before = disk.read_bytes()
    with (
        vhd.open_chain(disk, writable=True) as chain,
        file_limit(len(before) + room),
        pytest.raises(vhd.StorageFailed),
    ):
        chain.write(BLOCK, b"n" * BLOCK)
    assert disk.read_bytes() == before


def test_blocks_before_the_one_that_did_not_fit_are_kept(disk: Path) -> None:
    with vhd.open_chain(disk, writable=True) as chain:
        chain.write(0, b"a" * BLOCK)
        with file_limit(disk.stat().st_size), pytest.raises(vhd.StorageFailed):
            chain.write(BLOCK, b"n" * BLOCK)
    assert disk.stat().st_size == end_of_block(1) + 512
    assert vhd.check(disk).valid
    assert by_us(disk) == b"a" * BLOCK + bytes(SIZE - BLOCK)


def test_no_room_for_the_old_footer_either(disk: Path) -> None:
    """It was lost in a cut, which also left a tail; closing makes up for it."""
    size = disk.stat().st_size
    put(disk, size - 512, b"tail" * MIB)
    with (
        vhd.open_chain(disk, writable=True) as chain,
        file_limit(size - 512),
        pytest.raises(vhd.StorageFailed),
    ):
        chain.write(BLOCK, b"n" * BLOCK)
    assert disk.stat().st_size == size
    assert vhd.check(disk).valid


# -- speed


def test_footers_do_not_keep_the_kernel_from_writing_behind(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that grows is written in a row, but for them."""
    advised: list[int] = []
    vhd.resize(disk, 4 * SIZE)
    monkeypatch.setattr("os.posix_fadvise", lambda fd, at, length, advice: advised.append(length))
    with vhd.open_chain(disk, writable=True) as chain:
        for block in range(6):
            chain.write(block * BLOCK, b"x" * BLOCK)
    assert sum(advised) >= 8 * MIB
