"""Random calls on both wires: whatever is asked, the answer is a well-formed envelope.

    ci/fuzz xapi [--calls N] [--seed N]

A call is any message, or none, with arguments of the right type that often name objects that
exist, or with anything at all. Every answer is judged: its HTTP status, its envelope, the shape
of its error, and that no Python exception hides in it. The server begins anew every
thousand calls, so that it is met in every state from empty to full.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import logging
import random
import re
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, Basic, Enumeration, MapOf, RecordOf, Ref, SetOf, Type
from xapi.message import Message
from xapi.testing import envelopes
from xapi.testing.envelopes import Finding
from xapi.testing.rig import Rig, serve

#: They wait for as long as they like, or lock everybody out.
_LEFT_OUT = frozenset({"event.next", "session.change_password"})
_CALLS_PER_SERVER = 1000
_ID = 7
_ACCESSOR = re.compile(r"\w+\.(get|set|add|remove)_")
_TEXTS = (
    *("", "a", "true", "0", "-1", "1048576", "9" * 19, "user", "RW", "*", "vm", "mem", "device"),
    *("\u20ac", "\U0001f600", "<&>\"'", "]]>", "\r\n\t ", "%s%n", "../../etc/passwd", "x" * 4000),
    *('field "uuid"="x"', "not (true", "00000000000000000001,00000000000000000000"),
)
#: What JSON can carry and XML cannot.
_ODD = "\0\x1b\ud800\ufffe"
_NUMBERS = (0, 1, -1, 512, 1 << 20, 1 << 25, (1 << 63) - 1, -(1 << 63))


@dataclass(slots=True)
class Storm:
    """Random calls to one server. `codes` counts what came back: "" for success."""

    rig: Rig
    chance: random.Random
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    refs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    session: str = ""

    def run(self, calls: int) -> None:
        """Make so many calls.

        Raises:
            Finding: an answer that should not have been.
        """
        messages = [m for m in self.rig.server.dispatcher.messages if m.name not in _LEFT_OUT]
        actions = [m for m in messages if not _ACCESSOR.match(m.name)]
        netloc = urlsplit(self.rig.server.url).netloc
        with closing(http.client.HTTPConnection(netloc, timeout=60)) as connection:
            for number in range(calls):
                if number % 50 == 0:
                    self._look_around()
                # Most messages only read or write one field; those that do more get their turn.
                message = self.chance.choice(self.chance.choice((messages, actions)))
                self._one(connection, self._name(message), self._arguments(message))
        self._judge_tasks()

    def _look_around(self) -> None:
        """Notice what exists now."""
        xapi = self.rig.server.xapi
        self.refs = {cls: xapi.db.refs(cls) for cls in CLASSES}

    # -- calls

    def _name(self, message: Message) -> str:
        dice = self.chance.random()
        if dice < 0.02:
            return str(self._text())
        if dice < 0.04:
            return message.name.replace(".", "_", 1)
        background = dice < (0.2 if message.asynchronous else 0.05)
        return f"Async.{message.name}" if background else message.name

    def _arguments(self, message: Message) -> list[Any]:
        xapi = self.rig.server.xapi
        if not xapi.db.exists("session", self.session):  # some calls log out
            login = ("root", "testbed", "fuzz")
            self.session = xapi.sessions.login(xapi.host, *login, local=False)
        dice = self.chance.random()
        first: list[Any] = [self.session]
        if dice < 0.05 or not message.session:
            first = [self._anything(0)] if dice < 0.04 else []
        values = [self._value(param.type) for param in message.params]
        if self.chance.random() < 0.1:
            values = values[: self.chance.randrange(len(values) + 1)]
        if self.chance.random() < 0.03:
            values.append(self._anything(0))
        return [*first, *values]

    def _value(self, type_: Type) -> Any:
        """A value of a type, or now and then of none."""
        # The only float parameter is how long to wait: anything would be too long.
        if type_ is not Basic.FLOAT and self.chance.random() < 0.08:
            return self._anything(0)
        if isinstance(type_, Ref):
            return self._ref(type_.cls)
        if isinstance(type_, Enumeration):
            return self.chance.choice(type_.members)
        if isinstance(type_, SetOf):
            return [self._value(type_.item) for _ in range(self.chance.randrange(3))]
        if isinstance(type_, MapOf):
            pairs = range(self.chance.randrange(3))
            return {str(self._value(type_.key)): self._value(type_.value) for _ in pairs}
        if isinstance(type_, RecordOf):
            return self._record(type_.cls)
        return self._basic(type_)

    def _record(self, cls: str) -> dict[str, Any]:
        return {
            known.name: self._value(known.type)
            for known in CLASSES[cls].public
            if known.constructed and self.chance.random() < 0.97
        }

    def _basic(self, type_: Basic) -> Any:
        if type_ is Basic.INT:
            number = self.chance.choice(_NUMBERS)
            return str(number) if self.chance.random() < 0.5 else number
        if type_ is Basic.FLOAT:
            return self.chance.choice((0, 0.0, 0.01, -1.5))
        if type_ is Basic.BOOL:
            return self.chance.random() < 0.5
        if type_ is Basic.DATETIME:
            return self.chance.choice(("20260102T03:04:05Z", "19700101T00:00:00Z", "2026"))
        return self._text()

    def _ref(self, cls: str) -> str:
        if self.chance.random() < 0.1:
            cls = self.chance.choice(list(self.refs))
        known = self.refs.get(cls, ())
        if known and self.chance.random() < 0.9:
            return self.chance.choice(known)
        return self.chance.choice((NULL, "", "OpaqueRef:none", str(self._text())))

    def _text(self) -> str:
        if self.chance.random() < 0.1:
            cls = self.chance.choice([cls for cls, refs in self.refs.items() if refs])
            ref = self.chance.choice(self.refs[cls])
            db = self.rig.server.xapi.db
            return str(db.get(cls, ref, "uuid")) if db.exists(cls, ref) else ref
        return self.chance.choice(_TEXTS)

    def _anything(self, depth: int) -> Any:
        kind = self.chance.randrange(9 if depth < 3 else 6)
        if kind >= 6:
            inner = [self._anything(depth + 1) for _ in range(self.chance.randrange(4))]
            return inner if kind == 6 else {self._text(): value for value in inner}
        choices = (
            self._text(),
            self.chance.choice(_NUMBERS),
            self.chance.uniform(-1, 1) * 10.0 ** self.chance.randrange(-300, 300),
            self.chance.random() < 0.5,
            self.chance.choice(_ODD),
            None,
        )
        return choices[kind]

    # -- answers

    def _one(self, connection: http.client.HTTPConnection, method: str, params: list[Any]) -> None:
        call = f"{method}{params!r}"[:2000]
        wire = self.chance.choice((1, 2, "xml"))
        if wire == "xml":
            body, path = _xml(method, params), "/"
        else:
            body, path = _json(method, params, wire == 2), "/jsonrpc"
        connection.request("POST", path, body)
        try:
            response = connection.getresponse()
            answer, kind = response.read(), response.getheader("Content-Type")
            if response.status != 200:
                raise Finding(f"HTTP status {response.status}: {answer[:500]!r}")
            if wire == "xml":
                description = envelopes.of_xml(kind, answer)
            else:
                description = envelopes.of_json(kind, answer, id_=_ID, second=wire == 2)
            self.codes[description[0] if description else ""] += 1
        except (Finding, OSError, http.client.HTTPException) as finding:
            raise Finding(f"{call}\n    {finding!r}") from finding

    def _judge_tasks(self) -> None:
        """What ran in the background must have ended as properly."""
        db = self.rig.server.xapi.db
        self.rig.server.dispatcher.join()
        for task in db.refs("task"):
            info = db.get("task", task, "error_info")
            if info[1:] and envelopes.hides_exception(info):
                label = db.get("task", task, "name_label")
                raise Finding(f"{label}\n    an exception that nobody expected: {info[1:]}")


def _xml(method: str, params: list[Any]) -> bytes:
    document = xmlrpc.client.dumps(tuple(map(_for_xml, params)), "m", allow_none=True)
    name = xmlrpc.client.escape(_for_xml(method))
    # An empty name is no call at all, and spaces around a name are not part of it.
    return document.replace("<methodName>m<", f"<methodName>{name.strip() or 'x'}<", 1).encode()


def _for_xml(value: Any) -> Any:
    """The value as far as XML-RPC can carry it."""
    if isinstance(value, str):
        return "".join(c for c in value if c not in _ODD)
    if isinstance(value, int) and not -(1 << 31) <= value < 1 << 31:
        return str(value)
    if isinstance(value, list):
        return [_for_xml(item) for item in value]
    if isinstance(value, dict):
        return {_for_xml(key): _for_xml(item) for key, item in value.items()}
    return value


def _json(method: str, params: list[Any], second: bool) -> bytes:
    version = {"jsonrpc": "2.0"} if second else {}
    return json.dumps({**version, "method": method, "params": params, "id": _ID}).encode()


def storm(calls: int, seed: int) -> Iterator[collections.Counter[str]]:
    """Make so many calls, to one server after another; the counts of each.

    Raises:
        Finding: an answer that should not have been.
    """
    for number, begun in enumerate(range(0, calls, _CALLS_PER_SERVER)):
        with (
            tempfile.TemporaryDirectory(prefix="fuzz-") as directory,
            serve(Path(directory), patience=0) as rig,
        ):
            for kind in ("mem", "old"):
                sr = rig.sr(kind)
                vm = rig.vm(rig.vdi(sr), rig.vdi(sr))
                rig.api.VM.snapshot(vm, "snapshot")
            made = Storm(rig, random.Random(f"{seed} {number}"))
            made.run(min(_CALLS_PER_SERVER, calls - begun))
            yield made.codes


def main() -> int:
    """Entry point. Exit status: 0 nothing was found, 1 something was."""
    parser = argparse.ArgumentParser(prog="ci/fuzz xapi", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same calls")
    options = parser.parse_args()
    logging.disable()
    began, total = time.monotonic(), collections.Counter[str]()
    try:
        for codes in storm(options.calls, options.seed):
            total += codes
            print(f"\r{total.total():,} calls", end="", file=sys.stderr, flush=True)
    except Finding as finding:
        print(f"\nfound after {total.total():,} calls, --seed {options.seed}:\n{finding}")
        return 1
    print(file=sys.stderr)
    print(f"{total.total():,} calls in {time.monotonic() - began:.0f} s, {len(total)} outcomes:")
    for code, count in total.most_common():
        print(f"{count:>10,}  {code or 'Success'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
