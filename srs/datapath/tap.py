"""Who uses a disk where: the record in the database, and the pause that changes need.

    Exception
    └── VDIInUse (24, srs.errors)      attached elsewhere, or already for writing

`sm_config:host_<host reference>` = `RW` or `RO` says that a host has the disk active;
`paused` = `true` that somebody is changing what lies below it. Both are written before what
they announce is done. Every caller holds the SR's lock; so a `paused` that is found under it
is left over from a call that died, unless another host wrote it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from srs import paths
from srs.datapath.server import Server
from srs.errors import FistPoint, VDIInUse
from srs.session import Record, Session, ignoring

_HOST: Final = "host_"
PAUSED: Final = "paused"
_DUPLICATE: Final = ("MAP_DUPLICATE_KEY",)


def hosts(record: Record) -> dict[str, str]:
    """Where a disk is active: host reference -> `RW` or `RO`."""
    config: dict[str, str] = record["sm_config"]
    return {key.removeprefix(_HOST): mode for key, mode in config.items() if key.startswith(_HOST)}


def claim(session: Session, sr_uuid: str, ref: str, host_ref: str, *, writable: bool) -> None:
    """Record that this host has the disk active.

    Raises:
        VDIInUse: another host has it, and one of both wants to write.
    """
    mode = "RW" if writable else "RO"
    record = session.vdi_record(ref)
    resume(session, sr_uuid, {ref: record})
    others = {host: how for host, how in hosts(record).items() if host != host_ref}
    if others and (writable or "RW" in others.values()):
        raise VDIInUse(f"{record['uuid']} is attached to {', '.join(others)}")
    if hosts(record).get(host_ref) != mode:
        session.set_sm_config_key(ref, _HOST + host_ref, mode)


def unclaim(session: Session, ref: str, host_ref: str) -> None:
    """Record that this host no longer has the disk active."""
    session.call("VDI.remove_from_sm_config", ref, _HOST + host_ref)


@contextmanager
def paused(session: Session, sr_uuid: str, vdi_uuid: str, ref: str) -> Iterator[Record]:
    """Keep a disk still while what lies below it is changed; gives its record.

    A process that serves the disk closes the image and opens it again afterwards, by its path.
    """
    ignoring(_DUPLICATE, lambda: session.call("VDI.add_to_sm_config", ref, PAUSED, "true"))
    server = Server(sr_uuid, vdi_uuid)
    try:
        # Read after the flag is set: whoever claims the disk from now on sees it and waits.
        record = session.vdi_record(ref)
        if hosts(record):
            server.pause()
        yield record
    except FistPoint:
        raise  # the call has "died": recovery ends the pause
    except BaseException:
        _resume(session, server, ref)
        raise
    _resume(session, server, ref)


def _resume(session: Session, server: Server, ref: str) -> None:
    try:
        server.unpause()
    finally:
        session.call("VDI.remove_from_sm_config", ref, PAUSED)


def link_path(sr_uuid: str, vdi_uuid: str) -> str:
    """Where the link to an active disk's file or volume is."""
    return os.path.join(paths.PHY_LINKS, sr_uuid, vdi_uuid)


def link(sr_uuid: str, vdi_uuid: str, target: str) -> None:
    """Make the link, in place of an old one."""
    path = link_path(sr_uuid, vdi_uuid)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unlink(sr_uuid, vdi_uuid)
    os.symlink(target, path)


def unlink(sr_uuid: str, vdi_uuid: str) -> None:
    """Remove the link, if there is one."""
    try:
        os.unlink(link_path(sr_uuid, vdi_uuid))
    except FileNotFoundError:
        return


def resume(session: Session, sr_uuid: str, records: Mapping[str, Record]) -> None:
    """End pauses of calls that died, among these disks (reference -> record)."""
    for ref, record in records.items():
        if PAUSED in record["sm_config"]:
            _resume(session, Server(sr_uuid, record["uuid"]), ref)


def forget_host(session: Session, sr_uuid: str, sr_ref: str, host_ref: str) -> None:
    """Drop claims of this host that a crash left: nothing is behind them any more."""
    for ref, record in session.vdi_records_of(sr_ref).items():
        if host_ref in hosts(record) and not is_active(sr_uuid, record["uuid"]):
            unclaim(session, ref, host_ref)


def is_active(sr_uuid: str, vdi_uuid: str) -> bool:
    """Whether this host has the disk active: by its process, or without one by its link."""
    server = Server(sr_uuid, vdi_uuid)
    if os.path.lexists(server.socket_path):
        return server.is_running()
    return os.path.exists(link_path(sr_uuid, vdi_uuid))
