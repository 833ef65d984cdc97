"""What calls on a disk may lead to: the end of some order in which they came one by one.

A `World` says which content each disk has. A call is a function from a world to the next; where
it cannot happen (a revert to a snapshot that is gone), it has no next. So all that several
calls may leave, whoever was faster, is computed from their permutations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations

from scenarios.background import Call
from scenarios.invariants import check_everything
from scenarios.oracle import BLOCK, Content, Model, awkward_spans, full_block, one_sector
from scenarios.storage import VDI, Repository

#: Role of a disk -> label of its first content, and its size.
World = Mapping[str, tuple[str, int]]
Effect = Callable[[World], World | None]

SIZE = 5 * BLOCK
GROWN = 7 * BLOCK


@dataclass
class Stage:
    """A disk with an older and a newer snapshot, each with content of its own.

    Attributes:
        roles: name in the world -> disk; calls add what they make.
        models: label -> content.
    """

    sr: Repository
    roles: dict[str, VDI]
    models: dict[str, Model]

    @classmethod
    def build(cls, sr: Repository) -> "Stage":
        """Make the disks."""
        disk, model = sr.create(SIZE), Model(SIZE)
        roles, models = {"disk": disk}, {}
        for label, role in (("A", "old"), ("B", "new"), ("C", "disk")):
            spans = [*awkward_spans(label, SIZE), *full_block(label), *one_sector(label, BLOCK)]
            disk.write(spans)
            model.write(spans)
            models[label] = model.fork()
            if role != "disk":
                roles[role] = disk.snapshot()
        return cls(sr, roles, models)

    def world(self) -> World:
        """Before any call."""
        first = {"disk": ("C", SIZE), "old": ("A", SIZE), "new": ("B", SIZE)}
        return {role: first[role] for role in self.roles}

    def over(self, sr: Repository) -> "Stage":
        """The same disks through another session."""
        roles = {role: VDI(sr, vdi.ref) for role, vdi in self.roles.items()}
        return Stage(sr, roles, self.models)

    def content(self, label: str, size: int) -> Content:
        """All bytes of a disk."""
        return self._model(label, size).content()

    def _model(self, label: str, size: int) -> Model:
        model = self.models[label].fork()
        model.grow(size)
        return model

    def must_be_one_of(self, worlds: Iterable[World], seen: Mapping[str, Content]) -> World:
        """Compare every disk, and what calls have seen, with each world; the one that it is.

        There is no disk beside those of that world: a call that was refused has left nothing.
        """
        found = {role: vdi.content() for role, vdi in self.roles.items() if vdi.exists()} | dict(
            seen
        )
        expected = [
            {role: self.content(*value) for role, value in world.items()} for world in worlds
        ]
        for world, contents in zip(worlds, expected, strict=True):
            if contents == found:
                self._must_be_all(world)
                return world
        known = {self.content(label, size): f"{label} {size >> 20} MiB"
                 for label in self.models for size in (SIZE, GROWN)}  # fmt: skip
        told = {role: known.get(content, str(content)) for role, content in found.items()}
        raise AssertionError(f"no order leads to {told}; these would: {list(worlds)}")

    def _must_be_all(self, world: World) -> None:
        disks = {vdi.ref for role, vdi in self.roles.items() if role in world}
        if strays := self.sr.vdis() - self.sr.base_copies() - disks:
            records = self.sr.api.VDI.get_all_records()
            raise AssertionError(f"left by a refused call: {[records[ref] for ref in strays]}")

    def must_be_whole(self, world: World) -> None:
        """Every invariant, every byte."""
        models = {self.roles[role].ref: self._model(*value) for role, value in world.items()
                  if role in self.roles}  # fmt: skip
        check_everything(self.sr, models)


@dataclass(frozen=True)
class Act:
    """A kind of call.

    Attributes:
        name: for reports.
        run: the call; returns the disk that it made, the content that it saw, or None.
        effect: on the world.
        makes: the role of the disk that it makes, or of what it sees.
    """

    name: str
    run: Callable[[Stage], VDI | Content | None]
    effect: Effect
    makes: str = ""


def reverted_to(role: str) -> Effect:
    """The disk gets a snapshot's content and size."""
    return lambda w: {**w, "disk": w[role]} if {role, "disk"} <= w.keys() else None


def copied(role: str, to: str) -> Effect:
    """One more disk, with the content of another."""
    return lambda w: {**w, to: w[role]} if role in w else None


def without(role: str) -> Effect:
    """A disk less."""
    return lambda w: {r: v for r, v in w.items() if r != role} if role in w else None


def grown(world: World) -> World | None:
    """The disk is made larger."""
    if "disk" not in world:
        return None
    label, size = world["disk"]
    return {**world, "disk": (label, max(size, GROWN))}


def nothing(world: World) -> World | None:
    """No content changes."""
    return world


def worlds_after(start: World, effects: Iterable[Effect]) -> list[World]:
    """The ends of all orders that are possible, each once."""
    ends: list[World] = []
    for order in permutations(effects):
        world: World | None = start
        for effect in order:
            world = effect(world) if world is not None else None
        if world is not None and world not in ends:
            ends.append(world)
    return ends


def settle(
    stage: Stage, acts: Mapping[Act, Call], refusals: Iterable[str]
) -> tuple[World, dict[str, str]]:
    """When all calls are over: what was refused had reason to be, and the rest had an order.

    Args:
        stage: the disks.
        acts: the calls.
        refusals: codes that a call may be refused with.

    Returns:
        The world that it is, and the code of each call; empty if it did its work.
    """
    start = stage.world()
    codes = {act.name: call.outcome() for act, call in acts.items()}
    strange = {name: code for name, code in codes.items() if code and code not in refusals}
    if strange:
        raise AssertionError(f"refused for no reason of this race: {strange}")
    done = [act for act in acts if not codes[act.name]]
    seen = {}
    for act in done:
        result = acts[act].answer()
        if isinstance(result, VDI):
            stage.roles[act.makes] = VDI(stage.sr, result.ref)
        elif isinstance(result, Content):
            seen[act.makes] = result
    worlds = worlds_after(start, [act.effect for act in done])
    return stage.must_be_one_of(worlds, seen), codes
