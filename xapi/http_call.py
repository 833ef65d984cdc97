"""HTTP requests that are calls in themselves: who calls, and on which task.

Both may be said in the query or in a cookie: session_id (or HTTP Basic instead), and task_id,
a task that the client made to see how it goes. Without one the server makes it, and names it
in the answer's header task-id.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from xapi import task
from xapi.datatypes import Value
from xapi.errors import XenAPIError, internal_error
from xapi.message import Call
from xapi.toolstack import Toolstack
from xapi.web import HttpError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """What a request says beside its body: `values` by name, and who says it."""

    values: Mapping[str, str]
    credentials: tuple[str, str] | None

    def required(self, name: str) -> str:
        """The value of a name. Without one the request is refused."""
        if name not in self.values:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{name}=... is missing")
        return self.values[name]

    def get(self, name: str, default: str = "") -> str:
        """The value of a name, if it has one."""
        return self.values.get(name, default)


@dataclass(slots=True)
class Work:
    """A call under way, and what its task will give as the result."""

    call: Call
    result: Value = ""


def parse(environ: WSGIEnvironment) -> Query:
    """The query and the cookies of a request; the query has the last word."""
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(environ.get("HTTP_COOKIE", ""))
    except CookieError:
        _log.info("a cookie that is none")
    values = {name: cookie.value for name, cookie in cookies.items()}
    values |= parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
    return Query(values, _credentials(environ.get("HTTP_AUTHORIZATION", "")))


def _credentials(authorization: str) -> tuple[str, str] | None:
    kind, _, encoded = authorization.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password


@contextmanager
def session(xapi: Toolstack, query: Query, *, local: bool) -> Iterator[str]:
    """The session of a request: its own, or one that is opened for it.

    Raises:
        HttpError: 401.
    """
    given = query.get("session_id")
    caller = given or _log_in(xapi, query, local=local)
    try:
        xapi.sessions.check(caller)
    except XenAPIError as error:
        raise _unauthorized(str(error)) from error
    try:
        yield caller
    finally:
        if not given:
            xapi.sessions.close(caller)


@contextmanager
def call(xapi: Toolstack, query: Query, method: str, *, local: bool) -> Iterator[Work]:
    """The call that a request makes. Its task says in the end how it went.

    Raises:
        HttpError: 401, or 404 for a task that there is none of.
    """
    with session(xapi, query, local=local) as caller:
        ref = query.get("task_id") or task.begin(xapi.db, xapi.host, method, served=True)
        if not xapi.db.exists("task", ref):
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no task {ref}")
        work = Work(Call(xapi, method, caller, local, ref))
        try:
            yield work
        except XenAPIError as error:
            task.fail(xapi.db, ref, error)
            raise
        except BaseException as error:
            task.fail(xapi.db, ref, internal_error(str(error)))
            raise
        else:
            task.succeed(xapi.db, ref, work.result)


def _log_in(xapi: Toolstack, query: Query, *, local: bool) -> str:
    if query.credentials is None:
        raise _unauthorized("neither session_id nor credentials")
    user, password = query.credentials
    try:
        return xapi.sessions.login(xapi.host, user, password, "HTTP", local=local)
    except XenAPIError as error:
        raise _unauthorized(str(error)) from error


def _unauthorized(text: str) -> HttpError:
    challenge = ("WWW-Authenticate", 'Basic realm="XenAPI"')
    return HttpError(HTTPStatus.UNAUTHORIZED, text, challenge)
