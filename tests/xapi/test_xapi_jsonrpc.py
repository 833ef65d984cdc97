"""JSON-RPC, both versions: envelopes, values, and everything that is no request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapi import jsonrpc
from xapi.wire import WireError

V1 = {"method": "VDI.get_uuid", "params": ["s", "v"], "id": 1}
V2 = {**V1, "jsonrpc": "2.0", "id": "one"}


def parse(request: object) -> jsonrpc.Request:
    return jsonrpc.parse(json.dumps(request).encode())


def test_a_call_of_version_1() -> None:
    call = parse(V1)
    assert call == jsonrpc.Request(1, 1, "VDI.get_uuid", ("s", "v"))
    assert json.loads(call.success("u")) == {"result": "u", "error": None, "id": 1}
    assert json.loads(call.failure(["CODE", "a", "b"])) == {
        "result": None,
        "error": ["CODE", "a", "b"],
        "id": 1,
    }


def test_a_call_of_version_2() -> None:
    call = parse(V2)
    assert call == jsonrpc.Request(2, "one", "VDI.get_uuid", ("s", "v"))
    assert json.loads(call.success("")) == {"jsonrpc": "2.0", "result": "", "id": "one"}
    assert json.loads(call.failure(["CODE", "a", "b"])) == {
        "jsonrpc": "2.0",
        "error": {"code": 1, "message": "CODE", "data": ["a", "b"]},
        "id": "one",
    }


def test_version_2_may_leave_params_out_or_name_them() -> None:
    assert parse({"jsonrpc": "2.0", "method": "m", "id": 1}).params == ()
    assert parse({"jsonrpc": "2.0", "method": "m", "id": 1, "params": {"a": 1}}).params == (
        {"a": 1},
    )


@pytest.mark.parametrize(
    "request_",
    [
        [V1, V2],
        [],
        "text",
        None,
        {**V1, "method": 1},
        {**V1, "params": {"a": 1}},
        {"method": "m", "id": 1},
        {**V1, "id": None},
        {**V1, "id": True},
        {**V1, "id": 1.5},
        {"method": "m", "params": []},
        {"jsonrpc": "2.0", "method": "m", "params": []},
        {**V2, "jsonrpc": "3.0"},
        {**V2, "jsonrpc": 2.0},
        {**V2, "jsonrpc": ["2.0"]},
        {**V2, "params": "text"},
    ],
)
def test_no_request(request_: object) -> None:
    with pytest.raises(WireError):
        parse(request_)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"method": "m", "params": [NaN], "id": 1}',
        b'{"method": "m", "params": [Infinity], "id": 1}',
        b'{"method": "m", "params": [' + b"9" * 5000 + b'], "id": 1}',
        b"[" * 100_000,
    ],
)
def test_no_json(document: bytes) -> None:
    with pytest.raises(WireError):
        jsonrpc.parse(document)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_no_request(document: bytes) -> None:
    with pytest.raises(WireError):
        jsonrpc.parse(document)


moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (0.5, 0.5),
        (True, True),
        ("\0\x7f\u2028\ud800", "\0\x7f\u2028\ud800"),
        (moment, "20260102T03:04:05Z"),
        (("a", ("b",)), ["a", ["b"]]),
        ({"": {"\n": 1}}, {"": {"\n": 1}}),
        (MappingProxyType({"a": moment}), {"a": "20260102T03:04:05Z"}),
        ({"a": (float("nan"), float("-inf"), 1.0)}, {"a": [None, None, 1.0]}),
    ],
)
def test_values(value: Any, expected: object) -> None:
    assert json.loads(jsonrpc.encode(value)) == expected


def test_what_is_no_value_is_a_defect() -> None:
    with pytest.raises(TypeError, match="no value of the XenAPI"):
        jsonrpc.encode({"a": object()})


@pytest.mark.parametrize("id_", [0, 2**70, "", "\u20ac\n"])
def test_ids_come_back(id_: int | str) -> None:
    reply = json.loads(parse({**V2, "id": id_}).success(""))
    assert reply["id"] == id_
