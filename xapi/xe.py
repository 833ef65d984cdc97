"""`xe`: the XenAPI from the command line.

It stands on the standard library alone, since a command should not take longer to start than
to run. stdout holds results only; errors go to stderr. The exit status is 0 for success, 1
for a failure, 2 where the server cannot be reached and 3 where it does not let the user in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from xapi import (
    xe_disks,
    xe_events,
    xe_lists,
    xe_params,
    xe_pool,
    xe_storage,
    xe_vm,
)
from xapi.xe_args import Arguments, parse
from xapi.xe_client import ApiFailure, Client, XeError
from xapi.xe_command import Command
from xapi.xe_output import error_lines

_HELP = """\
Usage: xe <command> [<key>=<value> ...] [-s <server>] [-p <port>] [-u <user>] [-pw <password>]
       [-pwf <file with the password>] [--trace]

What the options leave out comes from XE_EXTRA_ARGS, such as
server=127.0.0.1,port=80,username=root,password=secret, or from such lines in the file ~/.xe.
Sizes may end in KiB, MiB, GiB or TiB; maps are written <map>:<key>=<value>. Lists take any field
as a filter (<map>:<key>=<value>, <set>:contains=<value>), params=<field>,... or params=all, and
--minimal. Commands for VMs take such filters, too, or vm=<name or uuid>, and --multiple.

`xe help <command>` shows what a command needs, `xe help --all` has <class>-param-* commands,
too. `source <(xe completion)` makes bash complete all of it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv, os.environ)
        output = _run(args)
        if output or args.flag("minimal"):
            _print(output)
    except XeError as error:
        print(error.text, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130
    return 0


def _print(output: str) -> None:
    try:
        print(output, flush=True)
    except BrokenPipeError:
        # Whoever reads has enough, as `head` has. Python would complain when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def commands() -> dict[str, Command]:
    """All commands by name."""
    every = (
        *xe_storage.COMMANDS,
        *xe_vm.COMMANDS,
        *xe_disks.COMMANDS,
        *xe_pool.COMMANDS,
        *xe_events.COMMANDS,
        *xe_lists.commands(),
        *xe_params.commands(),
    )
    return {command.name: command for command in every}


def _run(args: Arguments) -> str:
    if args.command in ("help", "-h"):
        return _help(commands(), args)
    if args.command == "completion":
        from xapi import xe_completion

        return xe_completion.run(commands(), args, os.environ)
    command = commands().get(args.command)
    if command is None:
        raise XeError(f"Unknown command: {args.command}\nFor help, run: xe help")
    command.check(args)
    with Client(args.server, args.user, args.password, trace=args.trace) as client:
        try:
            return command.run(client, args)
        except ApiFailure as failure:
            raise XeError("\n".join(error_lines(client, failure))) from failure


def _help(known: dict[str, Command], args: Arguments) -> str:
    if not args.words:
        shown = (name for name in sorted(known) if args.flag("all") or "-param-" not in name)
        return _HELP + "\nCommands:\n" + "\n".join(f"    {name}" for name in shown)
    unknown = [word for word in args.words if word not in known]
    if unknown:
        raise XeError(f"Unknown command: {unknown[0]}\nFor help, run: xe help")
    return "\n\n".join(
        "\n".join(line for line in (known[word].usage(), known[word].text) if line)
        for word in args.words
    )


if __name__ == "__main__":
    sys.exit(main())
