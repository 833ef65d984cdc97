"""Calls that go on while a scenario does something else."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import XenAPI

from scenarios.storage import Repository
from testbed.sessions import close_session
from xapi.errors import XenAPIError
from xapi.storage import BackendError

#: Seconds after which a call that was let go on counts as lost.
PATIENCE = 120


class Call:
    """A XenAPI call under way in a thread, over a session of its own."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def answer(self) -> Any:
        """What it returned, or raises."""
        return self._future.result(PATIENCE)

    def outcome(self) -> str:
        """The code that it was refused with; empty if it did its work."""
        try:
            self.answer()
        except XenAPI.Failure as failure:
            return str(failure.details[0])
        except (XenAPIError, BackendError) as failure:  # of a call below the XenAPI
            return failure.code
        return ""

    @property
    def over(self) -> bool:
        """Whether it has returned."""
        return self._future.done()


@contextmanager
def calls(sr: Repository) -> Iterator[Callable[[Callable[[Repository], Any]], Call]]:
    """Starts calls, all of which are over when the block ends.

    `start(lambda own: own.api.VDI.revert(ref))`: a call gets the SR over a session of its own.
    """
    with ThreadPoolExecutor(16, thread_name_prefix="call") as pool:

        def run(call: Callable[[Repository], Any]) -> Any:
            session = sr.host.session()
            try:
                return call(sr.with_session(session))
            finally:
                close_session(session)

        def start(call: Callable[[Repository], Any]) -> Call:
            return Call(pool.submit(run, call))

        yield start
