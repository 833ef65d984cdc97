"""JSON-RPC 1.0 and 2.0 as the XenAPI speaks them.

Which version a request is follows from its `jsonrpc` member. A failure is the ErrorDescription
itself in version 1, and {code: 1, message: CODE, data: [parameters]} in version 2, where only
message and data mean anything. Batches and notifications are not spoken: like anything else
that is no request they raise :class:`~xapi.wire.WireError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from xapi.datatypes import Value
from xapi.wire import WireError, timestamp

#: Some clients take the number zero for success.
_ERROR_CODE = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One call; `id` is repeated in the answer to it."""

    version: int
    id: int | str
    method: str
    params: tuple[object, ...]

    def success(self, value: Value) -> bytes:
        """The answer to a call that went well."""
        if self.version == 1:
            return encode({"result": value, "error": None, "id": self.id})
        return encode({"jsonrpc": "2.0", "result": value, "id": self.id})

    def failure(self, description: Sequence[str]) -> bytes:
        """The answer to a call that failed: ErrorDescription = [code, parameters...]."""
        if self.version == 1:
            return encode({"result": None, "error": description, "id": self.id})
        code, *params = description
        error = {"code": _ERROR_CODE, "message": code, "data": params}
        return encode({"jsonrpc": "2.0", "error": error, "id": self.id})


def parse(document: bytes) -> Request:
    """The request that a body holds.

    Raises:
        WireError: the bytes are no JSON, or no request with method, params and id.
    """
    try:
        request = json.loads(document, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(request, dict):
        raise WireError("a request is an object; batches are not supported")
    version = {None: 1, "2.0": 2}.get(_text_or_none(request.get("jsonrpc")))
    method, id_ = request.get("method"), request.get("id")
    if version is None:
        raise WireError("jsonrpc is either absent or 2.0")
    if not isinstance(method, str):
        raise WireError("method is a string")
    if isinstance(id_, bool) or not isinstance(id_, (int, str)):
        raise WireError("id is a number or a string; notifications are not supported")
    return Request(version, id_, method, _params(request.get("params"), version))


def _text_or_none(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else "neither"


def _params(params: object, version: int) -> tuple[object, ...]:
    if isinstance(params, list):
        return tuple(params)
    if version == 2 and params is None:
        return ()
    if version == 2 and isinstance(params, dict):
        return (params,)
    raise WireError("params is an array")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def encode(value: Any) -> bytes:
    """A value as JSON. What JSON has no number for (infinity, not a number) becomes null."""
    try:
        text = json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), default=_plain, separators=(",", ":"))
    return text.encode()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no value of the XenAPI: {value!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
