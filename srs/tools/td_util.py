"""`td-util`: the image-type-neutral front that file drivers call; here for the type `vhd`.

Syntax: `td-util create vhd [-r] MIB NAME`, `td-util snapshot vhd [-m] NAME PARENT`,
`td-util query vhd [-vpfdb] NAME`, `td-util set vhd NAME FIELD VALUE`.
"""

from collections.abc import Sequence

from srs.tools.frame import Command, run

COMMANDS = {
    "create": Command("td_commands:create", "[-r] vhd MIB NAME"),
    "snapshot": Command("td_commands:snapshot", "[-m] vhd NAME PARENT", 0),
    "query": Command("td_commands:query", "[-vpfdb] vhd NAME", 0),
    "set": Command("td_commands:set_field", "vhd NAME FIELD VALUE", 0),
}


def main(argv: Sequence[str]) -> int:
    """Run `td-util` with these arguments; the exit code."""
    return run("td-util", COMMANDS, argv)
