"""`vhd-util`: the table of its sub-commands."""

from collections.abc import Sequence

from srs.tools.frame import Command, run

COMMANDS = {
    "create": Command("make:create", "-n NAME -s MIB [-S MIB] [-r]"),
    "snapshot": Command("make:snapshot", "-n NAME -p PARENT [-l LIMIT] [-m] [-S MIB] [-e]", 0),
    "query": Command("query:query", "-n NAME [-vspufmdaS]", 0),
    "read": Command(
        "read:read",
        "-n NAME [-p] [-t SECTOR] [-b BLOCK] [-B] [-m BLOCK] [-i SECTOR] [-e SECTOR] [-a]"
        " [-j BLOCK] [-d BLOCK] [-r SECTOR] [-R BYTE] [-c COUNT] [-x] [-C]",
    ),
    "set": Command("change:set_field", "-n NAME -f FIELD -v VALUE"),
    "modify": Command("change:modify", "-n NAME [-p PARENT] [-m] [-s BYTES] [-z]"),
    "resize": Command("change:resize", "-n NAME -s MIB {-f | -j JOURNAL}"),
    "revert": Command("change:revert", "-n NAME -j JOURNAL"),
    "repair": Command("change:repair", "-n NAME [-b]"),
    "update": Command("change:update", "-n NAME"),
    "coalesce": Command("merge:coalesce", "-n NAME [-a ANCESTOR] [-o OUTPUT] [-s] [-p]"),
    "fill": Command("merge:fill", "-n NAME [-b] [-f SECTOR] [-t SECTOR] [-B]"),
    "copy": Command("merge:copy", "-n NAME -N NEW [-k KEYFILE] [-E]"),
    "check": Command("check:check", "-n NAME [-iItBpbs]", 0),
    "scan": Command("scan:scan", "[-fcpavM] [-m PATTERN] [-l GROUP] [NAMES]", 0),
    "key": Command("key:key", "{-s | -c | -p | -C} [-n NAME] [-k KEYFILE] [-H HEX] [-N HEX]", 0),
}


def main(argv: Sequence[str]) -> int:
    """Run `vhd-util` with these arguments; the exit code."""
    return run("vhd-util", COMMANDS, argv)
