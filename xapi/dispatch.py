"""From a method name and wire values to the function that answers, and back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xapi import (
    event,
    generated,
    host,
    messages,
    network,
    pbd,
    pool,
    revert,
    session,
    sm,
    sr,
    sr_info,
    task,
    vbd,
    vbd_settings,
    vdi,
    vdi_cbt,
    vdi_copy,
    vdi_db,
    vm,
    vm_power,
    vm_revert,
    vm_settings,
    vm_snapshot,
)
from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, Value
from xapi.errors import XenAPIError, internal_error
from xapi.message import Call, Message
from xapi.toolstack import Toolstack
from xapi.wire import decode

_log = logging.getLogger(__name__)
_ASYNC = "Async."

_WRITTEN_BY_HAND = (
    *(session, event, task, messages, host, pool, network, sm, sr, sr_info, pbd),
    *(vdi, vdi_cbt, vdi_copy, vdi_db, revert, vbd, vbd_settings),
    *(vm, vm_power, vm_revert, vm_settings, vm_snapshot),
)


class Dispatcher:
    """Answers calls. What a message needs (session, parameters) is checked here, once."""

    def __init__(self, xapi: Toolstack) -> None:
        self._xapi = xapi
        self._background: set[threading.Thread] = set()
        self._messages = {message.name: message for message in _all_messages()}

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages."""
        return tuple(self._messages.values())

    @property
    def methods(self) -> tuple[str, ...]:
        """What can be called, in the background too."""
        in_background = (_ASYNC + name for name, m in self._messages.items() if m.asynchronous)
        return (*self._messages, *in_background)

    def call(self, method: str, params: Sequence[object], *, local: bool) -> Value:
        """Run one message; `local` tells that it came through the unix socket.

        Raises:
            XenAPIError: always and only that.
        """
        with _expected_errors(method):
            return self._call(method, params, local=local)

    def join(self) -> None:
        """Wait for the calls that run in the background."""
        while running := tuple(self._background):
            for thread in running:
                thread.join()

    def _call(self, method: str, params: Sequence[object], *, local: bool) -> Value:
        message = self._find(method.removeprefix(_ASYNC))
        background = method.startswith(_ASYNC)
        if message is None or (background and not message.asynchronous):
            raise XenAPIError("MESSAGE_METHOD_UNKNOWN", (method,))
        caller = NULL
        if message.session:
            caller, params = _split(message, params)
        _check_count(message, params)
        if message.session:
            self._xapi.sessions.check(caller)
        values = tuple(_values(message, params))
        if background:
            return self._start(message, values, caller, local=local)
        call = Call(self._xapi, message.name, caller, local, self._xapi.db.new_ref())
        return message.run(call, *values)

    def _find(self, name: str) -> Message | None:
        return self._messages.get(name) or self._messages.get(name.replace("_", ".", 1))

    def _start(
        self, message: Message, values: tuple[Value, ...], caller: str, *, local: bool
    ) -> str:
        """Let a call run in the background; its task."""
        db, name = self._xapi.db, _ASYNC + message.name
        ref = task.begin(db, self._xapi.host, name, served=True)
        call = Call(self._xapi, message.name, caller, local, ref)
        thread = threading.Thread(target=self._work, args=(message, call, values), name=name)
        self._background.add(thread)
        thread.start()
        return ref

    def _work(self, message: Message, call: Call, values: tuple[Value, ...]) -> None:
        """Run the call and write its outcome into its task."""
        try:
            with _expected_errors(message.name):
                value = message.run(call, *values)
        except XenAPIError as error:
            task.fail(self._xapi.db, call.task, error)
        else:
            task.succeed(self._xapi.db, call.task, value)
        finally:
            self._background.discard(threading.current_thread())


@contextmanager
def _expected_errors(method: str) -> Iterator[None]:
    """What nobody expected is logged with its traceback and becomes INTERNAL_ERROR [text]."""
    try:
        yield
    except XenAPIError:
        raise
    except Exception as error:
        _log.exception("%s failed unexpectedly", method)
        raise internal_error(f"{type(error).__name__}: {error}") from error


def _all_messages() -> Iterator[Message]:
    """Generated ones first: one that is written by hand takes the place of its like."""
    for cls in CLASSES.values():
        yield from generated.messages(cls)
    for module in _WRITTEN_BY_HAND:
        yield from module.MESSAGES


def _split(message: Message, params: Sequence[object]) -> tuple[str, Sequence[object]]:
    if not params:
        raise _mismatch(message, 0)
    caller, *others = params
    if not isinstance(caller, str):
        raise XenAPIError("SESSION_INVALID", ("a value that is no string",))
    return caller, others


def _check_count(message: Message, params: Sequence[object]) -> None:
    required = sum(param.default is None for param in message.params)
    if not required <= len(params) <= len(message.params):
        raise _mismatch(message, len(params))


def _mismatch(message: Message, received: int) -> XenAPIError:
    counts = (str(len(message.params)), str(received))
    return XenAPIError("MESSAGE_PARAMETER_COUNT_MISMATCH", (message.name, *counts))


def _values(message: Message, params: Sequence[object]) -> Iterator[Value]:
    for index, param in enumerate(message.params):
        if index < len(params):
            yield decode(param.type, params[index], param.name)
        elif param.default is not None:
            yield param.default
