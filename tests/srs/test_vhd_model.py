"""A tree of disks against a model that is a dictionary of byte strings.

Hypothesis writes, zeroes, snapshots, copies, resizes with and without a journal, coalesces, takes
disks out of the middle of a chain, flushes, reopens and reads. After each program every disk has
the content of its model, and every file keeps the rules of the format.
"""

import os
import shutil
import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
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
    assert all(after >= before + 4104 for before, after in pairwise(ordered))
    assert not ordered or ordered[0] >= metadata_end // 512
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
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(dir=memory)).resolve()
        self.models: dict[Path, bytearray] = {}
        self.parents: dict[Path, Path] = {}
        self.made = 0
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
        self.made += 1
        return self.directory / f"{self.made}.vhd"

    def writer(self, path: Path) -> vhd.Chain:
        if self.open is None or self.open[0] != path:
            self.close()
            self.open = (path, vhd.open_chain(path, writable=True))
        return self.open[1]

    @initialize(target=leaves, depth=st.integers(0, 3))
    def chain(self, depth: int) -> Path:
        """Something to coalesce: disks that overlap, each the only child of the one below."""
        path = self.create(2, room=True)
        for level in range(depth):
            self.put(path, 1000 + level * 512, bytes([level + 1]) * (MIB + 4096))
            (path,) = self.snapshot_of(path, link_empty=True, count=1)
        return path

    @rule()
    def close(self) -> None:
        if self.open is not None:
            self.open[1].close()
            self.open = None

    def only_child(self, path: Path) -> bool:
        """True if nothing but ``path`` stands on its parent."""
        return list(self.parents.values()).count(self.parents.get(path, path)) == 1

    @rule(target=leaves, blocks=st.integers(1, 3), room=st.booleans())
    def make(self, blocks: int, room: bool) -> Path:
        return self.create(blocks, room=room)

    def create(self, blocks: int, *, room: bool) -> Path:
        path = self.fresh()
        vhd.create(path, blocks * 2 * MIB, max_size=LIMIT if room else 0)
        self.models[path] = bytearray(blocks * 2 * MIB)
        return path

    @rule(target=leaves, parent=consumes(leaves), link_empty=st.booleans(), both=st.booleans())
    def snapshot(self, parent: Path, link_empty: bool, both: bool) -> object:
        return multiple(*self.snapshot_of(parent, link_empty, 1 + both))

    def snapshot_of(self, parent: Path, link_empty: bool, count: int) -> list[Path]:
        self.close()
        made = []
        for _ in range(count):
            path = self.fresh()
            vhd.snapshot(path, parent, max_size=LIMIT, link_empty=link_empty)
            self.models[path] = bytearray(self.models[parent])
            if found := vhd.query(path).parent:
                self.parents[path] = Path(found)
            made.append(path)
        return made

    @rule(target=leaves, path=leaves)
    def copy(self, path: Path) -> Path:
        self.close()
        target = self.fresh()
        vhd.copy(path, target)
        assert vhd.query(target).parent is None
        self.models[target] = bytearray(self.models[path])
        return target

    @rule(path=leaves)
    def coalesce(self, path: Path) -> None:
        """Into the parent, which then has the same content."""
        self.close()
        parent = self.parents.get(path)
        if parent and self.only_child(path):
            self.make_room(parent, path)
            vhd.coalesce(path)
            self.models[parent][: len(self.models[path])] = self.models[path]

    @rule(path=leaves)
    def take_out_the_middle(self, path: Path) -> None:
        """As a garbage collector does: coalesce the parent, relink the leaf, drop the parent."""
        self.close()
        middle = self.parents.get(path)
        base = self.parents.get(middle) if middle else None
        if not middle or not base or not self.only_child(path) or not self.only_child(middle):
            return
        self.make_room(base, middle)
        vhd.coalesce(middle)
        vhd.set_parent(path, base)
        self.models[base] = self.models.pop(middle)
        self.parents[path] = base
        del self.parents[middle]
        middle.unlink()

    def make_room(self, below: Path, above: Path) -> None:
        """Grow ``below`` to the size of ``above``, which is never smaller."""
        if len(self.models[below]) < len(self.models[above]):
            self.change_size(below, len(self.models[above]))

    def change_size(self, path: Path, size: int) -> None:
        vhd.resize(path, size, journal=self.directory / "journal")
        assert not (self.directory / "journal").exists()
        self.resized(path, size)

    def resized(self, path: Path, size: int) -> None:
        """What a disk gains is zeros."""
        self.models[path] = self.models[path][:size].ljust(size, b"\0")

    @rule(path=leaves, where=st.data(), value=st.integers(0, 255), align=st.sampled_from([1, 512]))
    def write(self, path: Path, where: st.DataObject, value: int, align: int) -> None:
        offset, length = self.pick(path, where, align)
        self.put(path, offset, bytes([value]) * length)

    def put(self, path: Path, offset: int, data: bytes) -> None:
        self.writer(path).write(offset, data)
        self.models[path][offset : offset + len(data)] = data

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
    def grow(self, path: Path, blocks: int) -> None:
        """Without a journal, as far as there is room."""
        self.close()
        size = min(vhd.query(path).max_size, len(self.models[path]) + blocks * 2 * MIB)
        vhd.resize(path, size)
        self.resized(path, size)

    @rule(path=leaves, blocks=st.integers(1, LIMIT // 2 // MIB))
    def resize_with_a_journal(self, path: Path, blocks: int) -> None:
        """A disk does not become smaller than its parent."""
        self.close()
        size, parent = blocks * 2 * MIB, self.parents.get(path)
        if parent and size < len(self.models[parent]):
            with pytest.raises(vhd.SizeRefused):
                self.change_size(path, size)
        else:
            self.change_size(path, size)

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
    max_examples=120,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
