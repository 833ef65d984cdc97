"""Plugin `lvhd-thin`: the SR's master resizes a volume for a host that may not.

attach {srUuid, vdiUuid}     room for all that can be written to the disk
detach {srUuid, vdiUuid}     give back what the disk does not use

Each takes the SR's lock: the host that asks holds its own, never the master's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from srs import lvhd_layout as layout
from srs.errors import SRUnavailable
from srs.locks import Lock
from srs.lvhd_store import VolumeStore
from srs.plugins import by_function
from srs.recovery import CRITICAL
from srs.refcount import RefCounts
from srs.vdi import Disk
from srs.volumes import VolumeGroup


@contextmanager
def _store(sr_uuid: str) -> Iterator[VolumeStore]:
    with Lock(sr_uuid, "sr"):
        group = VolumeGroup(layout.GROUP_PREFIX + sr_uuid)
        store = VolumeStore(group, RefCounts(f"lvm-{sr_uuid}"))
        try:
            yield store
        finally:
            group.release()


def _disk(store: VolumeStore, uuid: str) -> Disk:
    """The disk, unless a change of it was interrupted."""
    if any(entry.id == uuid for entry in store.journal.entries()):
        raise SRUnavailable(CRITICAL)
    return store.disk(uuid)


def _attach(arguments: dict[str, str]) -> str:
    with _store(arguments["srUuid"]) as store:
        disk = _disk(store, arguments["vdiUuid"])
        if not disk.raw:
            store.inflate(disk.uuid, layout.full_size(disk.size))
    return "True"


def _detach(arguments: dict[str, str]) -> str:
    with _store(arguments["srUuid"]) as store:
        disk = _disk(store, arguments["vdiUuid"])
        if not disk.raw:
            store.deflate(disk.uuid)
    return "True"


plugin = by_function({"attach": _attach, "detach": _detach})
