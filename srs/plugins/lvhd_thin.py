"""Plugin `lvhd-thin`: the SR's master resizes a volume for a host that may not.

attach {srUuid, vdiUuid, hostRef}          room for all that can be written to the disk
detach {srUuid, vdiUuid, hostRef, asker}   give back what the disk does not use, unless a host
                                           other than the one that asks has it by now

`hostRef` is the host that is called: if it is not the master any more, it refuses. Each takes
the SR's lock: the host that asks holds its own, never the master's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from srs import fist
from srs import lvhd_layout as layout
from srs.datapath import tap
from srs.errors import SRUnavailable
from srs.locks import Lock
from srs.lvhd_store import VolumeStore
from srs.plugins import by_function
from srs.recovery import CRITICAL
from srs.refcount import RefCounts
from srs.session import Record, Session
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


@contextmanager
def _session(host: str) -> Iterator[Session]:
    """A session on this host, which is the pool's master."""
    session = Session.login("SM-thin")
    try:
        (pool,) = session.call("pool.get_all_records").values()
        if pool["master"] != host:
            raise SRUnavailable("this host is not the pool's master any more")
        yield session
    finally:
        session.logout()


def _attach(arguments: dict[str, str]) -> str:
    with _store(arguments["srUuid"]) as store, _session(arguments["hostRef"]):
        disk = _disk(store, arguments["vdiUuid"])
        if not disk.raw:
            store.inflate(disk.uuid, layout.full_size(disk.size))
    return "True"


def _detach(arguments: dict[str, str]) -> str:
    sr_uuid, uuid, asker = (arguments[key] for key in ("srUuid", "vdiUuid", "asker"))
    with _store(sr_uuid) as store, _session(arguments["hostRef"]) as session:
        disk, ref = _disk(store, uuid), session.vdi_ref(uuid)
        record = session.vdi_record(ref)
        if tap.PAUSED in record["sm_config"]:
            # Left by a call that died; only recovery knows whether it may end.
            raise SRUnavailable(CRITICAL)
        if disk.raw or tap.is_active(sr_uuid, uuid) or _is_claimed(record, asker):
            return "True"
        # A host that claims the disk from now on sees that it is paused, and waits.
        with tap.paused(session, sr_uuid, uuid, ref, final=lambda: True) as record:
            fist.point("lvhd_thin_detach_paused")
            if not _is_claimed(record, asker):
                store.deflate(uuid)
    return "True"


def _is_claimed(record: Record, asker: str) -> bool:
    """Whether a host other than one has the disk, or any is about to."""
    return tap.ACTIVATING in record["sm_config"] or bool(tap.hosts(record).keys() - {asker})


plugin = by_function({"attach": _attach, "detach": _detach})
