"""A command of `xe` as data, and the little language that its parameters are written in.

A word is a key, then its type, in brackets where it may be left out:

    name-label              text
    virtual-size:size       bytes, which may end in KiB, MiB, GiB or TiB
    sharable:bool           true or false
    tags:set                words with commas between them
    sr-uuid:SR              an object of class SR, by its uuid
    [type|user]             with a default
    [sm-config:] [driver-params-]   a map: all keys that begin so
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from xapi.datatypes import NULL
from xapi.xe_args import Arguments, boolean, size
from xapi.xe_client import Client, XeError

#: Flags that scripts pass to any command.
_EVERYWHERE = ("minimal", "force", "multiple")

#: Returns what goes to stdout, "" for nothing.
Run: TypeAlias = Callable[[Client, Arguments], str]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One word of the language above. `type` is text, size, bool, set, map or a class."""

    key: str
    type: str
    required: bool
    default: str = ""

    def covers(self, key: str) -> bool:
        """Whether this is the parameter that `key` was meant for."""
        if self.type == "map":
            return key.startswith(self.key) and key != self.key
        return key == self.key

    def spelled(self) -> str:
        """As the usage shows it."""
        text = f"{self.key}<key>=<...>" if self.type == "map" else f"{self.key}=<...>"
        return text if self.required else f"[{text}]"

    def value(self, client: Client, args: Arguments) -> object:
        """What the XenAPI gets for it."""
        if self.type == "map":
            return args.mapping(self.key)
        if self.required:
            args.required(self.key)
        text = args.optional(self.key, self.default)
        if self.type == "size":
            return str(size(self.key, text or "0"))
        if self.type == "bool":
            return boolean(self.key, text or "false")
        if self.type == "set":
            return [word for word in text.split(",") if word]
        if self.type == "text":
            return text
        return client.ref(self.type, text) if text or self.required else NULL


def parameters(spec: str) -> tuple[Parameter, ...]:
    """The parameters that a spec writes down."""
    return tuple(map(_parameter, spec.split()))


def _parameter(word: str) -> Parameter:
    body = word.strip("[]")
    required = body == word
    if body.endswith((":", "-")):
        return Parameter(body, "map", required)
    body, _, default = body.partition("|")
    key, _, type_ = body.partition(":")
    return Parameter(key, type_ or "text", required, default)


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    `spec` is in the language above. `fields`: a class whose fields are keys, too, as filters or
    to be set. `methods`: the messages that it sends, where it sends just those.
    """

    name: str
    run: Run
    spec: str = ""
    text: str = ""
    fields: str = ""
    methods: tuple[str, ...] = ()

    def usage(self) -> str:
        """One line that says how to use it."""
        words = [parameter.spelled() for parameter in parameters(self.spec)]
        if self.fields:
            words.append(f"[<field of {self.fields}>=<...>]")
        return " ".join(["xe", self.name, *words])

    def check(self, args: Arguments) -> None:
        """Refuse what the command cannot do without, and what it would not look at.

        Raises:
            XeError: names the key.
        """
        known = parameters(self.spec)
        for parameter in known:
            if parameter.required and parameter.type != "map":
                args.required(parameter.key)
        for key in args.keys:
            if self.fields or key in _EVERYWHERE:
                continue
            if not any(parameter.covers(key) for parameter in known):
                raise XeError(f"Unknown parameter: {key}\nUsage: {self.usage()}")


def message(name: str, method: str, spec: str, text: str, *, result: str = "") -> Command:
    """A command that sends one message, with its parameters in the order of the spec.

    `result`: the class whose object comes back: its uuid is printed; "text" prints what comes.
    """

    def run(client: Client, args: Arguments) -> str:
        values = [parameter.value(client, args) for parameter in parameters(spec)]
        return printed(client, result, client.call(method, *values))

    return Command(name, run, spec, text, methods=(method,))


def constructor(name: str, cls: str, words: Mapping[str, str], text: str) -> Command:
    """A command that makes an object and prints its uuid; `words`: the parameter of each field."""

    def run(client: Client, args: Arguments) -> str:
        return printed(client, cls, client.call(f"{cls}.create", fields(client, args, words)))

    return Command(name, run, " ".join(words.values()), text, methods=(f"{cls}.create",))


def fields(client: Client, args: Arguments, words: Mapping[str, str]) -> dict[str, object]:
    """The fields of an object to be made, each from its parameter."""
    return {field: _parameter(word).value(client, args) for field, word in words.items()}


def printed(client: Client, result: str, value: object) -> str:
    """The result of a message as a command prints it."""
    if result in ("", "text"):
        return str(value) if result else ""
    return client.uuid(result, str(value)) or ""
