"""A message of the XenAPI as data, and the call that carries it through the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xapi.datatypes import Type, Value

if TYPE_CHECKING:
    from xapi.toolstack import Toolstack


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. With a default it may be left out, and all that follow it."""

    name: str
    type: Type
    default: Value | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """`name` = "VDI.revert"; `run(call, *values)` gets every parameter, defaults filled in.

    `session`: the first argument on the wire is a session reference, which is not among
    `params`. Only logging in and system.* go without.
    `asynchronous`: it may also be called as Async.<name>, which returns a task at once.
    """

    name: str
    run: Callable[..., Value]
    params: tuple[Param, ...] = ()
    session: bool = True
    asynchronous: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One XenAPI call on its way through the server.

    `session` is the caller's session, or NULL before the login; `local` tells that it came
    through the unix socket; `task` names the call in current_operations and to the drivers.
    There is a task of that name if the call was asked to run in the background.
    """

    xapi: Toolstack
    method: str
    session: str
    local: bool
    task: str


def now() -> datetime:
    """The server's clock, in the whole seconds that the wire can carry."""
    return datetime.now(UTC).replace(microsecond=0)
