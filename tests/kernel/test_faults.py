"""Each fault of a disk does what it says while it is on, and is gone afterwards."""

import errno
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from testbed.devices.disk import MiB, create_file
from testbed.devices.faults import Faults
from testbed.devices.layer import Layer
from testbed.errors import GuestFault
from testbed.kernel.uml import UmlKernel

SIZE = 8 * MiB
PAGE = 4096
OLD, NEW = b"\x01" * PAGE, b"\x02" * PAGE


class Disk:
    """A layered disk whose every page holds OLD."""

    def __init__(self, guest: UmlKernel) -> None:
        self.guest = guest
        self.path = create_file(guest.state.path / "faulty", SIZE)
        self.device = guest.add_disk(self.path, layered=True)
        self.faults = Faults(Layer(guest, guest.below_layer(self.device), SIZE))
        self.write(0, OLD * 16)

    def read(self, offset: int) -> bytes:
        asked = {"path": self.device, "offset": offset, "length": PAGE}
        return self.guest.exchange("read", asked).blob

    def write(self, offset: int, data: bytes) -> None:
        spans = [(offset, len(data))]
        self.guest.call("write", blob=data, path=self.device, spans=spans, sync=True)

    def fails(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except GuestFault as fault:
            return fault.errno == errno.EIO
        return False


@pytest.fixture
def disk(guest: UmlKernel) -> Iterator[Disk]:
    made = Disk(guest)
    yield made
    assert made.read(8 * PAGE) == OLD
    made.write(0, NEW)
    assert made.read(0) == NEW
    guest.remove_disk(made.device)
    made.path.unlink()


def test_errors(disk: Disk) -> None:
    with disk.faults.errors():
        assert disk.fails(lambda: disk.read(0))
        assert disk.fails(lambda: disk.write(0, NEW))


def test_write_errors(disk: Disk) -> None:
    with disk.faults.write_errors():
        assert disk.read(0) == OLD
        assert disk.fails(lambda: disk.write(0, NEW))
    assert disk.read(0) == OLD


def test_lost_writes(disk: Disk) -> None:
    with disk.faults.lost_writes():
        disk.write(0, NEW)
        assert disk.read(0) == OLD
    assert disk.read(0) == OLD


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, PAGE)],
        [(PAGE, PAGE), (0, PAGE)],
        [(0, 3 * PAGE), (PAGE, PAGE)],
        [(SIZE - PAGE, PAGE)],
        [(PAGE, 512), (3 * PAGE, 2 * PAGE)],
    ],
)
def test_bad_ranges(disk: Disk, ranges: list[tuple[int, int]]) -> None:
    """In any order, side by side, one in the other, at either end."""
    bad = {page for at, length in ranges for page in range(at // PAGE, -(-(at + length) // PAGE))}
    with disk.faults.bad_ranges(ranges):
        for page in (*range(8), SIZE // PAGE - 1):
            assert disk.fails(partial(disk.read, page * PAGE)) == (page in bad)


def test_bad_sectors(disk: Disk) -> None:
    """They cannot be read until they are written."""
    with disk.faults.bad_sectors([(PAGE, 1024)]):
        assert disk.read(0) == OLD
        assert disk.fails(lambda: disk.read(PAGE))
        disk.write(PAGE, NEW)
        assert disk.read(PAGE) == NEW


def test_delay(disk: Disk) -> None:
    with disk.faults.delay(5):
        (row,) = disk.guest.call("dm_table", name=disk.faults.layer.name)
        assert row[2] == "delay"
        disk.write(0, NEW)
        assert disk.read(0) == NEW


def test_hang(disk: Disk) -> None:
    with disk.faults.hang(), pytest.raises(TimeoutError):
        disk.guest.call("digest", path=disk.device, timeout=0.5)
    assert disk.read(0) == OLD
