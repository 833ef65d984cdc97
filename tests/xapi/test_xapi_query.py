"""The query language of get_all_records_where."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapi.datatypes import Record
from xapi.errors import XenAPIError
from xapi.query import compile_query

RECORD: Record = {
    "uuid": "1",
    "name_label": "a disk",
    "SR": "OpaqueRef:x",
    "managed": True,
    "size": 12,
    "tags": ("a", "b"),
    "config": {"k": "v"},
    "empty": {},
    "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("true", True),
        ("false", False),
        (" not\n false ", True),
        ("not true or true", True),
        ("true or true and false", False),
        ("true or (true and false)", True),
        ('field "uuid" = "1"', True),
        ('"1"=field "uuid"', True),
        ('field "uuid" = "2" or field "SR" = "OpaqueRef:x"', True),
        ('field "uuid" = "1" and field "SR" = "OpaqueRef:y"', False),
        ('field "name__label" = "a disk"', True),
        ('field "managed"="true"', True),
        ('field "size" = "12"', True),
        ("field \"tags\" = \"('a' 'b')\"", True),
        ("field \"config\" = \"(('k' 'v'))\"", True),
        ('field "empty" = "()"', True),
        ('field "time" = "20260102T03:04:05Z"', True),
    ],
)
def test_queries(expression: str, expected: bool) -> None:
    assert compile_query(expression)(RECORD) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "true true",
        "and",
        "(true",
        "true)",
        'field uuid = "1"',
        'field "uuid"',
        'field "uuid" = ',
        '"unclosed',
        "maybe",
        "not " * 1000 + "true",
        "(" * 1000,
    ],
)
def test_what_does_not_parse(expression: str) -> None:
    with pytest.raises(XenAPIError) as error:
        compile_query(expression)
    assert error.value.description[:2] == ["INVALID_VALUE", expression]


def test_unknown_fields() -> None:
    with pytest.raises(XenAPIError) as error:
        compile_query('field "nonsense" = "1"')(RECORD)
    assert error.value.code == "INTERNAL_ERROR"


def test_long_chains() -> None:
    chain = " or ".join(f'field "uuid" = "{n}"' for n in range(2, 5000))
    assert compile_query(f'{chain} or field "uuid" = "1"')(RECORD) is True
    assert compile_query(chain)(RECORD) is False


@settings(deadline=None)
@given(
    st.recursive(
        st.booleans().map(lambda value: (str(value).lower(), value)),
        lambda inner: (
            inner.map(lambda e: (f"(not {e[0]})", not e[1]))
            | st.tuples(inner, inner).map(
                lambda p: (f"({p[0][0]} and {p[1][0]})", p[0][1] and p[1][1])
            )
            | st.tuples(inner, inner).map(
                lambda p: (f"({p[0][0]} or {p[1][0]})", p[0][1] or p[1][1])
            )
        ),
        max_leaves=20,
    )
)
def test_logic(example: tuple[str, bool]) -> None:
    expression, expected = example
    assert compile_query(expression)(RECORD) is expected


@settings(deadline=None)
@given(st.text(alphabet='()="" andortuefilsx\n', max_size=60))
def test_any_text_parses_or_is_refused(expression: str) -> None:
    assert outcome(expression) in ("parsed", "INVALID_VALUE")


def outcome(expression: str) -> str:
    try:
        compile_query(expression)
    except XenAPIError as error:
        return error.code
    return "parsed"
