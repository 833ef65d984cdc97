"""The arguments of `xe`: a command, key=value for what it needs, and options in between."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xapi.xe_client import XeError

_OPTIONS = {"-s": "server", "-p": "port", "-u": "username", "-pw": "password", "-pwf": "file"}
#: What a program's configuration may say about the server, and what holds when nobody does.
_DEFAULTS = {"server": "127.0.0.1", "port": "80", "username": "root", "password": "testbed"}
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
    trace: bool = False

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
    """Take a command line apart.

    Who the server is and who we are, the options say; else XE_EXTRA_ARGS, such as
    server=host,port=80,username=root,password=secret; else the lines of the file ~/.xe.
    """
    options: dict[str, str] = {}
    keys: dict[str, str] = {}
    words: list[str] = []
    rest = iter(argv)
    for part in rest:
        key, equals, value = part.partition("=")
        if part in _OPTIONS:
            options[_OPTIONS[part]] = _next(part, rest)
        elif part.startswith("--"):
            keys[key.removeprefix("--")] = value if equals else "true"
        elif equals:
            keys[key] = value
        else:
            words.append(part)
    trace = keys.pop("trace", "false")
    settings = {**_DEFAULTS, **_rc_file(environment), **_extra_args(environment), **options}
    return Arguments(
        command=words[0] if words else "help",
        keys=keys,
        words=tuple(words[1:]),
        server=f"{settings['server']}:{settings['port']}",
        user=settings["username"],
        password=_password(settings),
        trace=boolean("trace", trace),
    )


def _next(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise XeError(f"{option} needs a value\nFor help, run: xe help")
    return value


def _extra_args(environment: Mapping[str, str]) -> dict[str, str]:
    """XE_EXTRA_ARGS: settings with commas between them; a backslash keeps a comma a comma."""
    parts = re.findall(r"(?:\\.|[^,\\])+", environment.get("XE_EXTRA_ARGS", ""))
    return _settings(re.sub(r"\\(.)", r"\1", part) for part in parts)


def _rc_file(environment: Mapping[str, str]) -> dict[str, str]:
    """~/.xe: one setting on each line."""
    try:
        with open(os.path.join(environment.get("HOME", "/"), ".xe"), encoding="utf-8") as file:
            return _settings(file.read().splitlines())
    except OSError:
        return {}


def _settings(parts: Iterable[str]) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in parts)
    return {key: value for key, _, value in pairs if key in _DEFAULTS}


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


def _password(settings: Mapping[str, str]) -> str:
    """The password; a password file holds it in its last line."""
    if "file" not in settings:
        return settings["password"]
    try:
        with open(settings["file"], encoding="utf-8") as file:
            return file.read().splitlines()[-1]
    except (OSError, IndexError) as error:
        raise XeError(f"Cannot read the password file {settings['file']}: {error}") from error
