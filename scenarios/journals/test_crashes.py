"""Calls that die at each of their points: what recovery makes of it, and that all know.

Before its commit point an operation never happened, after it, it did. Recovery runs with the
next call that works with the SR's disks; then medium, database and host agree, siblings are as
they were, and the operation goes through.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
import XenAPI

from scenarios.invariants import check, check_everything
from scenarios.oracle import BLOCK, Model, Span, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository

#: Points of a split, those before its commit point and those after it.
_SPLIT = {
    True: (
        *(f"LVHDRT_clone_vdi_after_{step}" for step in (
            "create_journal", "shrink_parent", "lvcreate", "first_snap", "second_snap")),
    ),
    False: (
        "FileSR_clone_after_create_journal", "FileSR_fail_hardlink", "FileSR_fail_snap1",
        "FileSR_fail_snap2",
    ),
}  # fmt: skip
_SPLIT_DONE = {
    True: (
        "LVHDRT_clone_vdi_after_parent_hidden",
        "LVHDRT_clone_vdi_after_parent_ro",
        "LVHDRT_clone_vdi_before_remove_journal",
    ),
    False: ("FileSR_clone_after_commit",),
}
_INFLATE = tuple(
    f"LVHDRT_inflate_after_{step}"
    for step in ("create_journal", "setSize", "zeroOut", "setSizePhys")
)


def revert_points(sr: Repository) -> tuple[list[str], list[str]]:
    """Points of a revert to a snapshot without data: before and after its commit point."""
    prefix = sr.revert_points[0].removesuffix("create_insert")
    before = [*sr.revert_points, *([f"{prefix}renamed"] if sr.on_volumes else [])]
    return before, [f"{prefix}committed", f"{prefix}before_remove_journal"]


@dataclass(slots=True)
class Tree:
    """A tracked disk, its snapshot, and what each must hold."""

    sr: Repository
    disk: VDI
    snapshot: VDI
    models: dict[str, Model] = field(default_factory=dict)
    writes: int = 0

    @property
    def wanted(self) -> Model:
        """What the disk holds after a revert."""
        return self.models[self.snapshot.ref].fork()

    def write(self, vdi: VDI) -> None:
        """Something new, somewhere."""
        self.writes += 1
        spans = one_sector(f"write {self.writes}", self.writes % 64 * 4096)
        vdi.write(spans)
        self.models[vdi.ref].write(spans)

    def cut(self, point: str, act: Callable[[], object], action: str = "kill") -> None:
        """The call dies at a point."""
        with self.sr.host.fist(point, action) as fist, pytest.raises(XenAPI.Failure):
            act()
        assert fist.reached, point

    def must_be_right(self, *, thoroughly: bool = False) -> None:
        """Once some call has come by, everything agrees; then a scan finds nothing to mend."""
        self.sr.api.SR.update(self.sr.ref)
        if thoroughly:
            check_everything(self.sr, self.models)
            return
        check(self.sr)
        for vdi in (self.disk, self.snapshot):
            vdi.must_hold(self.models[vdi.ref])


@pytest.fixture
def tree(sr: Repository) -> Tree:
    """A disk that was written, snapshot, and written again."""
    disk = sr.create(2 * BLOCK, label="database")
    disk.api.enable_cbt(disk.ref)
    model = Model(disk.size)
    spans = one_sector("wanted", 512)
    model.write(spans)
    disk.write(spans)
    snapshot = disk.snapshot()
    tree = Tree(sr, disk, snapshot, {disk.ref: model.fork(), snapshot.ref: model})
    tree.write(disk)
    return tree


def revert_at_each(tree: Tree, before: Iterable[str], after: Iterable[str]) -> None:
    """Cut a revert at each point, then let it go through."""
    after = list(after)
    for point in [*before, *after]:
        tree.write(tree.disk)
        tree.cut(point, tree.snapshot.revert_live_disk)
        if point in after:
            tree.models[tree.disk.ref] = tree.wanted
        tree.must_be_right()
        assert tree.disk.record()["cbt_enabled"]
        tree.snapshot.revert_live_disk()
        tree.models[tree.disk.ref] = tree.wanted
    tree.must_be_right(thoroughly=True)


def test_revert(tree: Tree) -> None:
    """To a snapshot without data."""
    revert_at_each(tree, *revert_points(tree.sr))


def test_revert_to_a_snapshot_that_was_written_to(tree: Tree) -> None:
    """The snapshot is split on the way; each time it has data again."""
    volumes = tree.sr.on_volumes
    split = "LVHDRT_clone_vdi_after_first_snap" if volumes else "FileSR_fail_snap2"
    before, after = revert_points(tree.sr)
    for point in (split, _SPLIT_DONE[volumes][0], before[-1], after[0]):
        tree.write(tree.snapshot)
        revert_at_each(tree, *(([], [point]) if point in after else ([point], [])))


def test_revert_to_a_blank_snapshot(sr: Repository) -> None:
    """It stands on nothing; the disk has grown since."""
    disk = sr.create(2 * BLOCK)
    snapshot = disk.snapshot()
    blank = Model(disk.size)
    before, after = revert_points(sr)
    for point in (*before[-1:], *after):
        disk.resize(3 * BLOCK)
        tree = Tree(sr, disk, snapshot, {disk.ref: Model(disk.size), snapshot.ref: blank})
        tree.write(disk)
        tree.cut(point, snapshot.revert_live_disk)
        if point in after:
            tree.models[disk.ref] = blank
        tree.must_be_right()
        snapshot.revert_live_disk()
        disk.must_hold(blank)


@pytest.mark.parametrize("operation", ["snapshot", "clone"])
def test_split(tree: Tree, operation: str) -> None:
    """What the call was about to make is there if the disk was split, and complete."""
    done = _SPLIT_DONE[tree.sr.on_volumes]
    points = (*_SPLIT[tree.sr.on_volumes], *done)
    for point in points if operation == "snapshot" else points[-2:]:
        tree.write(tree.disk)
        known = tree.sr.vdis()
        tree.cut(point, getattr(tree.disk, operation))
        tree.must_be_right()
        made = [VDI(tree.sr, ref) for ref in tree.sr.vdis() - known - tree.sr.base_copies()]
        assert len(made) == (point in done)
        for twin in made:
            assert twin.record()["name_label"] == "database"
            twin.must_hold(tree.models[tree.disk.ref])
            twin.destroy()


def test_snapshot_of_an_attached_disk(tree: Tree) -> None:
    """Its user waits until recovery; then what it writes goes where it must."""
    disk, model, host = tree.disk, tree.models[tree.disk.ref], tree.sr.host
    splits = _SPLIT[tree.sr.on_volumes]
    for point in (splits[1], splits[-1], _SPLIT_DONE[tree.sr.on_volumes][0]):
        with disk.plugged() as device:
            spans = [Span(0, point.encode().ljust(512)), Span(BLOCK, point.encode().ljust(512))]
            host.write(device, (spans[0].offset, spans[0].data))
            tree.cut(point, disk.snapshot)
            tree.sr.api.SR.update(tree.sr.ref)
            host.write(device, (spans[1].offset, spans[1].data))
            model.write(spans)
        tree.must_be_right()


def test_resize(tree: Tree) -> None:
    """The size is the old one or the new one, for everybody."""
    inflate = _INFLATE if tree.sr.on_volumes else ()
    for point in ("resize_after_create_journal", *inflate, "resize_after_grow"):
        size = tree.disk.size
        tree.cut(point, lambda: tree.disk.resize(tree.disk.size + 2 * BLOCK))
        tree.sr.api.SR.update(tree.sr.ref)
        grown = size + (2 * BLOCK if point == "resize_after_grow" else 0)
        assert tree.disk.size == grown, point
        tree.models[tree.disk.ref].grow(grown)
        tree.must_be_right()
    tree.disk.resize(8 * BLOCK)
    tree.models[tree.disk.ref].grow(8 * BLOCK)
    tree.must_be_right()


def test_attaching_a_snapshot_for_writing(tree: Tree) -> None:
    """Its volume grows for that."""
    if not tree.sr.on_volumes:
        pytest.skip("files grow as they are written")
    for point in _INFLATE:
        tree.cut(point, lambda: tree.write(tree.snapshot))
        tree.must_be_right()
    tree.write(tree.snapshot)
    tree.must_be_right()


def test_recovery_dies_too(tree: Tree) -> None:
    """Whatever it had done by then, the next one begins again."""
    if not tree.sr.on_volumes:
        pytest.skip("the points are those of volumes")
    tree.cut("LVHDRT_clone_vdi_after_second_snap", tree.disk.snapshot)
    for point in ("before_undo_clone", "after_undo_clone"):
        tree.cut(f"LVHDRT_clone_vdi_{point}", lambda: tree.sr.api.SR.update(tree.sr.ref))
    tree.must_be_right()


def test_as_upstream_tests_it(tree: Tree) -> None:
    """An exit before the commit point: old content, tracking as it was, and a later revert."""
    for point in tree.sr.revert_points:
        tree.write(tree.disk)
        changed = tree.sr.api.VDI.list_changed_blocks(tree.snapshot.ref, tree.disk.ref)
        tree.cut(point, tree.snapshot.revert_live_disk, "error")
        tree.disk.must_hold(tree.models[tree.disk.ref])
        assert tree.disk.record()["cbt_enabled"]
        again = tree.sr.api.VDI.list_changed_blocks(tree.snapshot.ref, tree.disk.ref)
        assert again == changed
        tree.snapshot.revert_live_disk()
        tree.models[tree.disk.ref] = tree.wanted
        tree.must_be_right()


def test_power_cuts(tree: Tree, repositories: RepositoryCache) -> None:
    """The same with a kernel that dies, at the places that matter most."""
    before, after = revert_points(tree.sr)
    for point in (before[-1], after[0]):
        tree.write(tree.disk)
        tree.cut(point, tree.snapshot.revert_live_disk, "power-cut")
        if point in after:
            tree.models[tree.disk.ref] = tree.wanted
        repositories.restart()
        check_everything(tree.sr, tree.models)
    for point in (_SPLIT[tree.sr.on_volumes][-1], _SPLIT_DONE[tree.sr.on_volumes][0]):
        tree.write(tree.disk)
        tree.cut(point, tree.disk.snapshot, "power-cut")
        repositories.restart()
        check_everything(tree.sr, tree.models)
    tree.snapshot.revert_live_disk()
    tree.disk.must_hold(tree.wanted)
