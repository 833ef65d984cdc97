"""What goes wrong with a disk, switched on and off while it is in use.

    faults = Faults(host.layer(disk))
    with faults.write_errors():
        ...                         every write fails with EIO, reads go on

Each fault is a table of device-mapper targets (reference: the kernel's documentation of
dm-flakey, dm-dust and dm-delay). It is on in the block, for requests that come from then on; the
layer passes everything through afterwards. A host whose power was cut in the block has no fault
when it boots again.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from srs.devicemapper import Row
from testbed.devices.layer import SECTOR, Layer
from testbed.errors import KernelDied

#: Of dm-flakey: up for no second, down for this many, and again.
_ALWAYS_DOWN: Final = "0 3600"


class Faults:
    """The faults of one disk.

    Args:
        layer: what lies below it.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Every request fails with EIO, a flush too: a disk that is gone."""
        with self._gone_afterwards():
            self.layer.switch([(0, self.layer.sectors, "error", "")])
            yield

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Writes fail with EIO, reads go on."""
        with self._gone_afterwards():
            self._flakey("error_writes")
            yield

    @contextmanager
    def lost_writes(self) -> Iterator[None]:
        """Writes succeed and change nothing: a disk that lies until its power is cut."""
        with self._gone_afterwards():
            self._flakey("drop_writes")
            yield

    @contextmanager
    def bad_ranges(self, ranges: Iterable[tuple[int, int]]) -> Iterator[None]:
        """(offset, length) in bytes fail with EIO, read or written; all else goes on."""
        with self._gone_afterwards():
            self.layer.switch(self._rows(ranges))
            yield

    @contextmanager
    def bad_sectors(self, ranges: Iterable[tuple[int, int]]) -> Iterator[None]:
        """(offset, length) in bytes cannot be read until they are written, which heals them."""
        with self._gone_afterwards():
            self.layer.target("dust", str(SECTOR), module="dm-dust")
            for offset, length in ranges:
                for sector in range(offset // SECTOR, -(-(offset + length) // SECTOR)):
                    self.layer.message(f"addbadblock {sector}")
            self.layer.message("enable")
            yield

    @contextmanager
    def delay(self, milliseconds: int) -> Iterator[None]:
        """Every request takes so much longer."""
        with self._gone_afterwards():
            self.layer.target("delay", str(milliseconds), module="dm-delay")
            yield

    @contextmanager
    def hang(self) -> Iterator[None]:
        """Requests wait, and go on afterwards."""
        self.layer.suspend()
        try:
            yield
        finally:
            with suppress(KernelDied):
                self.layer.resume()

    def _flakey(self, feature: str) -> None:
        self.layer.target("flakey", f"{_ALWAYS_DOWN} 1 {feature}", module="dm-flakey")

    def _rows(self, ranges: Iterable[tuple[int, int]]) -> list[Row]:
        rows: list[Row] = []
        at = 0
        for offset, length in sorted(ranges):
            begin, end = offset // SECTOR, -(-(offset + length) // SECTOR)
            if begin > at:
                rows.append((at, begin - at, "linear", f"{self.layer.below} {at}"))
            if end > max(begin, at):
                rows.append((max(begin, at), end - max(begin, at), "error", ""))
                at = end
        if at < self.layer.sectors:
            rows.append((at, self.layer.sectors - at, "linear", f"{self.layer.below} {at}"))
        return rows

    @contextmanager
    def _gone_afterwards(self) -> Iterator[None]:
        try:
            yield
        finally:
            with suppress(KernelDied):
                self.layer.pass_through()
