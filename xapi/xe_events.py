"""`xe event-wait`: wait until an object is as it should be."""

from __future__ import annotations

from xapi.datamodel import CLASSES
from xapi.xe_args import Arguments
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command
from xapi.xe_select import filters, records

#: Seconds that the server may hold one question.
_PATIENCE = 60.0


def _wait(client: Client, args: Arguments) -> str:
    """Until one object of the class has all these values, and none of those after /=."""
    known = {name.lower(): name for name in CLASSES}
    cls = known.get(args.required("class").lower(), "")
    if not cls:
        raise XeError(f"Error: There is no class {args.required('class')}")
    conditions = filters(args, "class")
    wanted = {key: value for key, value in conditions.items() if not value.startswith("/=")}
    unwanted = {key: value[2:] for key, value in conditions.items() if value.startswith("/=")}
    token = ""
    while True:
        # Before we look: what changes while we do is told next time.
        token = client.call("event.from", [cls.lower()], token, _PATIENCE)["token"]
        found = set(records(client, cls, wanted, {}))
        for key, value in unwanted.items():
            found -= set(records(client, cls, {key: value}, {}))
        if found:
            return ""


COMMANDS = (
    Command(
        "event-wait",
        _wait,
        "class",
        "wait until an object has <field>=<value>, or with <field>=/=<value> any other one",
        fields="object",
        methods=("event.from",),
    ),
)
