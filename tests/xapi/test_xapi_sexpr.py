"""S-expressions, as VM.snapshot_metadata holds them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapi import sexpr
from xapi.datatypes import STRING_MAP, STRINGS, Basic, MapOf, Ref, SetOf, Type, Value

EXPRESSIONS: st.SearchStrategy[sexpr.Expression] = st.recursive(
    st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=20
)
INTS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
TYPED: st.SearchStrategy[tuple[Type, Value]] = st.one_of(
    st.tuples(st.just(Basic.STRING), st.text()),
    st.tuples(st.just(Basic.INT), INTS),
    st.tuples(st.just(Basic.BOOL), st.booleans()),
    st.tuples(st.just(Basic.DATETIME), MOMENTS),
    st.tuples(st.just(Ref("VDI")), st.just("OpaqueRef:1")),
    st.tuples(st.just(STRINGS), st.lists(st.text(), max_size=4).map(tuple)),
    st.tuples(st.just(SetOf(Basic.INT)), st.lists(INTS, max_size=4).map(tuple)),
    st.tuples(st.just(STRING_MAP), st.dictionaries(st.text(), st.text(), max_size=4)),
    st.tuples(
        st.just(MapOf(Basic.STRING, STRINGS)),
        st.dictionaries(st.text(), st.lists(st.text(), max_size=3).map(tuple), max_size=3),
    ),
)


@given(EXPRESSIONS)
def test_what_is_dumped_is_parsed(expression: sexpr.Expression) -> None:
    assert sexpr.parse(sexpr.dump(expression)) == expression


@given(TYPED)
def test_columns(typed: tuple[Type, Value]) -> None:
    type_, value = typed
    row = sexpr.dump([["column", sexpr.to_text(value)]])
    [(column, text)] = sexpr.pairs(row)
    assert sexpr.from_text(type_, text, column) == value


def test_the_form_of_the_field() -> None:
    row = [["name__label", "it's"], ["other_config", sexpr.to_text({"k": "v"})]]
    assert sexpr.dump(row) == r"(('name__label' 'it\'s') ('other_config' '((\'k\' \'v\'))'))"
    assert sexpr.to_text(datetime(2026, 1, 2, tzinfo=UTC)) == "20260102T00:00:00Z"


@pytest.mark.parametrize("text", ["", "(", ")", "a", "'a", "'a' 'b'", "('a'))", "(a)"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match="no S-expression"):
        sexpr.parse(text)


@given(st.text(alphabet="()' \\ab"))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        expression = sexpr.parse(text)
    except ValueError:
        return
    assert sexpr.parse(sexpr.dump(expression)) == expression


@pytest.mark.parametrize("text", ["'a'", "('a')", "(('a'))", "(('a' ('b')))"])
def test_what_are_no_pairs(text: str) -> None:
    with pytest.raises(ValueError, match="pairs"):
        sexpr.pairs(text)
