r"""S-expressions as XenServer's database writes them: lists in parentheses, texts in quotes.

    (('name__label' 'web') ('other_config' '((\'mac_seed\' \'1\'))'))

VM.snapshot_metadata is one: a list of (column, value) pairs. A set or a map is an expression
of its own, as a text within the outer one. Inside quotes a backslash stands before a quote and
before a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from xapi.datatypes import Basic, MapOf, SetOf, Type, Value
from xapi.wire import decode, timestamp

Expression: TypeAlias = str | Sequence["Expression"]

_TOKEN = re.compile(r"\s*(?:([()])|'((?:[^'\\]|\\.)*)')\s*", re.DOTALL)


def dump(expression: Expression) -> str:
    """An expression as text."""
    if isinstance(expression, str):
        escaped = expression.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return f"({' '.join(dump(part) for part in expression)})"


def parse(text: str) -> Expression:
    """The contrary of `dump`.

    Raises:
        ValueError: the text is no expression.
    """
    open_lists: list[list[Expression]] = [[]]
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError(f"no S-expression: unexpected text at {position}")
        position = token.end()
        if token[1] == "(":
            open_lists.append([])
        elif token[1] == ")":
            done = open_lists.pop()
            if not open_lists:
                raise ValueError(f"no S-expression: nothing to close at {position}")
            open_lists[-1].append(done)
        else:
            open_lists[-1].append(re.sub(r"\\(.)", r"\1", token[2], flags=re.DOTALL))
    if len(open_lists) != 1 or len(open_lists[0]) != 1:
        raise ValueError("no S-expression: it does not end where its list does")
    return open_lists[0][0]


def to_text(value: Value) -> str:
    """A value as the text of a column."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return dump([[key, to_text(item)] for key, item in value.items()])
    if isinstance(value, tuple):
        return dump([to_text(item) for item in value])
    return str(value)


def from_text(type_: Type, text: str, column: str) -> Value:
    """The value of a type that a column's text stands for.

    Raises:
        ValueError: the text is no such expression.
        XenAPIError: FIELD_TYPE_ERROR [column].
    """
    if isinstance(type_, SetOf):
        items = [item for item in parse(text) if isinstance(item, str)]
        return tuple(from_text(type_.item, item, column) for item in items)
    if isinstance(type_, MapOf):
        return {key: from_text(type_.value, item, column) for key, item in pairs(text)}
    if type_ is Basic.BOOL:
        return text == "true"
    if type_ is Basic.STRING:
        return text
    return decode(type_, text, column)


def pairs(text: str) -> list[tuple[str, str]]:
    """The (key, value) pairs of a map's text.

    Raises:
        ValueError: it is no list of pairs of texts.
    """
    found: list[tuple[str, str]] = []
    for pair in parse(text):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError("no S-expression of pairs")
        key, value = pair
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError("no S-expression of pairs of texts")
        found.append((key, value))
    return found
