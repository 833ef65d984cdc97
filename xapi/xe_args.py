"""The arguments of `xe`: options, then a command, then key=value for what it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xapi.xe_client import XeError

_OPTIONS = {"-s": "server", "-p": "port", "-u": "username", "-pw": "password", "-pwf": "file"}
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_YES = ("true", "t", "yes", "y", "1")
_NO = ("false", "f", "no", "n", "0")


@dataclass(frozen=True, slots=True)
class Arguments:
    """A command line, taken apart. Flags such as --minimal are keys with the value "true"."""

    command: str
    keys: Mapping[str, str]
    words: tuple[str, ...]
    server: str
    user: str
    password: str

    def required(self, key: str) -> str:
        """The value of a key that the command cannot do without."""
        if key not in self.keys:
            raise XeError(f"Required parameter not found: {key}\nFor help, run: xe help")
        return self.keys[key]

    def optional(self, key: str, default: str = "") -> str:
        """The value of a key, or the default."""
        return self.keys.get(key, default)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """The value of a key that is true or false."""
        return boolean(key, self.keys[key]) if key in self.keys else default

    def mapping(self, prefix: str) -> dict[str, str]:
        """All keys that begin with the prefix ("device-config:"), without it."""
        return {
            key.removeprefix(prefix): value
            for key, value in self.keys.items()
            if key.startswith(prefix) and key != prefix
        }


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Arguments:
    """Take a command line apart. What it leaves out comes from the environment.

    XE_SERVER is host or host:port, XE_USER and XE_PASSWORD are the credentials.
    """
    options: dict[str, str] = {}
    rest = list(argv)
    while rest and rest[0] in _OPTIONS:
        if len(rest) == 1:
            raise XeError(f"{rest[0]} needs a value\nFor help, run: xe help")
        options[_OPTIONS[rest[0]]] = rest[1]
        del rest[:2]
    command, *parts = rest or ["help"]
    keys, words = _keys(parts)
    server = options.get("server", environment.get("XE_SERVER", "127.0.0.1"))
    if "port" in options:
        server = f"{server.partition(':')[0]}:{options['port']}"
    return Arguments(
        command=command,
        keys=keys,
        words=words,
        server=server,
        user=options.get("username", environment.get("XE_USER", "root")),
        password=_password(options, environment),
    )


def size(key: str, text: str) -> int:
    """Bytes: a number, which may end in KiB, MiB, GiB or TiB."""
    match = re.fullmatch(r"(\d+) ?([KMGT]iB)?", text)
    if match is None:
        raise XeError(f"{key} is a size, as in 10GiB: {text}")
    return int(match[1]) * _UNITS[match[2] or ""]


def boolean(key: str, text: str) -> bool:
    """True or false, and the other ways to say so."""
    if text.lower() not in (*_YES, *_NO):
        raise XeError(f"{key} is true or false: {text}")
    return text.lower() in _YES


def _keys(parts: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    keys: dict[str, str] = {}
    words: list[str] = []
    for part in parts:
        key, equals, value = part.partition("=")
        if part.startswith("--"):
            keys[key.removeprefix("--")] = value if equals else "true"
        elif equals:
            keys[key] = value
        else:
            words.append(part)
    return keys, tuple(words)


def _password(options: Mapping[str, str], environment: Mapping[str, str]) -> str:
    if "file" not in options:
        return options.get("password", environment.get("XE_PASSWORD", "testbed"))
    try:
        with open(options["file"], encoding="utf-8") as file:
            return file.read().splitlines()[-1]
    except (OSError, IndexError) as error:
        raise XeError(f"Cannot read the password file {options['file']}: {error}") from error
