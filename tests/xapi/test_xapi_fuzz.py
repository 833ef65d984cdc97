"""Random calls on both wires: the answer is a well-formed envelope (ci/fuzz xapi runs more)."""

from __future__ import annotations

import json

import pytest

from xapi import wire
from xapi.testing.envelopes import Finding, of_json, of_xml
from xapi.testing.fuzz import storm

XML, JSON = "text/xml", "application/json"


def test_random_calls_get_envelopes() -> None:
    codes = [code for counts in storm(3000, seed=2026) for code in counts.elements()]
    assert len(codes) == 3000
    assert codes.count("") > 300  # many succeed
    assert len(set(codes)) > 20  # and fail in many ways


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("text/html", wire.success("")),
        (XML, b""),
        (XML, b"<methodResponse><fault/></methodResponse>"),
        (XML, wire.response("bare")),
        (XML, wire.response({"Status": "Success"})),
        (XML, wire.response({"Status": "Failure", "Value": ""})),
        (XML, wire.response({"Status": "Success", "Value": "", "ErrorDescription": ()})),
    ],
)
def test_what_is_no_xml_envelope_is_found(kind: str, answer: bytes) -> None:
    with pytest.raises(Finding):
        of_xml(kind, answer)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (XML, {"jsonrpc": "2.0", "result": "", "error": None, "id": 7}),
        (JSON, {"result": "", "id": 7}),
        (JSON, {"jsonrpc": "2.0", "result": "", "id": 8}),
        (JSON, {"jsonrpc": "2.0", "error": {"code": 0, "message": "X", "data": []}, "id": 7}),
        (JSON, {"jsonrpc": "2.0", "error": {"code": 1, "message": "X"}, "id": 7}),
        (JSON, {"result": float("nan"), "error": None, "id": 7}),
    ],
)
def test_what_is_no_json_envelope_is_found(kind: str, answer: object, second: bool) -> None:
    with pytest.raises(Finding):
        of_json(kind, json.dumps(answer).encode(), id_=7, second=second)


@pytest.mark.parametrize(
    "description",
    [(), ["lower"], ["CODE", ["a"]], ["INTERNAL_ERROR", "KeyError: 'x'"]],
)
def test_what_is_no_error_description_is_found(description: list[str]) -> None:
    with pytest.raises(Finding):
        of_xml(XML, wire.response({"Status": "Failure", "ErrorDescription": tuple(description)}))


def test_envelopes_are_told_from_errors() -> None:
    assert of_xml(XML, wire.success("")) is None
    assert of_xml(XML, wire.failure(["CODE", "a"])) == ["CODE", "a"]
