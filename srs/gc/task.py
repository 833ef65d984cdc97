"""A collector's work as a task of the XenAPI: whoever looks sees it, and may cancel it.

The task is called `Garbage Collection`; its other_config says `applies_to` = reference of the
SR. It ends as `success`; as `cancelled`, where somebody cancelled it or needed the SR; or as
`failure`, with what failed first in its error_info.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from srs.errors import FistPoint, SMGeneral, SRError
from srs.gc.control import Aborted
from srs.protocol import Request
from srs.session import Failure, Session, ignoring

if TYPE_CHECKING:
    from srs.gc.collector import Report

_LABEL: Final = "Garbage Collection"
_APPLIES_TO: Final = "applies_to"
#: Seconds between two looks whether the task was cancelled.
_LOOK: Final = 1.0
#: Somebody removed the task: the work goes on without it.
_GONE: Final = ("HANDLE_INVALID",)


class Task:
    """The task of one collector, which has been told to begin.

    Args:
        session: of the collector.
        request: says which SR.
        check: raises Aborted when somebody needs the SR.
    """

    def __init__(self, session: Session, request: Request, check: Callable[[], None]) -> None:
        self._session = session
        self._check = check
        self._bury_others(request.sr_ref)
        self._ref = session.call("task.create", _LABEL, f"of SR {request.sr_uuid}")
        session.call("task.set_other_config", self._ref, {_APPLIES_TO: request.sr_ref})
        self._next_look = 0.0

    def _bury_others(self, sr_ref: str) -> None:
        """There is one collector at a time: what an earlier one left was killed."""
        condition = f'field "name__label" = "{_LABEL}"'
        found = self._session.call("task.get_all_records_where", condition)
        for ref, record in found.items():
            is_ours = record["other_config"].get(_APPLIES_TO) == sr_ref
            if is_ours and record["status"] in ("pending", "cancelling"):
                self._conclude(ref, "failure", SMGeneral("the collector was killed"))

    def check(self, done: float) -> None:
        """Say how much is done, between 0 and 1.

        Raises:
            Aborted: somebody needs the SR, or cancelled the task.
        """
        self._check()
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK
        status = []
        ignoring(_GONE, lambda: status.append(self._session.call("task.get_status", self._ref)))
        if "cancelling" in status:
            raise Aborted
        ignoring(_GONE, lambda: self._session.call("task.set_progress", self._ref, done))

    def end(self, report: Report) -> None:
        """The collector has ended by itself, or because it was told to."""
        if report.ended == "aborted":
            self._conclude(self._ref, "cancelled")
        elif report.failed:
            why = "; ".join(f"{uuid}: {text}" for uuid, text in report.failed.items())
            self._conclude(self._ref, "failure", SMGeneral(why))
        else:
            ignoring(_GONE, lambda: self._session.call("task.set_progress", self._ref, 1.0))
            self._conclude(self._ref, "success")

    def fail(self, error: BaseException) -> None:
        """The collector cannot go on."""
        text = f"{type(error).__name__}: {error}"
        known = error if isinstance(error, SRError) else SMGeneral(text)
        self._conclude(self._ref, "failure", known)

    def _conclude(self, ref: str, status: str, error: SRError | None = None) -> None:
        def tell() -> None:
            if error is not None:
                info = [f"SR_BACKEND_FAILURE_{error.code}", "", error.text]
                self._session.call("task.set_error_info", ref, info)
            self._session.call("task.set_status", ref, status)

        ignoring(_GONE, tell)


@contextmanager
def shown(session: Session, request: Request, check: Callable[[], None]) -> Iterator[Task]:
    """The task of a collector that works in this block."""
    task = Task(session, request, check)
    try:
        yield task
    except FistPoint:
        raise  # it has "died"
    except Exception as error:
        with suppress(Failure, SRError):  # the first failure is the one to tell
            task.fail(error)
        raise
