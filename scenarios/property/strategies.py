"""Programs for Hypothesis: random, but each step makes sense where it stands in the model.

Sizes and offsets are those at which images have their seams: first and last sectors, borders of
blocks and pages, whole blocks, and bytes in the middle of a sector.
"""

from collections.abc import Callable, Mapping
from string import ascii_lowercase
from typing import Final

from hypothesis import strategies as st

from scenarios.oracle import BLOCK
from scenarios.property.model import World
from scenarios.property.steps import (
    Attach,
    Clone,
    Collect,
    Crash,
    Create,
    Destroy,
    Detach,
    MakeVM,
    Operation,
    PowerCut,
    Program,
    Replug,
    Resize,
    Revert,
    RevertVM,
    Scan,
    Snapshot,
    SnapshotVM,
    Step,
    Track,
    Write,
)
from testbed.fist import POWER_CUT

_MOST_BLOCKS: Final = 4
#: As many disks are kept; a tree that branches needs no more.
_MOST_DISKS: Final = 8
_LENGTHS: Final = (512, 1024, 100, 4096, 8192, 3 * 512, 40_000, BLOCK)
_SPLIT: Final = {
    True: (
        "LVHDRT_clone_vdi_after_create_journal",
        "LVHDRT_clone_vdi_after_shrink_parent",
        "LVHDRT_clone_vdi_after_first_snap",
        "LVHDRT_clone_vdi_after_second_snap",
        "LVHDRT_clone_vdi_after_parent_hidden",
        "LVHDRT_clone_vdi_after_parent_ro",
        "LVHDRT_clone_vdi_before_remove_journal",
    ),
    False: (
        "FileSR_clone_after_create_journal",
        "FileSR_fail_hardlink",
        "FileSR_fail_snap1",
        "FileSR_fail_snap2",
        "FileSR_clone_after_commit",
    ),
}
_REVERT: Final = {
    True: tuple(
        f"LVM_revert_{step}"
        for step in (
            "create_insert", "create_src", "create_dest", "renamed", "committed",
            "before_remove_journal",
        )
    ),
    False: tuple(
        f"FileSR_revert_{step}"
        for step in (
            "create_insert", "create_src", "create_dest", "committed", "before_remove_journal",
        )
    ),
}  # fmt: skip
_RESIZE: Final = {
    True: (
        "resize_after_create_journal", "resize_after_grow", "LVHDRT_inflate_after_setSize",
        "LVHDRT_inflate_after_setSizePhys",
    ),
    False: ("resize_after_create_journal", "resize_after_grow"),
}  # fmt: skip

#: The world, and a fresh name -> operations.
_Builder = Callable[[World, str], st.SearchStrategy[Operation]]


def _points(step: Operation, *, on_volumes: bool) -> tuple[str, ...]:
    """Where an operation may be interrupted."""
    match step:
        case Snapshot() | Clone():
            return _SPLIT[on_volumes]
        case Revert():
            return _REVERT[on_volumes]
        case Resize():
            return _RESIZE[on_volumes]
        case _:
            return ()


@st.composite
def programs(
    draw: st.DrawFn, *, longest: int, on_volumes: bool, power_cuts: bool = False
) -> Program:
    """A program of up to `longest` steps, which most of them have nearly.

    What an SR costs that is clean, and looked at in the end, is shared by all steps.

    Args:
        draw: Hypothesis's.
        longest: steps.
        on_volumes: whether FIST points are those of an LVM SR.
        power_cuts: whether the host may lose its power: a boot takes as long as fifty steps.
    """
    world = World()
    steps: list[Step] = []
    while len(steps) < longest and (not steps or draw(st.integers(0, 99))):
        kind = draw(st.sampled_from(_kinds(world, power_cuts=power_cuts)))
        operation = draw(_BUILDERS[kind](world, _name(len(steps))))
        step: Step = operation
        refused = world.refusal(operation)
        points = _points(operation, on_volumes=on_volumes)
        if points and not refused and draw(st.integers(0, 4)) == 4:
            actions = ["kill", "error", *([POWER_CUT] if power_cuts else [])]
            step = Crash(operation, draw(st.sampled_from(points)), draw(st.sampled_from(actions)))
        if not refused and not isinstance(operation, Write):  # bytes decide nothing here
            world.do(operation)
        steps.append(step)
    return tuple(steps)


