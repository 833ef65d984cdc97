"""Who uses a disk where: the record in the database, and the pause that changes need.

    Exception
    └── VDIInUse (24, srs.errors)      attached elsewhere, or already for writing

`sm_config:host_<host reference>` = `RW` or `RO` says that a host has the disk active;
`activating` that one is about to; `paused` = `true` that the SR's master is changing what lies
below the disk. Each is written before what it announces is done, and read again after one's
own is written: of two that exclude each other, at least one sees the other.

The master's callers hold the SR's lock; so a `paused` that they find is left over from a call
that died. Files in `paths.PAUSES` say which ones this host wrote, so that the next call finds
them without asking the database. Other hosts wait for its end (srs.slave).
"""

import os
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from srs import paths
from srs.datapath.server import Server
from srs.errors import APISession, FistPoint, TapdiskFailed, VDIInUse
from srs.session import Failure, Record, Session, ignoring

_HOST: Final = "host_"
PAUSED: Final = "paused"
ACTIVATING: Final = "activating"
_DUPLICATE: Final = ("MAP_DUPLICATE_KEY",)
#: The toolstack knows no such host any more: whatever it had open ended with it.
_NO_HOST: Final = ("HANDLE_INVALID",)


def hosts(record: Record) -> dict[str, str]:
    """Where a disk is active: host reference -> `RW` or `RO`."""
    config: dict[str, str] = record["sm_config"]
    return {key.removeprefix(_HOST): mode for key, mode in config.items() if key.startswith(_HOST)}


def users(session: Session, sr_uuid: str, ref: str, record: Record) -> dict[str, str]:
    """Like `hosts`, less the claims that their hosts know nothing of: those are dropped.

    A host that cannot be asked counts as a user, and so does one that is about to be.
    """
    found = hosts(record)
    if ACTIVATING in record["sm_config"]:
        return found
    for host in list(found):
        if _has_open(session, host, sr_uuid, record["uuid"]):
            continue
        # It may have begun to open the disk by now, and takes the claim for its own.
        if session.vdi_record(ref)["sm_config"].get(ACTIVATING) != host:
            _drop_claim(session, ref, host)
            del found[host]
    return found


def _has_open(session: Session, host: str, sr_uuid: str, vdi_uuid: str) -> bool:
    if host == session.host:
        return is_active(sr_uuid, vdi_uuid)
    arguments = {"srUuid": sr_uuid, "vdiUuid": vdi_uuid}
    try:
        said = session.call("host.call_plugin", host, "on-slave", "is_open", arguments)
    except Failure as failure:
        return failure.error not in _NO_HOST
    return bool(said != "False")


def claim(
    session: Session, sr_uuid: str, ref: str, *, writable: bool, master: bool, shared: bool
) -> None:
    """Record that this host has the disk active; on a shared SR `claimed` ends it.

    Raises:
        VDIInUse: another host has it, or is about to, and one of both wants to write.
    """
    mode = "RW" if writable else "RO"
    # Of two hosts that want the disk at the same time, one adds the key.
    if shared and not _mark_activating(session, sr_uuid, ref):
        raise VDIInUse(f"another host is activating {ref}")
    try:
        record = session.vdi_record(ref)
        if master:
            resume(session, sr_uuid, {ref: record})
        _refuse_others(session, sr_uuid, ref, record, writable=writable)
    except BaseException:
        claimed(session, ref, shared=shared)
        raise
    _put_claim(session, ref, record, mode)


def _put_claim(session: Session, ref: str, record: Record, mode: str) -> None:
    if hosts(record).get(session.host) != mode:
        session.set_sm_config_key(ref, _HOST + session.host, mode)


def confirm(session: Session, ref: str, *, writable: bool) -> None:
    """The disk is open, and its record says so.

    It may not: this host had a claim left over from a crash, and the master, which did not see
    yet that it was being renewed, was told that nothing is behind it, and dropped it.
    """
    _put_claim(session, ref, session.vdi_record(ref), "RW" if writable else "RO")


def _mark_activating(session: Session, sr_uuid: str, ref: str) -> bool:
    """Whether the mark is ours now: it was free, or whoever had made it died."""
    mark = (ref, ACTIVATING, session.host)
    if ignoring(_DUPLICATE, lambda: session.call("VDI.add_to_sm_config", *mark)):
        return True
    owner = session.vdi_record(ref)["sm_config"].get(ACTIVATING, "")
    if owner == session.host:
        return True
    if not owner or _is_at_work(session, owner, sr_uuid):
        return False
    session.set_sm_config_key(ref, ACTIVATING, session.host)
    return True


def _is_at_work(session: Session, host: str, sr_uuid: str) -> bool:
    """Whether a driver on a host is at work on the SR, or may be: the host does not say."""
    try:
        said = session.call(
            "host.call_plugin", host, "sr-master", "is_working", {"srUuid": sr_uuid}
        )
    except Failure as failure:
        return failure.error not in _NO_HOST
    return bool(said != "False")


def _refuse_others(
    session: Session, sr_uuid: str, ref: str, record: Record, *, writable: bool
) -> None:
    def others(found: Mapping[str, str]) -> list[str]:
        modes = {host: mode for host, mode in found.items() if host != session.host}
        return list(modes) if writable or "RW" in modes.values() else []

    if others(hosts(record)):
        settled = {**record, "sm_config": dict(record["sm_config"])}
        settled["sm_config"].pop(ACTIVATING, None)  # that is us
        if in_the_way := others(users(session, sr_uuid, ref, settled)):
            raise VDIInUse(f"{record['uuid']} is attached to {', '.join(in_the_way)}")


