"""What a client wants to hear of, and how far it has heard: the two arguments of event.from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from xapi.datamodel import CLASSES
from xapi.errors import XenAPIError
from xapi.history import Key

#: Classes have one name in the data model and another, in lower case, in events.
WATCHED: Final = {name.lower(): name for name, cls in CLASSES.items() if cls.evented}

_TOKEN: Final = re.compile(r"([0-9]{20}),[0-9]{20}")
_TEXT: Final = re.compile(r"\*|[^/*]+(/[^/]+)?")


class Subscription:
    """Of "*", classes in any letter case, and single objects as "class/reference".

    A class that nobody knows has no events. `classes` are those of which anything is watched.

    Raises:
        XenAPIError: EVENT_SUBSCRIPTION_PARSE_FAILURE [text].
    """

    def __init__(self, texts: Sequence[str]) -> None:
        for text in texts:
            if not _TEXT.fullmatch(text):
                raise XenAPIError("EVENT_SUBSCRIPTION_PARSE_FAILURE", (text,))
        names = WATCHED.values() if "*" in texts else map(_class, texts)
        keys = [Key(_class(cls), ref) for cls, _, ref in (text.partition("/") for text in texts)]
        self._whole = frozenset(names) - {""}
        self._objects = frozenset(key for key in keys if key.cls and key.ref)
        self.classes = self._whole | {key.cls for key in self._objects}

    def covers(self, key: Key) -> bool:
        """Whether the client wants to hear of the object."""
        return key.cls in self._whole or key in self._objects


def _class(name: str) -> str:
    return WATCHED.get(name.lower(), "")


def token(generation: int) -> str:
    """How a client keeps a generation: two decimals of 20 digits and a comma between them.

    In the field's toolstack the second is the time of the last message; here messages have
    generations like all else, and it repeats the first.
    """
    return f"{generation:020},{generation:020}"


def parse_token(text: str) -> int:
    """The generation; an empty token stands for the time before all objects.

    Raises:
        XenAPIError: EVENT_FROM_TOKEN_PARSE_FAILURE [token].
    """
    match = _TOKEN.fullmatch(text)
    if text and not match:
        raise XenAPIError("EVENT_FROM_TOKEN_PARSE_FAILURE", (text,))
    return int(match[1]) if match else 0