def _kinds(world: World, *, power_cuts: bool) -> list[str]:
    """What may come next, as often as it shall come."""
    disks = world.disks.values()
    room = len(disks) < _MOST_DISKS
    snapshot_vms = any(vm.of for vm in world.vms.values())
    weights = {
        "create": 1 * room,
        "write": 10 * bool(_writable(world)),
        "snapshot": 5 * room * bool(disks),
        "clone": 1 * room * bool(disks),
        "revert": 6 * any(disk.of for disk in disks),
        "resize": 2 * bool(disks),
        "destroy": 2 * bool(_loose(world)),
        "attach": 2 * any(not disk.attached for disk in disks),
        "detach": 3 * any(disk.attached for disk in disks),
        "track": 2 * bool(disks),
        "vm": 1 * bool(_plain(world) and not world.vms),
        "snapshot vm": 2 * bool(world.vms and room),
        "revert vm": 2 * snapshot_vms,
        "scan": 1 * bool(disks),
        "replug": 1 * bool(disks),
        "collect": 2 * bool(disks),
        "power cut": 1 * power_cuts * bool(disks),
    }
    return [kind for kind, weight in weights.items() for _ in range(weight)]


def _loose(world: World) -> list[str]:
    """Disks that no VM has."""
    return [name for name in world.disks if world.makes_sense(Destroy(name))]


def _name(number: int) -> str:
    """What the step of that number calls what it makes: a to z, aa, ab, ..."""
    first, last = divmod(number, len(ascii_lowercase))
    return (_name(first - 1) if first else "") + ascii_lowercase[last]


def _disk(world: World, *, snapshots: bool = False) -> st.SearchStrategy[str]:
    names = [name for name, disk in world.disks.items() if disk.of or not snapshots]
    return st.sampled_from(names)


def _sizes() -> st.SearchStrategy[int]:
    return st.integers(1, _MOST_BLOCKS).map(lambda blocks: blocks * BLOCK)


@st.composite
def _writes(draw: st.DrawFn, world: World) -> Write:
    names = _writable(world)
    attached = [name for name in names if world.disks[name].attached]
    # An open disk takes a write in a tenth of the time that opening and closing one does.
    name = draw(st.sampled_from((attached or names) if draw(st.integers(0, 2)) else names))
    size = world.disks[name].content.size
    length = draw(st.sampled_from(_LENGTHS))
    block = draw(st.integers(0, size // BLOCK - 1)) * BLOCK
    inside = (0, 512, 7 * 512, 64 << 10, BLOCK // 2 + 300, BLOCK - 512, BLOCK - 4096)
    offset = min(block + draw(st.sampled_from(inside)), size - length)
    return Write(name, offset, length, draw(st.integers(0, 9)))


def _writable(world: World) -> list[str]:
    return [name for name, disk in world.disks.items() if disk.attached != "RO"]


def _plain(world: World) -> list[str]:
    """Disks that are no snapshots."""
    return [name for name, disk in world.disks.items() if not disk.of]


@st.composite
def _resizes(draw: st.DrawFn, world: World) -> Resize:
    name = draw(_disk(world))
    more = draw(st.sampled_from((1, 2, 0, -1)))
    blocks = world.disks[name].content.size // BLOCK + more
    return Resize(name, max(1, min(blocks, 2 * _MOST_BLOCKS)) * BLOCK)


def _attachable(world: World) -> st.SearchStrategy[Operation]:
    return st.builds(Attach, _disk(world), st.sampled_from(("RW", "RO"))).filter(world.makes_sense)


def _detaches(world: World) -> st.SearchStrategy[Operation]:
    names = [name for name, disk in world.disks.items() if disk.attached]
    return st.builds(Detach, st.sampled_from(names))


def _vms(world: World) -> st.SearchStrategy[Operation]:
    disks = st.lists(st.sampled_from(_plain(world)), min_size=1, max_size=2, unique=True).map(tuple)
    return st.builds(MakeVM, st.just("vm"), disks)


def _vm_reverts(world: World) -> st.SearchStrategy[Operation]:
    return st.builds(RevertVM, st.sampled_from([name for name, vm in world.vms.items() if vm.of]))


_BUILDERS: Final[Mapping[str, _Builder]] = {
    "create": lambda _, name: st.builds(Create, st.just(name), _sizes()),
    "write": lambda world, _: _writes(world),
    "snapshot": lambda world, name: st.builds(Snapshot, _disk(world), st.just(name)),
    "clone": lambda world, name: st.builds(Clone, _disk(world), st.just(name)),
    "revert": lambda world, _: st.builds(Revert, _disk(world, snapshots=True)),
    "resize": lambda world, _: _resizes(world),
    "destroy": lambda world, _: st.builds(Destroy, st.sampled_from(_loose(world))),
    "attach": lambda world, _: _attachable(world),
    "detach": lambda world, _: _detaches(world),
    "track": lambda world, _: st.builds(Track, _disk(world), st.booleans()),
    "vm": lambda world, _: _vms(world),
    "snapshot vm": lambda _, name: st.builds(SnapshotVM, st.just("vm"), st.just(name)),
    "revert vm": lambda world, _: _vm_reverts(world),
    "scan": lambda _world, _: st.just(Scan()),
    "replug": lambda _world, _: st.just(Replug()),
    "collect": lambda _world, _: st.just(Collect()),
    "power cut": lambda _world, _: st.just(PowerCut()),
}
