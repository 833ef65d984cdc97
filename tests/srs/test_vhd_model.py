"""A tree of disks against a model that is a dictionary of byte strings.

Hypothesis writes, zeroes, snapshots, grows, flushes, reopens and reads; after each program every
disk has the content of its model, and every file keeps the rules of the format.
"""

import shutil
import struct
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from srs import vhd

MIB = 1 << 20
LIMIT = 8 * MIB


def check_file(path: Path) -> None:
    """The rules for a closed file, from its bytes alone."""
    raw = path.read_bytes()
    assert raw[:512] == raw[-512:]
    (size,) = struct.unpack_from(">Q", raw, 48)
    (slots,) = struct.unpack_from(">I", raw, 512 + 28)
    table_end = 1536 + -(-slots * 4 // 512) * 512
    table = struct.unpack_from(f">{slots}I", raw, 1536)
    metadata_end = table_end + 1024
    for slot in range(8):
        space, offset = struct.unpack_from(">4xI8xQ", raw, 512 + 576 + 24 * slot)
        metadata_end = max(metadata_end, offset + space)
    used = {block: sector for block, sector in enumerate(table) if sector != 0xFFFFFFFF}
    assert all(block < -(-size // (2 * MIB)) for block in used)
    ordered = sorted(used.values())
    assert all(sector % 8 == 7 for sector in ordered)
    assert all(after == before + 4104 for before, after in pairwise(ordered))
    assert not ordered or 0 <= ordered[0] - metadata_end // 512 < 8
    assert len(raw) == max(metadata_end, (ordered[-1] + 4097) * 512 if ordered else 0) + 512
    for gap in ordered:
        start = max(gap - 7, metadata_end // 512)
        assert raw[start * 512 : gap * 512] == bytes((gap - start) * 512)
    assert raw[table_end : table_end + 8] == b"tdbatmap"
    covered = raw[table_end + 512 : table_end + 1024]
    (stored,) = struct.unpack_from(">I", raw, table_end + 24)
    assert stored == ~sum(covered) & 0xFFFFFFFF
    for block in range(4096):
        if covered[block // 8] & (0x80 >> block % 8):
            assert raw[used[block] * 512 :][:512] == b"\xff" * 512


class Disks(RuleBasedStateMachine):
    """Leaves can be written; a disk with children is frozen, as a base copy is."""

    leaves = Bundle("leaves")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.models: dict[Path, bytearray] = {}
        self.open: tuple[Path, vhd.Chain] | None = None

    def teardown(self) -> None:
        self.close()
        for path, model in self.models.items():
            with vhd.open_chain(path) as disk:
                found = disk.read(0, disk.size)
            assert found == model, path
            check_file(path)
        shutil.rmtree(self.directory)

    def fresh(self) -> Path:
        return self.directory / f"{len(self.models)}.vhd"

    def writer(self, path: Path) -> vhd.Chain:
        if self.open is None or self.open[0] != path:
            self.close()
            self.open = (path, vhd.open_chain(path, writable=True))
        return self.open[1]

    @rule()
    def close(self) -> None:
        if self.open is not None:
            self.open[1].close()
            self.open = None

    @rule(target=leaves, blocks=st.integers(1, 3))
    def create(self, blocks: int) -> Path:
        path = self.fresh()
        vhd.create(path, blocks * 2 * MIB, max_size=LIMIT)
        self.models[path] = bytearray(blocks * 2 * MIB)
        return path

    @rule(target=leaves, parent=consumes(leaves), link_empty=st.booleans(), both=st.booleans())
    def snapshot(self, parent: Path, link_empty: bool, both: bool) -> object:
        self.close()
        made = []
        for _ in range(1 + both):
            path = self.fresh()
            vhd.snapshot(path, parent, max_size=LIMIT, link_empty=link_empty)
            self.models[path] = bytearray(self.models[parent])
            made.append(path)
        return multiple(*made)

    @rule(path=leaves, where=st.data(), value=st.integers(0, 255), align=st.sampled_from([1, 512]))
    def write(self, path: Path, where: st.DataObject, value: int, align: int) -> None:
        offset, length = self.pick(path, where, align)
        self.writer(path).write(offset, bytes([value]) * length)
        self.models[path][offset : offset + length] = bytes([value]) * length

    @rule(path=leaves, where=st.data())
    def zero(self, path: Path, where: st.DataObject) -> None:
        offset, length = self.pick(path, where, 1)
        self.writer(path).zero(offset, length)
        self.models[path][offset : offset + length] = bytes(length)

    @rule(path=leaves, where=st.data())
    def read(self, path: Path, where: st.DataObject) -> None:
        offset, length = self.pick(path, where, 1)
        found = self.writer(path).read(offset, length)
        assert found == self.models[path][offset : offset + length]

    @rule(path=leaves, blocks=st.integers(0, 2))
    def resize(self, path: Path, blocks: int) -> None:
        self.close()
        size = min(LIMIT, len(self.models[path]) + blocks * 2 * MIB)
        vhd.resize(path, size)
        self.models[path].extend(bytes(size - len(self.models[path])))

    @rule(path=leaves, hidden=st.booleans())
    def hide(self, path: Path, hidden: bool) -> None:
        self.close()
        vhd.set_hidden(path, hidden)
        assert vhd.query(path).hidden == hidden

    @precondition(lambda self: self.open is not None)
    @rule()
    def flush(self) -> None:
        if self.open is not None:
            self.open[1].flush()

    @invariant()
    def sizes(self) -> None:
        for path, model in self.models.items():
            assert vhd.query(path).size == len(model)

    def pick(self, path: Path, where: st.DataObject, align: int) -> tuple[int, int]:
        """Where to read or write: near a block's edge as likely as anywhere."""
        size = len(self.models[path])
        edges = st.integers(0, size // (2 * MIB)).map(lambda block: block * 2 * MIB)
        nearby = st.integers(-1024, 1024)
        offset = where.draw(st.integers(0, size) | st.tuples(edges, nearby).map(sum))
        offset = min(max(0, offset), size) // align * align
        length = where.draw(st.sampled_from([0, 1, 511, 512, 4096, 2 * MIB, 3 * MIB]))
        return offset, min(-(-length // align) * align, size - offset)


TestDisks = Disks.TestCase
TestDisks.settings = settings(
    max_examples=30,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
