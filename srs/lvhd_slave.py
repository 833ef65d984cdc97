"""Volumes on a host that is not the SR's master: used there, changed elsewhere.

    Exception
    ├── LVMMaster (58, srs.errors)     such a host never writes LVM's metadata
    └── SRInUse (16, srs.errors)       a volume is open as the SR is to be detached

The master may have renamed, resized or replaced any volume since this host last looked, and
LVM on this host knows only what its device-mapper nodes were when it made them. So each time
a disk is opened, closed or let go the metadata is read from the devices, every node that no
attached disk needs, or that is not what the metadata says of its name, is removed, and one
that is used gets its new table. What is then activated is fresh.

Nodes and counts change under a lock of their own. The SR's lock would not do: a plugin that the
master calls, while it holds its own SR's lock, must not wait for a driver here that in turn
waits for the master.
"""

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from srs import lvhd_layout as layout
from srs import lvm, nodes
from srs.errors import LVMMaster, SRInUse, VDIUnavailable
from srs.locks import Lock
from srs.lvhd_store import VolumeStore
from srs.refcount import RefCounts
from srs.volumes import LogicalVolume, VolumeGroup

_BLKFLSBUF: Final = 0x1261  # linux/fs.h


def _forget_pages(path: str) -> None:
    """Drop what this host has cached of a volume that is in use: the master may have written it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _BLKFLSBUF)
    finally:
        os.close(fd)


class BorrowedGroup(VolumeGroup):
    """A volume group whose metadata another host writes."""

    def _commit(self, *words: str) -> None:
        raise LVMMaster(f"{words[0]} in {self.name}")

    def _read(self) -> dict[str, LogicalVolume]:
        """Volumes; active are those whose node has the right name."""
        return self._as_nodes_are(super()._read())

    def _as_nodes_are(self, found: dict[str, LogicalVolume]) -> dict[str, LogicalVolume]:
        here = {name: node.id for name, node in nodes.volumes(self.name).items()}
        return {
            name: replace(volume, active=here.get(name) == volume.id)
            for name, volume in found.items()
        }

    def sweep(self, wanted: Iterable[str]) -> None:
        """Remove the group's nodes, other than the right ones of these volumes; open ones stay."""
        right = {(name, self.volumes[name].id) for name in wanted if name in self.volumes}
        for name, node in nodes.volumes(self.name).items():
            if (name, node.id) not in right:
                with suppress(OSError):
                    nodes.remove(self.name, name)
        self.reread_nodes()

    def reread_nodes(self) -> None:
        """Look again which volumes are active."""
        self.volumes.update(self._as_nodes_are(self.volumes))

    def freshen(self, names: Iterable[str]) -> None:
        """Activate volumes; those that were active get the tables that the metadata says now.

        Raises:
            LVMError: LVM refused.
        """
        sizes = {node.id: node.size for node in nodes.volumes(self.name).values()}
        used = [volume for volume in map(self.volume, names) if volume.active]
        stale = [volume.name for volume in used if sizes[volume.id] != volume.size]
        if stale:
            lvm.lvm("lvchange", "--refresh", *(f"{self.name}/{name}" for name in stale))
        for volume in used:
            _forget_pages(self.path(volume.name))
        self.activate(*names, keep=True)


class SlaveVolumes:
    """What this host has active of an SR whose master it is not."""

    def __init__(self, sr_uuid: str) -> None:
        self.group = BorrowedGroup(layout.GROUP_PREFIX + sr_uuid)
        self.store = VolumeStore(self.group, RefCounts(f"lvm-{sr_uuid}"))
        self._lock = Lock(f"lvm-{sr_uuid}", "volumes")

    def open(self, uuid: str) -> str:
        """Make a disk's images readable, as they are now; returns the path of the top one."""
        with self._lock:
            self.group.reread()
            self.store.recount(attached=uuid)
            self._sweep()
            self.group.freshen(self._needs(uuid))
            return self.store.path(uuid)

    def close(self, uuid: str) -> None:
        """Undo open."""
        with self._lock:
            self.group.reread()
            self.store.recount(detached=uuid)
            self._sweep()

    def abandon(self, uuid: str) -> None:
        """See VolumeStore."""
        with self._lock:
            self.store.abandon(uuid)

    def let_go(self, uuid: str) -> None:
        """Deactivate what this disk alone needs, though it stays attached: the master works."""
        with self._lock:
            self.group.reread()
            self._sweep(without=uuid)

    def close_all(self) -> None:
        """Deactivate everything: the SR is detached from this host.

        Raises:
            SRInUse: some volumes are open.
        """
        with self._lock:
            self.group.reread()
            self.group.sweep([])
            if busy := nodes.volumes(self.group.name):
                raise SRInUse(", ".join(busy))
            self.store.counts.reset()

    def has_room(self, uuid: str, size: int) -> bool:
        """Whether a disk's volume is this large already (bytes)."""
        return self.store.volume_of(uuid).size >= size

    def is_pending(self, uuid: str) -> bool:
        """Whether a change of a disk has begun that the metadata do not show as done."""
        names = self.group.volumes
        own = {layout.vhd_name(uuid), layout.raw_name(uuid), layout.log_name(uuid)}
        if not own & names.keys():
            return any(uuid in name for name in names)
        return any(uuid in name for name in names.keys() - own)

    def _needs(self, uuid: str) -> list[str]:
        """Names of the volumes that a disk's data path opens."""
        try:
            chain = self.store.chain(self.store.disk(uuid))
        except VDIUnavailable:
            return []  # the master is changing it, and has paused it
        log = layout.log_name(uuid)
        names = [self.store.volume_of(image).name for image in chain]
        return [*names, *([log] if log in self.group.volumes else [])]

    def _sweep(self, *, without: str = "") -> None:
        attached = [uuid for uuid in self.store.counts.attached() if uuid != without]
        self.group.sweep(
            [layout.METADATA, *(name for uuid in attached for name in self._needs(uuid))]
        )
