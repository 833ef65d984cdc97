"""XML-RPC: typed values there and back, and everything that is no call."""

from __future__ import annotations

import xmlrpc.client
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapi import wire
from xapi.datatypes import NULL, STRING_MAP, STRINGS, Basic, Enumeration, Ref, SetOf, Value
from xapi.errors import XenAPIError

moments = st.datetimes(
    min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)
).map(lambda moment: moment.replace(microsecond=0))
scalars = (
    st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | moments
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def as_received(value: Value) -> object:
    """What a client makes of a value: ints are text, times end in Z, odd characters are gone."""
    if isinstance(value, str):
        return wire._ILLEGAL.sub("\ufffd", value)
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return xmlrpc.client.DateTime(wire.timestamp(value))
    if isinstance(value, tuple):
        return [as_received(item) for item in value]
    return {as_received(key): as_received(item) for key, item in value.items()}


@settings(deadline=None)
@given(values)
def test_a_client_receives_what_was_sent(value: Value) -> None:
    [reply], method = xmlrpc.client.loads(wire.success(value))
    assert method is None
    assert reply == {"Status": "Success", "Value": as_received(value)}


@settings(deadline=None)
@given(st.lists(st.text()))
def test_a_failure_is_a_list_of_texts(description: list[str]) -> None:
    [reply], _ = xmlrpc.client.loads(wire.failure(description))
    assert reply == {
        "Status": "Failure",
        "ErrorDescription": [as_received(part) for part in description],
    }


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_no_call(document: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse_call(document)


_TAGS = "methodCall methodName params param value struct member name array data int fault nil"
fragments = st.sampled_from(
    [f"<{mark}{tag}>" for tag in _TAGS.split() for mark in ("", "/")] + ["1", "x", " "]
)


@settings(deadline=None)
@given(st.lists(fragments).map("".join))
def test_torn_documents_are_no_call_or_a_call(body: str) -> None:
    document = f"<methodCall>{body}</methodCall>".encode()
    try:
        method, params = wire.parse_call(document)
    except wire.WireError:
        return
    assert method
    assert isinstance(params, tuple)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<methodCall></methodCall>",
        b"<methodCall><methodName>a</methodName>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><methodCall><methodName>&b;</methodName></methodCall>",
        xmlrpc.client.dumps(xmlrpc.client.Fault(1, "x")).encode(),
        xmlrpc.client.dumps(("x",), methodresponse=True).encode(),
    ],
)
def test_no_call(document: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse_call(document)


@pytest.mark.parametrize(
    ("type_", "given_", "expected"),
    [
        (Basic.INT, "12", 12),
        (Basic.INT, 12, 12),
        (Basic.INT, " -1 ", -1),
        (Basic.INT, str(2**63 - 1), 2**63 - 1),
        (Basic.INT, 3.0, 3),
        (Basic.FLOAT, 30, 30.0),
        (Basic.FLOAT, "0.5", 0.5),
        (Basic.BOOL, True, True),
        (Ref("VDI"), "", NULL),
        (Ref("VDI"), "OpaqueRef:1", "OpaqueRef:1"),
        (STRINGS, ["a", "b"], ("a", "b")),
        (STRING_MAP, {"a": "b"}, {"a": "b"}),
        (Enumeration("e", ("one", "two")), "two", "two"),
        (Basic.DATETIME, "20260102T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (Basic.DATETIME, "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            Basic.DATETIME,
            xmlrpc.client.DateTime("20260102T03:04:05"),
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
    ],
)
def test_decode(type_: Basic, given_: object, expected: Value) -> None:
    assert wire.decode(type_, given_, "f") == expected


@pytest.mark.parametrize(
    ("type_", "given_"),
    [
        (Basic.INT, "1.5"),
        (Basic.INT, 1.5),
        (Basic.INT, float("inf")),
        (Basic.INT, ""),
        (Basic.INT, True),
        (Basic.INT, str(2**63)),
        (Basic.INT, "9" * 5000),
        (Basic.FLOAT, "x"),
        (Basic.FLOAT, "nan"),
        (Basic.FLOAT, float("inf")),
        (Basic.FLOAT, 10**400),
        (Basic.BOOL, "true"),
        (Basic.STRING, 1),
        (Basic.DATETIME, "yesterday"),
        (Basic.DATETIME, "20261302T03:04:05Z"),
        (Basic.DATETIME, 5),
        (STRINGS, "a"),
        (STRINGS, [1]),
        (STRING_MAP, ["a"]),
        (STRING_MAP, {"a": 1}),
        (SetOf(Ref("VDI")), [{}]),
        (Enumeration("e", ("one", "two")), "three"),
    ],
)
def test_decode_refuses(type_: Basic, given_: object) -> None:
    with pytest.raises(XenAPIError) as error:
        wire.decode(type_, given_, "f")
    assert error.value.description == ["FIELD_TYPE_ERROR", "f"]


@pytest.mark.parametrize("type_", [*Basic, Ref("VDI"), STRINGS, STRING_MAP])
def test_decode_refuses_what_has_too_many_levels(type_: Basic) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert outcome(type_, nested) == ["FIELD_TYPE_ERROR", "f"]


@pytest.mark.parametrize("text", ["\0", "a\x1b[0m", "\ud800", "\ufffe"])
def test_decode_refuses_what_xml_cannot_carry(text: str) -> None:
    for type_, value in ((Basic.STRING, text), (STRING_MAP, {text: ""}), (STRING_MAP, {"": text})):
        with pytest.raises(XenAPIError) as error:
            wire.decode(type_, value, "f")
        assert error.value.code == "INVALID_VALUE"
        assert wire.failure(error.value.description)


@settings(deadline=None)
@given(st.sampled_from([*Basic, Ref("VDI"), STRINGS, STRING_MAP]), values)
def test_decode_never_fails_otherwise(type_: Basic, value: object) -> None:
    assert outcome(type_, value)[0] in ("decoded", "FIELD_TYPE_ERROR", "INVALID_VALUE")


def outcome(type_: Basic, value: object) -> list[str]:
    try:
        wire.decode(type_, value, "f")
    except XenAPIError as error:
        return error.description
    return ["decoded"]
