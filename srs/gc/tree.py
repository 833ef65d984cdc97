"""Which images stand on which, and what a collector has to do about it.

    garbage           a base copy that nobody reads: it has no child, or only such children
    coalesceable      a base copy with children, the only child of its parent: its data can go
                      down into the parent, and its children stand on that
    leaf-coalesceable a disk that is the only child of its parent: the parent can take its place

Nothing here touches a medium. Images that stand on themselves are damaged, and left alone.
"""

from collections.abc import Collection, Iterable
from functools import cached_property

from srs.vdi import Disk


class Forest:
    """All images of an SR, by uuid."""

    def __init__(self, disks: Iterable[Disk]) -> None:
        self.disks = {disk.uuid: disk for disk in disks}

    @cached_property
    def _children(self) -> dict[str, list[Disk]]:
        found: dict[str, list[Disk]] = {}
        for disk in self.disks.values():
            if disk.parent in self.disks:
                found.setdefault(disk.parent, []).append(disk)
        return found

    def children(self, uuid: str) -> list[Disk]:
        """The images that stand directly on this one."""
        return self._children.get(uuid, [])

    def parent(self, disk: Disk) -> Disk | None:
        """The image below."""
        return self.disks.get(disk.parent)

    def _below(self, disk: Disk) -> list[Disk]:
        """The image and those that it stands on, to the root; empty in a loop."""
        chain = [disk]
        while (parent := self.parent(chain[-1])) is not None:
            if parent in chain:
                return []
            chain.append(parent)
        return chain

    def leaves_above(self, uuid: str) -> list[Disk]:
        """The visible disks whose chains hold this image."""
        return [
            disk
            for disk in self.disks.values()
            if not disk.hidden and any(below.uuid == uuid for below in self._below(disk)[1:])
        ]

    def garbage(self, spared: Collection[str] = ()) -> list[Disk]:
        """Base copies that nobody reads, children before their parents.

        Args:
            spared: uuids of images that are still wanted, and so are those below.
        """
        wanted = {
            below.uuid
            for disk in self.disks.values()
            if not disk.hidden or disk.uuid in spared
            for below in (self._below(disk) or [disk])
        }
        found = [
            disk for disk in self.disks.values() if disk.uuid not in wanted and self._below(disk)
        ]
        return sorted(found, key=lambda disk: len(self._below(disk)), reverse=True)

    def is_coalesceable(self, disk: Disk) -> bool:
        """Whether a base copy's data can go down into its parent."""
        return disk.hidden and bool(self.children(disk.uuid)) and self._is_only_child(disk)

    def is_leaf_coalesceable(self, disk: Disk) -> bool:
        """Whether a disk's parent can take its place.

        A raw parent cannot: the disk would be raw, and never be snapshot again.
        """
        parent = self.parent(disk)
        return (
            not disk.hidden
            and not disk.raw
            and not self.children(disk.uuid)
            and self._is_only_child(disk)
            and parent is not None
            and parent.hidden
            and not parent.raw
        )

    def _is_only_child(self, disk: Disk) -> bool:
        return len(self._below(disk)) > 1 and self.children(disk.parent) == [disk]

    def coalesceable(self) -> list[Disk]:
        """Base copies to coalesce, those in the tallest tree first, in a tree from the root up.

        From the root up every block moves once, however many base copies follow each other.
        """
        return sorted(
            filter(self.is_coalesceable, self.disks.values()),
            key=lambda disk: (-self._height(self._below(disk)[-1]), len(self._below(disk))),
        )

    def leaf_coalesceable(self) -> list[Disk]:
        """Disks to leaf-coalesce, those on top of the longest chains first."""
        found = filter(self.is_leaf_coalesceable, self.disks.values())
        return sorted(found, key=lambda disk: len(self._below(disk)), reverse=True)

    def _height(self, root: Disk) -> int:
        return max(len(self._below(leaf)) for leaf in [root, *self.leaves_above(root.uuid)])

    @property
    def has_work(self) -> bool:
        """Whether a collector would find something to do."""
        return bool(self.garbage() or self.coalesceable() or self.leaf_coalesceable())