def claimed(session: Session, ref: str, *, shared: bool) -> None:
    """The disk is active now, or will not be: others may ask this host about it."""
    if shared:
        session.call("VDI.remove_from_sm_config", ref, ACTIVATING)


def unclaim(session: Session, ref: str) -> None:
    """Record that this host no longer has the disk active."""
    _drop_claim(session, ref, session.host)


def _drop_claim(session: Session, ref: str, host: str) -> None:
    session.call("VDI.remove_from_sm_config", ref, _HOST + host)


@contextmanager
def paused(
    session: Session, sr_uuid: str, vdi_uuid: str, ref: str, *, final: Callable[[], bool]
) -> Iterator[Record]:
    """Keep a disk still, on every host, while what lies below it is changed; gives its record.

    A process that serves the disk closes the image and opens it again afterwards, by its path.

    Args:
        session: of this host.
        sr_uuid: the SR.
        vdi_uuid: the disk.
        ref: its reference.
        final: asked after a failure: whether recovery will not take away an image that the disk
            has now. Otherwise the pause stays for recovery to end.
    """
    _note(sr_uuid, vdi_uuid)
    ignoring(_DUPLICATE, lambda: session.call("VDI.add_to_sm_config", ref, PAUSED, "true"))
    # Until the record is read, each host may be serving the disk.
    record: Record = {"uuid": vdi_uuid, "sm_config": {_HOST + session.host: ""}}
    try:
        # Read after the flag is set: whoever claims the disk from now on sees it and waits.
        record = session.vdi_record(ref)
        for host in hosts(record):
            _tell(session, host, sr_uuid, vdi_uuid, "pause")
        yield record
    except FistPoint:
        raise  # the call has "died": recovery ends the pause
    except BaseException:
        if final():
            _resume(session, sr_uuid, ref, record)
        raise
    _resume(session, sr_uuid, ref, record)


def _tell(session: Session, host: str, sr_uuid: str, vdi_uuid: str, word: str) -> None:
    """Have a host pause or unpause its data path of a disk."""
    if host != session.host:
        arguments = {"sr_uuid": sr_uuid, "vdi_uuid": vdi_uuid}
        session.call("host.call_plugin", host, "tapdisk-pause", word, arguments)
    elif word == "pause":
        Server(sr_uuid, vdi_uuid).pause()
    else:
        Server(sr_uuid, vdi_uuid).unpause()


def _resume(session: Session, sr_uuid: str, ref: str, record: Record) -> None:
    """Unpause on every host. Where one cannot, the flag stays: the next call tries again."""
    trouble: Exception | None = None
    for host in hosts(record):
        try:
            _tell(session, host, sr_uuid, record["uuid"], "unpause")
        except Exception as error:
            trouble = error
    if trouble is not None:
        raise trouble
    session.call("VDI.remove_from_sm_config", ref, PAUSED)
    _drop_note(sr_uuid, record["uuid"])


def _note(sr_uuid: str, vdi_uuid: str) -> None:
    path = os.path.join(paths.PAUSES, sr_uuid, vdi_uuid)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, flags, 0o600)
    os.close(fd)


def _drop_note(sr_uuid: str, vdi_uuid: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(paths.PAUSES, sr_uuid, vdi_uuid))


def resume_forgotten(session: Session, sr_uuid: str, *, but: Container[str]) -> None:
    """End pauses of calls of this host that died, except of some disks.

    Where that fails the next call tries again.
    """
    try:
        uuids = os.listdir(os.path.join(paths.PAUSES, sr_uuid))
    except FileNotFoundError:
        return
    for uuid in uuids:
        if uuid not in but:
            with suppress(Failure, TapdiskFailed, APISession):
                ref = session.vdi_ref(uuid)
                _resume(session, sr_uuid, ref, session.vdi_record(ref))


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


def resume(
    session: Session, sr_uuid: str, records: Mapping[str, Record], *, but: Container[str] = ()
) -> None:
    """End pauses of calls that died, among these disks (reference -> record) except of some."""
    for ref, record in records.items():
        if PAUSED in record["sm_config"] and record["uuid"] not in but:
            _resume(session, sr_uuid, ref, record)


def forget_host(session: Session, sr_uuid: str, sr_ref: str) -> None:
    """Drop claims of this host that a crash left: nothing is behind them any more."""
    forget_claims(session, sr_uuid, session.vdi_records_of(sr_ref))


def forget_claims(session: Session, sr_uuid: str, records: Mapping[str, Record]) -> None:
    """The same for these disks (reference -> record) alone."""
    for ref, record in records.items():
        if record["sm_config"].get(ACTIVATING) == session.host:
            claimed(session, ref, shared=True)
        if session.host in hosts(record) and not is_active(sr_uuid, record["uuid"]):
            unclaim(session, ref)


def is_active(sr_uuid: str, vdi_uuid: str) -> bool:
    """Whether this host has the disk active: by its process, or without one by its link."""
    server = Server(sr_uuid, vdi_uuid)
    if os.path.lexists(server.socket_path):
        return server.is_running()
    return os.path.exists(link_path(sr_uuid, vdi_uuid))
