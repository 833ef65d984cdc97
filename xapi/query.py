"""The query language of get_all_where and get_all_records_where.

    true | false | not E | E and E | E or E | (E) | A = B

where A and B are `field "name"` or a quoted literal. `and` and `or` bind equally and to the
left. Field names have the database's spelling: a namespace ends in a double underscore. What
is compared is the text that a database would store: `true`, decimal ints, `('a' 'b')`,
`(('k' 'v'))`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

from xapi.datatypes import Record, Value
from xapi.errors import XenAPIError, internal_error
from xapi.wire import timestamp

Predicate: TypeAlias = Callable[[Record], bool]
_Term: TypeAlias = Callable[[Record], str]

_TOKEN = re.compile(r'\s*(?:("[^"]*")|([A-Za-z_]+)|([()=]))\s*')
_DEPTH = 100


def compile_query(expression: str) -> Predicate:
    """The predicate that an expression stands for.

    Raises:
        XenAPIError: INVALID_VALUE [expression, reason] where it does not parse.
    """
    try:
        return _Parser(expression).parse()
    except ValueError as error:
        raise XenAPIError("INVALID_VALUE", (expression, str(error))) from None


class _Parser:
    """Recursive descent, one method for each rule of the grammar."""

    def __init__(self, expression: str) -> None:
        self._tokens = deque(_tokenize(expression))
        self._depth = 0

    def parse(self) -> Predicate:
        predicate = self._expression()
        if self._tokens:
            raise ValueError(f"unexpected {self._tokens[0]}")
        return predicate

    def _expression(self) -> Predicate:
        first = self._factor()
        rest: list[tuple[str, Predicate]] = []
        while self._tokens and self._tokens[0] in ("and", "or"):
            rest.append((self._next(), self._factor()))
        return _fold(first, rest) if rest else first

    def _factor(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError("nested too deeply")
        try:
            return self._nested(self._next())
        finally:
            self._depth -= 1

    def _nested(self, token: str) -> Predicate:
        if token in ("true", "false"):
            return lambda _record: token == "true"
        if token == "not":
            inner = self._factor()
            return lambda record: not inner(record)
        if token == "(":
            inner = self._expression()
            self._expect(")")
            return inner
        left = self._term(token)
        self._expect("=")
        right = self._term(self._next())
        return lambda record: left(record) == right(record)

    def _term(self, token: str) -> _Term:
        if token.startswith('"'):
            return lambda _record: token[1:-1]
        if token != "field":
            raise ValueError(f"unexpected {token}")
        name = self._next()
        if not name.startswith('"'):
            raise ValueError("a field name is quoted")
        return lambda record: _field(record, name[1:-1])

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("the expression ends too early")
        return self._tokens.popleft()

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"{token} expected")


def _tokenize(expression: str) -> list[str]:
    tokens = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"unexpected text at {position}")
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


def _fold(first: Predicate, rest: list[tuple[str, Predicate]]) -> Predicate:
    """`first and E or E ...`, from the left; in a loop, since a client's chain may be long."""

    def predicate(record: Record) -> bool:
        result = first(record)
        for word, operand in rest:
            result = (result and operand(record)) if word == "and" else (result or operand(record))
        return result

    return predicate


def _field(record: Record, column: str) -> str:
    name = column if column in record else column.replace("__", "_")
    if name not in record:
        raise internal_error(f"there is no field {column}")
    return stored_text(record[name])


def stored_text(value: Value) -> str:
    """A value as the text that a database stores for it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return _listed(f"('{key}' '{stored_text(item)}')" for key, item in value.items())
    if isinstance(value, tuple):
        return _listed(f"'{stored_text(item)}'" for item in value)
    return str(value)


def _listed(items: Iterable[str]) -> str:
    return f"({' '.join(items)})"
