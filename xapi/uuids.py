"""What a uuid looks like."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether the text is a uuid in its common form, in lower case."""
    return _UUID.fullmatch(text) is not None
