"""HTTP: what each method and path of the server means.

    POST /jsonrpc             JSON-RPC 1.0 and 2.0
    POST anything else        XML-RPC
    GET  /                    a page that says what this is
    GET  /export_raw_vdi      the content of a disk      (xapi/disk_http.py)
    PUT  /import_raw_vdi      new content for a disk
    OPTIONS                   which origins may call: all

What the XenAPI itself has to say comes with status 200, errors included. A body that is no
call, one without a length and one of more than 300 KiB get 500 and a line of HTML.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from xapi import jsonrpc, wire
from xapi.dispatch import Dispatcher
from xapi.errors import XenAPIError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

REQUEST_LIMIT = 300 * 1024
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Headers", "X-Requested-With"),
)
_ABOUT = b"<html><body><h1>XenAPI</h1><p>POST XML-RPC to /, JSON-RPC to /jsonrpc.</p></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `body`, of `length` bytes, is sent piece by piece.

    When it is over, or nobody takes it any more, its method `close` is called if it has one.
    """

    status: HTTPStatus
    content_type: str
    body: Iterable[bytes]
    length: int
    headers: tuple[tuple[str, str], ...] = ()


#: Answers a GET or a PUT.
Handler: TypeAlias = Callable[["WSGIEnvironment"], Answer]


class HttpError(Exception):
    """A request that HTTP itself refuses. The text is for people."""

    def __init__(self, status: HTTPStatus, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Application:
    """The WSGI application behind one socket.

    Args:
        dispatcher: answers calls.
        handlers: by (method, beginning of the path).
        local: who connects here is local root.
    """

    def __init__(
        self, dispatcher: Dispatcher, handlers: Mapping[tuple[str, str], Handler], *, local: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._handlers = handlers
        self._local = local

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        try:
            answer = self._answer(environ)
        except HttpError as error:
            _log.info("%s %s: %s", environ["REQUEST_METHOD"], environ["PATH_INFO"], error)
            answer = _refusal(error)
        size = ("Content-Length", str(answer.length))
        headers = [("Content-Type", answer.content_type), size, *answer.headers]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return answer.body if environ["REQUEST_METHOD"] != "HEAD" else ()

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "POST":
            return self._rpc(environ, json=path.startswith("/jsonrpc"))
        for (handled, prefix), handler in self._handlers.items():
            if method == handled and path.startswith(prefix):
                return handler(environ)
        if method == "OPTIONS":
            return page(HTTPStatus.OK, b"", *_CORS)
        if method not in ("GET", "HEAD"):
            raise HttpError(HTTPStatus.NOT_IMPLEMENTED, f"nothing takes {method} here")
        if path != "/":
            raise HttpError(HTTPStatus.NOT_FOUND, "there is no such page")
        return page(HTTPStatus.OK, _ABOUT)

    def _rpc(self, environ: WSGIEnvironment, *, json: bool) -> Answer:
        body = _read_body(environ)
        try:
            reply = self._json(body) if json else self._xml(body)
        except wire.WireError as error:
            raise HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, f"no call: {error}") from error
        kind = "application/json" if json else "text/xml"
        return Answer(HTTPStatus.OK, kind, (reply,), len(reply), _CORS)

    def _xml(self, body: bytes) -> bytes:
        method, params = wire.parse_call(body)
        if method == "system.listMethods":
            return wire.response(self._dispatcher.methods)
        try:
            return wire.success(self._dispatcher.call(method, params, local=self._local))
        except XenAPIError as error:
            return wire.failure(error.description)

    def _json(self, body: bytes) -> bytes:
        request = jsonrpc.parse(body)
        if request.method == "system.listMethods":
            return request.success(self._dispatcher.methods)
        try:
            result = self._dispatcher.call(request.method, request.params, local=self._local)
        except XenAPIError as error:
            return request.failure(error.description)
        return request.success(result)


def page(status: HTTPStatus, body: bytes, *headers: tuple[str, str]) -> Answer:
    """A short HTML page."""
    return Answer(status, "text/html", (body,), len(body), headers)


def _refusal(error: HttpError) -> Answer:
    # What is left of the request's body is not read: the connection is of no more use.
    title = f"{error.status.value} {error.status.phrase}"
    text = f"<html><body><h1>{title}</h1><p>{escape(str(error))}</p></body></html>"
    body = text.encode(errors="replace")
    return page(error.status, body, ("Connection", "close"), *error.headers)


def _read_body(environ: WSGIEnvironment) -> bytes:
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal():
        raise HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "a call needs a Content-Length")
    if int(length) > REQUEST_LIMIT:
        raise HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, f"a call of {length} bytes")
    body: bytes = environ["wsgi.input"].read(int(length))
    return body
