"""What every answer of the XenAPI must be, on both wires: a well-formed envelope.

Exception
└── Finding               it is none
"""

from __future__ import annotations

import json
import re
import xmlrpc.client
from collections.abc import Sequence
from typing import Any

_CODE = re.compile(r"[A-Z][A-Z0-9_]*")
#: How the dispatcher words what nobody expected.
_EXCEPTION = re.compile(r"[A-Za-z]+(Error|Exception|Warning)\b|Traceback")


class Finding(Exception):
    """An answer that is no well-formed envelope; the text shows it."""


def judge(description: object) -> list[str]:
    """An ErrorDescription: [code, parameters...], and no Python exception in it."""
    if not isinstance(description, list) or not description:
        raise Finding(f"no ErrorDescription: {description!r}")
    if not all(isinstance(part, str) for part in description):
        raise Finding(f"not all of it is text: {description!r}")
    code, *params = description
    if not _CODE.fullmatch(code):
        raise Finding(f"no error code: {code!r}")
    if hides_exception(description):
        raise Finding(f"an exception that nobody expected: {params}")
    return description


def hides_exception(description: Sequence[str]) -> bool:
    """Whether an ErrorDescription stands for something that should not have happened."""
    code, *params = description
    return code == "INTERNAL_ERROR" and bool(_EXCEPTION.match(params[0]))


def of_xml(kind: str | None, answer: bytes) -> list[str] | None:
    """The ErrorDescription of an answer to XML-RPC, None of a success."""
    if kind != "text/xml":
        raise Finding(f"content type {kind}")
    try:
        [reply], method = xmlrpc.client.loads(answer)
    except Exception as error:
        raise Finding(f"not XML-RPC ({error!r}): {answer[:500]!r}") from error
    if method is not None or not isinstance(reply, dict):
        raise Finding(f"no envelope: {answer[:500]!r}")
    if reply.keys() == {"Status", "Value"} and reply["Status"] == "Success":
        return None
    if reply.keys() == {"Status", "ErrorDescription"} and reply["Status"] == "Failure":
        return judge(reply["ErrorDescription"])
    raise Finding(f"no envelope: {answer[:500]!r}")


def of_json(kind: str | None, answer: bytes, *, id_: int, second: bool) -> list[str] | None:
    """The ErrorDescription of an answer to JSON-RPC, None of a success."""
    if kind != "application/json":
        raise Finding(f"content type {kind}")
    try:
        reply = json.loads(answer, parse_constant=_no_number)
    except ValueError as error:
        raise Finding(f"not JSON ({error}): {answer[:500]!r}") from error
    keys = set(reply)
    if reply.get("id") != id_ or (second and reply.get("jsonrpc") != "2.0"):
        raise Finding(f"no envelope: {answer[:500]!r}")
    if second and keys == {"jsonrpc", "result", "id"}:
        return None
    if second and keys == {"jsonrpc", "error", "id"}:
        said = reply["error"]
        if said.keys() == {"code", "message", "data"} and said["code"] == 1:
            return judge([said["message"], *said["data"]])
    if not second and keys == {"result", "error", "id"}:
        return None if reply["error"] is None else judge(reply["error"])
    raise Finding(f"no envelope: {answer[:500]!r}")


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
