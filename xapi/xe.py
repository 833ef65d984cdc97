"""`xe`: the XenAPI from the command line.

It stands on the standard library alone, since a command should not take longer to start than
to run. stdout holds results only; errors go to stderr. The exit status is 0 for success, 1
for a failure, 2 where the server cannot be reached and 3 where it does not let the user in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from xapi import xe_generic, xe_storage
from xapi.xe_args import Arguments, parse
from xapi.xe_client import ApiFailure, Client, XeError
from xapi.xe_command import Command
from xapi.xe_output import error_lines

_HELP = """\
Usage: xe [-s <server>] [-p <port>] [-u <user>] [-pw <password>] <command> [<key>=<value> ...]

The server is also taken from XE_SERVER (host or host:port), the credentials from XE_USER and
XE_PASSWORD. Sizes may end in KiB, MiB, GiB or TiB; maps are written <map>:<key>=<value>.
Lists take any field as a filter, params=<field>,... or params=all, and --minimal.

`xe help <command>` shows what a command needs. Commands:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv, os.environ)
        output = _run(args)
        if output or args.flag("minimal"):
            print(output)
    except XeError as error:
        print(error.text, file=sys.stderr)
        return error.status
    return 0


def _run(args: Arguments) -> str:
    commands = _commands()
    if args.command in ("help", "--help", "-h"):
        return _help(commands, args.words)
    if args.command not in commands:
        raise XeError(f"Unknown command: {args.command}\nFor help, run: xe help")
    command = commands[args.command]
    for key in command.required.split():
        args.required(key)
    command.check_keys(args.keys)
    with Client(args.server, args.user, args.password) as client:
        try:
            return command.run(client, args)
        except ApiFailure as failure:
            raise XeError("\n".join(error_lines(client, failure))) from failure


def _commands() -> dict[str, Command]:
    every = (*xe_storage.commands(), *xe_generic.commands())
    return {command.name: command for command in every}


def _help(commands: dict[str, Command], words: tuple[str, ...]) -> str:
    if not words:
        return _HELP + "\n".join(f"    {name}" for name in sorted(commands))
    unknown = [word for word in words if word not in commands]
    if unknown:
        raise XeError(f"Unknown command: {unknown[0]}\nFor help, run: xe help")
    return "\n".join(
        "\n".join(line for line in (commands[word].usage(), commands[word].text) if line)
        for word in words
    )


if __name__ == "__main__":
    sys.exit(main())
