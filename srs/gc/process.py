"""A collector's process, and its work in the foreground."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

from srs import fist, locks, paths, registry
from srs.cow import CowSR
from srs.errors import SRError, SRUnavailable
from srs.forking import detach, fork, name_process
from srs.gc.collector import Collector, Report
from srs.gc.control import Aborted, Watch, active, is_wanted, kept_away, pause
from srs.gc.leaf import Speed
from srs.gc.merge import Bases
from srs.gc.task import Task, shown
from srs.gc.tree import Forest
from srs.locks import Lock
from srs.protocol import Request
from srs.session import Failure, Session

_ORIGINATOR: Final = "SM-gc"
#: Bytes; the kernel refuses records of a KiB.
_LOG_LINE: Final = 900


def kick(sr: CowSR) -> None:
    """Have a collector look at the SR some time after this call, which holds its lock.

    Nothing happens if there is a collector, or no work for one. What goes wrong is no matter of
    the call's: the next one will try again.
    """
    seconds = pause()
    if seconds is None or not sr.request.is_master or active(sr.uuid).holder():
        return
    with suppress(SRError, Failure, OSError):
        if not Forest(sr.disks()).has_work:
            return
        if sr.session.call("SR.get_other_config", sr.ref).get("gc") != "false":
            _start(type(sr), sr.request, seconds)


def _start(driver: type[CowSR], request: Request, seconds: float) -> None:
    """Start a collector; when this returns it has the lock that tells of it."""
    ours, theirs = os.pipe()
    if fork() == 0:
        _become_collector(driver, request, seconds, theirs)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)


def _become_collector(
    driver: type[CowSR], request: Request, seconds: float, report: int
) -> NoReturn:
    """In the child of a call that holds the SR's lock, and waits for the report to be closed."""
    try:
        locks.forget_in_child()
        detach(report)
        name_process("sm-gc")
        watch, lock = Watch(), active(request.sr_uuid)
        with watch.listening():
            begins = lock.try_acquire() and not is_wanted(request.sr_uuid)
            os.close(report)
            if begins:
                watch.sleep(seconds)
                session = Session.login(_ORIGINATOR)
                try:
                    _work_to_the_end(driver, _for(request, session), session, watch)
                finally:
                    session.logout()
    except Aborted:
        pass
    except Exception as error:
        _complain(f"collector of SR {request.sr_uuid}: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _complain(text: str) -> None:
    """Nobody waits for this process: the kernel's log is where its failures are read."""
    line = " ".join(text.split())[:_LOG_LINE]
    with suppress(OSError), open("/dev/kmsg", "w", encoding="ascii", errors="replace") as log:
        log.write(f"<4>{line}\n")


def _work_to_the_end(driver: type[CowSR], request: Request, session: Session, watch: Watch) -> None:
    with shown(session, request, watch.check) as task:

        def end(bases: Bases, report: Report) -> NoReturn:
            # The process ends with its locks, `gc_active` first: it is the older descriptor.
            task.end(report)
            bases.sr.cleanup()
            session.logout()
            os._exit(0)

        task.end(_collector(driver, request, watch, task).run(end))


def _collector(driver: type[CowSR], request: Request, watch: Watch, task: Task) -> Collector:
    speed = Speed(f"{paths.RUN}/{request.sr_uuid}.speed_log")
    return Collector(lambda: _section(driver, request, watch), task.check, speed)


@contextmanager
def _section(driver: type[CowSR], request: Request, watch: Watch) -> Iterator[Bases]:
    """The SR as a driver's call has it: locked, mended, and given back afterwards."""
    with watch.hold(Lock(request.sr_uuid, "running")), watch.hold(Lock(request.sr_uuid, "sr")):
        sr = driver(request)
        try:
            require_still_ours(sr.session, request)
            sr.prepare()
            with fist.serving(sr.session, sr.ref):
                yield Bases(sr)
        finally:
            sr.cleanup()


def require_still_ours(session: Session, request: Request) -> None:
    """Raise Aborted where the pool has got another master, or the SR was unplugged.

    A collector's own request is as old as the call that started it.
    """
    try:
        _look_up(session, request.sr_uuid, request.host_ref)
    except SRUnavailable:
        raise Aborted from None


def _for(request: Request, session: Session) -> Request:
    return Request(
        command="gc",
        device_config=request.device_config,
        session_ref=session.ref,
        host_ref=request.host_ref,
        sr_ref=request.sr_ref,
        sr_uuid=request.sr_uuid,
    )


def collect(sr_uuid: str, host: str) -> Report:
    """Work on an SR of this host until there is nothing left to do, in place of its collector.

    Args:
        sr_uuid: the SR.
        host: reference of this host.

    Raises:
        SRUnavailable: the SR is not plugged in here, or this host is not its master.
        SRError, Failure: it cannot be used, or the toolstack not be reached.
    """
    session = Session.login(_ORIGINATOR)
    try:
        watch, lock = Watch(), active(sr_uuid)
        with kept_away(sr_uuid):
            lock.acquire()
        try:
            # Now, because whoever had the lock may have unplugged the SR.
            driver, request = _look_up(session, sr_uuid, host)
            with watch.listening(), shown(session, request, watch.check) as task:

                def end(_: Bases, report: Report) -> None:
                    # In this order: who has the lock takes a task that is left for a dead one's.
                    task.end(report)
                    lock.release()

                report = _collector(driver, request, watch, task).run(end)
                if lock.held:
                    task.end(report)
                return report
        finally:
            if lock.held:
                lock.release()
    finally:
        session.logout()


def _look_up(session: Session, sr_uuid: str, host: str) -> tuple[type[CowSR], Request]:
    """The driver of an SR, and a request as a driver's call would have it."""
    sr = session.call("SR.get_by_uuid", sr_uuid)
    condition = f'field "host" = "{host}" and field "SR" = "{sr}"'
    pbds = session.call("PBD.get_all_records_where", condition)
    plugged = [pbd for pbd in pbds.values() if pbd["currently_attached"]]
    if not plugged:
        raise SRUnavailable(f"{sr_uuid} is not plugged in here")
    if session.call("SR.get_shared", sr):
        (pool,) = session.call("pool.get_all_records").values()
        if pool["master"] != host:
            raise SRUnavailable(f"{sr_uuid} is collected by the pool's master")
    driver = registry.get(session.call("SR.get_type", sr))
    if not issubclass(driver, CowSR):
        raise SRUnavailable(f"{sr_uuid} keeps no chains")
    return driver, Request(
        command="gc",
        device_config={**plugged[0]["device_config"], "SRmaster": "true"},
        session_ref=session.ref,
        host_ref=host,
        sr_ref=sr,
        sr_uuid=sr_uuid,
    )
