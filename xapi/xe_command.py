"""A command of `xe` as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xapi.xe_args import Arguments
from xapi.xe_client import Client, XeError

#: Flags that scripts pass to any command.
_EVERYWHERE = ("minimal", "force", "multiple")


@dataclass(frozen=True, slots=True)
class Command:
    """`run` returns what goes to stdout ("" for nothing).

    `required` and `optional` are keys, separated by blanks. A key that ends in ":" or "-"
    stands for all keys that begin with it, one that ends in "=" for any key.
    """

    name: str
    run: Callable[[Client, Arguments], str]
    required: str = ""
    optional: str = ""
    text: str = ""

    def usage(self) -> str:
        """One line that says how to use it."""
        required = [f"{_spelled(key)}=<...>" for key in self.required.split()]
        optional = [f"[{_spelled(key)}=<...>]" for key in self.optional.split()]
        return " ".join(["xe", self.name, *required, *optional])

    def check_keys(self, keys: Iterable[str]) -> None:
        """Refuse what the command would not look at: most likely it is misspelt.

        Raises:
            XeError: names the key.
        """
        known = (*self.required.split(), *self.optional.split(), *_EVERYWHERE)
        for key in keys:
            if not any(_covers(pattern, key) for pattern in known):
                raise XeError(f"Unknown parameter: {key}\nUsage: {self.usage()}")


def _covers(pattern: str, key: str) -> bool:
    if pattern.endswith("="):
        return True
    return key.startswith(pattern) if pattern.endswith((":", "-")) else key == pattern


def _spelled(pattern: str) -> str:
    return f"{pattern}<key>" if pattern.endswith((":", "-")) else pattern.rstrip("=")
