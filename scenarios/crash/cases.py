"""The operations that a power cut interrupts, and what each of them may leave.

A case makes a small family of disks, a few blocks each but with real chains: a disk, snapshots
of it, and a sibling that shares their data and must not notice anything. Then it names one
operation, and what every disk may hold after it was interrupted: the old content or the new.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scenarios.oracle import BLOCK, Content, Model, Span, noise
from scenarios.storage import VDI, Repository

_BLOCKS: Final = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What a disk may be after a power cut.

    Attributes:
        contents: it holds one of these.
        may_be_gone: or it is not there.
    """

    contents: frozenset[Content]
    may_be_gone: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Disks, ready for an operation.

    Attributes:
        act: carries it out.
        disks: what each may be after a power cut, by uuid.
        settled: what each must be after a power cut that comes when the operation has returned.
        newcomers: what a disk that the operation makes may hold.
        makes: so many disks are new when it has returned; until then none to so many are.
        pair: uuids of a snapshot, and of the disk that can be reverted to it afterwards.
        collects: it is the garbage collector's work, which only the collector takes up again.
    """

    act: Callable[[], object]
    disks: dict[str, Expected]
    settled: dict[str, Expected]
    newcomers: frozenset[Content]
    makes: int
    pair: tuple[str, str]
    collects: bool = False


class Family:
    """A disk, snapshots of it and clones of those, each with a model of what it holds."""

    def __init__(self, sr: Repository) -> None:
        self.sr = sr
        self._models: dict[str, Model] = {}
        self.disk = self.create()

    def create(self) -> VDI:
        """A new disk."""
        made = self.sr.create(_BLOCKS * BLOCK)
        self._models[made.uuid] = Model(_BLOCKS * BLOCK)
        return made

    def write(self, vdi: VDI, seed: str) -> None:
        """A bit in two blocks."""
        spans = [Span(512, noise(seed, 1024)), Span(BLOCK - 4096, noise(seed + "'", 8192))]
        vdi.write(spans)
        self._models[vdi.uuid].write(spans)

    def snapshot(self, vdi: VDI) -> VDI:
        """A snapshot."""
        return self._adopt(vdi.snapshot(), vdi)

    def clone(self, vdi: VDI) -> VDI:
        """A clone."""
        return self._adopt(vdi.clone(), vdi)

    def revert(self, snapshot: VDI) -> None:
        """The disk becomes its snapshot again."""
        snapshot.revert_live_disk()
        self._models[self.disk.uuid] = self._models[snapshot.uuid].fork()

    def forget(self, vdi: VDI) -> None:
        """Delete a disk."""
        del self._models[vdi.uuid]
        vdi.destroy()

    def _adopt(self, made: VDI, of: VDI) -> VDI:
        self._models[made.uuid] = self._models[of.uuid].fork()
        return made

    def content(self, vdi: VDI) -> Content:
        """What it holds now."""
        return self._models[vdi.uuid].content()

    def grown(self, vdi: VDI, size: int) -> Content:
        """What it would hold if it were larger."""
        model = self._models[vdi.uuid].fork()
        model.grow(size)
        return model.content()

    def scene(
        self,
        act: Callable[[], object],
        snapshot: VDI,
        *,
        changes: dict[VDI, Content] | None = None,
        goes: VDI | None = None,
        copies: VDI | None = None,
        collects: bool = False,
    ) -> Scene:
        """The disks as they are now are what must be left, but for what the operation changes.

        Args:
            act: the operation.
            snapshot: what the disk can be reverted to afterwards.
            changes: disks that may also hold something else.
            goes: a disk that may be gone.
            copies: a disk that the operation makes one more of, with the same content.
            collects: see Scene.
        """
        new = {vdi.uuid: content for vdi, content in (changes or {}).items()}
        disks = {
            uuid: Expected(
                frozenset({model.content(), new.get(uuid, model.content())}),
                may_be_gone=goes is not None and goes.uuid == uuid,
            )
            for uuid, model in self._models.items()
        }
        settled = {
            uuid: Expected(frozenset({new.get(uuid, model.content())}))
            for uuid, model in self._models.items()
            if goes is None or goes.uuid != uuid
        }
        newcomers = frozenset({self.content(copies)} if copies else ())
        pair = (snapshot.uuid, self.disk.uuid)
        return Scene(act, disks, settled, newcomers, int(copies is not None), pair, collects)


def _family(sr: Repository) -> tuple[Family, VDI]:
    """A disk that was written before and after a snapshot, which has a clone."""
    family = Family(sr)
    family.write(family.disk, "first")
    snapshot = family.snapshot(family.disk)
    family.clone(snapshot)
    family.write(family.disk, "second")
    return family, snapshot


def _reverting(family: Family, snapshot: VDI) -> Scene:
    changes = {family.disk: family.content(snapshot)}
    return family.scene(snapshot.revert_live_disk, snapshot, changes=changes)


def revert(sr: Repository) -> Scene:
    """The snapshot is empty, above a base copy."""
    return _reverting(*_family(sr))


def revert_written(sr: Repository) -> Scene:
    """The snapshot has data of its own: it is split."""
    family, snapshot = _family(sr)
    family.write(snapshot, "third")
    return _reverting(family, snapshot)


def revert_blank(sr: Repository) -> Scene:
    """The snapshot is empty and stands on nothing."""
    family = Family(sr)
    snapshot = family.snapshot(family.disk)
    family.write(family.disk, "first")
    return _reverting(family, snapshot)


def revert_older(sr: Repository) -> Scene:
    """To the older of two snapshots, once more."""
    family, older = _family(sr)
    family.snapshot(family.disk)
    family.revert(older)
    family.write(family.disk, "third")
    return _reverting(family, older)


def snapshot(sr: Repository) -> Scene:
    """Of a disk that has a snapshot."""
    family, older = _family(sr)
    return family.scene(family.disk.snapshot, older, copies=family.disk)


def clone(sr: Repository) -> Scene:
    """Of a disk that holds data."""
    family, older = _family(sr)
    return family.scene(family.disk.clone, older, copies=family.disk)


def delete(sr: Repository) -> Scene:
    """Of a snapshot."""
    family, older = _family(sr)
    newer = family.snapshot(family.disk)
    return family.scene(newer.destroy, older, goes=newer)


def resize(sr: Repository) -> Scene:
    """By two blocks."""
    family, older = _family(sr)
    size = (_BLOCKS + 2) * BLOCK
    changes = {family.disk: family.grown(family.disk, size)}
    return family.scene(lambda: family.disk.resize(size), older, changes=changes)


def coalesce(sr: Repository) -> Scene:
    """Of a base copy in the middle, whose snapshot is gone."""
    family, older = _family(sr)
    newer = family.snapshot(family.disk)
    family.write(family.disk, "third")
    last = family.snapshot(family.disk)
    family.write(last, "fourth")
    family.forget(newer)
    return family.scene(lambda: sr.host.gc(sr.uuid), older, collects=True)


def leaf_coalesce(sr: Repository) -> Scene:
    """Of a disk into the base copy that only it stands on; and a family beside it."""
    family, older = _family(sr)
    alone = family.create()
    family.write(alone, "third")
    passing = family.snapshot(alone)
    family.write(alone, "fourth")
    family.forget(passing)
    return family.scene(lambda: sr.host.gc(sr.uuid), older, collects=True)


#: By the name that `--operation` takes.
CASES: Final[dict[str, Callable[[Repository], Scene]]] = {
    "revert": revert,
    "revert-written": revert_written,
    "revert-blank": revert_blank,
    "revert-older": revert_older,
    "snapshot": snapshot,
    "clone": clone,
    "delete": delete,
    "resize": resize,
    "coalesce": coalesce,
    "leaf-coalesce": leaf_coalesce,
}
