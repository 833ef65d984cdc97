"""The XenAPI as `xe` uses it: one session, and errors that can be shown to people.

Exception
└── XeError               what `xe` prints on stderr before it exits with `status`
    ├── ApiFailure        the server refused: code and parameters
    └── TransportError    the server cannot be reached, or is no XenAPI server
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from xapi.errors import CODES
from xapi.xe_wire import Wire

FAILED = 1
UNREACHABLE = 2
NOT_LOGGED_IN = 3
_REFUSED = "SESSION_AUTHENTICATION_FAILED"


class XeError(Exception):
    """Something that ends `xe`: `text` is for stderr."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class ApiFailure(XeError):
    """The server's answer was Failure: [code, parameters...]."""

    def __init__(self, code: str, params: list[str]) -> None:
        super().__init__(f"{code} {params}")
        self.code = code
        self.params = params


class TransportError(XeError):
    """No answer of a XenAPI server."""

    def __init__(self, server: str, reason: object) -> None:
        super().__init__(f"Cannot reach the server at {server}: {reason}", UNREACHABLE)


class Client:
    """A session with a XenAPI server: it logs in and out with its `with` block.

    `trace` shows every message and its answer on stderr.
    """

    def __init__(self, server: str, user: str, password: str, *, trace: bool = False) -> None:
        self._server = server
        self._trace = trace
        self._credentials = (user, password, "1.0", "xe")
        self._wire = Wire(server)
        self._session = ""
        self._known: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Client:
        try:
            self._session = str(self._send("session.login_with_password", *self._credentials))
        except XeError as failure:
            self._wire.close()
            if isinstance(failure, ApiFailure) and failure.code == _REFUSED:
                raise XeError(CODES[_REFUSED].text, NOT_LOGGED_IN) from failure
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The command is done; a session that is lost by now needs no logging out.
        with suppress(XeError):
            self.call("session.logout")
        self._wire.close()

    def call(self, method: str, *params: object) -> Any:
        """Send one message and return its Value.

        Raises:
            ApiFailure: the server refused.
            TransportError: there was no proper answer.
        """
        return self._send(method, self._session, *params)

    def ref(self, cls: str, uuid: str) -> str:
        """The reference of an object by its uuid."""
        return str(self.call(f"{cls}.get_by_uuid", uuid))

    def uuid(self, cls: str, ref: str) -> str | None:
        """The uuid of a reference, None where it refers to nothing. Asked for only once."""
        return self._lookup(f"{cls}.get_uuid", ref)

    def name(self, cls: str, ref: str) -> str | None:
        """The name_label of a reference, None where it refers to nothing. Asked for only once."""
        return self._lookup(f"{cls}.get_name_label", ref)

    def _lookup(self, method: str, ref: str) -> str | None:
        if (method, ref) not in self._known:
            try:
                self._known[method, ref] = str(self.call(method, ref))
            except ApiFailure:
                return None
        return self._known[method, ref]

    @property
    def session(self) -> str:
        """The session's reference, for handlers that take it as a query."""
        return self._session

    @property
    def server(self) -> str:
        """The server, as host:port."""
        return self._server

    def _send(self, method: str, *params: object) -> Any:
        try:
            reply = self._wire.call(method, *params)
            error = reply.get("error")
            failure = ApiFailure(error["message"], error["data"]) if error else None
        except OSError as reason:
            raise TransportError(self._server, reason) from reason
        except (ValueError, TypeError, LookupError) as reason:
            raise TransportError(self._server, f"not a XenAPI server ({reason})") from reason
        if self._trace:
            secret = method.startswith("session.login")
            sent = "..." if secret else ", ".join(map(repr, params[1:]))
            print(f"{method}({sent}): {error or reply['result']}", file=sys.stderr)
        if failure is not None:
            raise failure
        return reply["result"]
