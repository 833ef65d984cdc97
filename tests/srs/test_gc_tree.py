"""What a collector finds to do in any tree, and what is left when it has done it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from srs.gc.tree import Forest
from srs.vdi import Disk

SIZE = 2 << 20


@st.composite
def forests(draw: st.DrawFn) -> list[Disk]:
    """Trees whose inner nodes are hidden; of the leaves some are, some roots are raw."""
    parents = draw(
        st.lists(st.integers(-1, 12), max_size=12).map(
            lambda drawn: [min(parent, at - 1) for at, parent in enumerate(drawn)]
        )
    )
    disks = []
    for at, parent in enumerate(parents):
        hidden = at in parents or draw(st.booleans())
        raw = parent < 0 and draw(st.booleans())
        below = str(parent) if parent >= 0 else ""
        disks.append(Disk(str(at), SIZE, SIZE, raw=raw, hidden=hidden, parent=below))
    return disks


def step(forest: Forest) -> Forest | None:
    """The forest after the next thing that a collector does; None if there is nothing to do."""
    disks = dict(forest.disks)
    if garbage := forest.garbage():
        for disk in garbage:
            assert not any(other.parent == disk.uuid for other in disks.values())
            del disks[disk.uuid]
    elif base := next(iter(forest.coalesceable()), None):
        del disks[base.uuid]
        for child in forest.children(base.uuid):
            disks[child.uuid] = replace(child, parent=base.parent)
    elif leaf := next(iter(forest.leaf_coalesceable()), None):
        parent = disks.pop(leaf.parent)
        disks[leaf.uuid] = replace(leaf, parent=parent.parent)
    else:
        assert not forest.has_work
        return None
    assert forest.has_work
    return Forest(disks.values())


@given(forests())
def test_the_fixed_point(disks: list[Disk]) -> None:
    forest = Forest(disks)
    steps = 0
    while (following := step(forest)) is not None:
        forest, steps = following, steps + 1
    assert steps <= len(disks)
    visible = {disk.uuid for disk in disks if not disk.hidden}
    assert {disk.uuid for disk in forest.disks.values() if not disk.hidden} == visible
    for disk in forest.disks.values():
        children = forest.children(disk.uuid)
        assert not disk.parent or disk.parent in forest.disks
        if disk.hidden:
            assert len(children) >= 2 or (disk.raw and len(children) == 1)
        else:
            assert not children


@given(forests(), st.data())
def test_what_is_spared_is_no_garbage_and_neither_is_what_it_stands_on(
    disks: list[Disk], data: st.DataObject
) -> None:
    forest = Forest(disks)
    spared = data.draw(st.sets(st.sampled_from(sorted(forest.disks)))) if disks else set()
    garbage = {disk.uuid for disk in forest.garbage(spared)}
    assert garbage <= {disk.uuid for disk in forest.garbage()}
    for uuid in spared:
        while uuid:
            assert uuid not in garbage
            uuid = forest.disks[uuid].parent


def test_the_root_comes_first_and_the_tallest_tree() -> None:
    chain = [
        Disk(f"a{n}", SIZE, 0, hidden=n < 4, parent=f"a{n - 1}" if n else "") for n in range(5)
    ]
    small = [
        Disk(f"b{n}", SIZE, 0, hidden=n < 2, parent=f"b{n - 1}" if n else "") for n in range(3)
    ]
    forest = Forest([*small, *chain])
    assert [disk.uuid for disk in forest.coalesceable()] == ["a1", "a2", "a3", "b1"]
    assert [disk.uuid for disk in forest.leaf_coalesceable()] == ["a4", "b2"]
    assert [disk.uuid for disk in forest.leaves_above("a1")] == ["a4"]


def test_a_loop_is_left_alone() -> None:
    loop = [
        Disk("a", SIZE, 0, hidden=True, parent="b"),
        Disk("b", SIZE, 0, hidden=True, parent="a"),
        Disk("leaf", SIZE, 0, parent="a"),
    ]
    assert not Forest(loop).has_work
