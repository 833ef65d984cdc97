"""`cbt-util`: the table of its sub-commands."""

from collections.abc import Sequence

from srs.tools.frame import Command, run

COMMANDS = {
    "create": Command("cbt_commands:create", "-n NAME -s BYTES"),
    "set": Command("cbt_commands:set_fields", "-n NAME [-p ID] [-c ID] [-f FLAG] [-s BYTES]"),
    "get": Command("cbt_commands:get", "-n NAME {-p | -c | -f | -s | -b}"),
    "coalesce": Command("cbt_commands:coalesce", "-p PARENT -c CHILD"),
}


def main(argv: Sequence[str]) -> int:
    """Run `cbt-util` with these arguments; the exit code."""
    return run("cbt-util", COMMANDS, argv)
