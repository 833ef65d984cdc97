"""What the three commands have in common: choosing a sub-command, speaking, ending."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from errno import EINVAL, EIO, EPIPE

from srs.tools.options import Options, UsageError

TYPE_CHECKING = False  # that of typing would cost 3 ms
if TYPE_CHECKING:
    from srs.vhd.errors import VHDError

_INTERRUPTED = 130
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "?")
"""A damaged or hostile disk must neither forge lines nor talk to a terminal."""


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: where its function is (``module:name``), what it takes.

    ``usage`` is as in :mod:`srs.tools.options`, ``help_status`` the exit code of ``-h``, which
    is not the same everywhere in the field.
    """

    place: str
    usage: str
    help_status: int = EINVAL

    def load(self) -> "Callable[[Options], int]":
        """Import the function; it returns the exit code or raises VHDError or UsageError."""
        module, _, name = self.place.partition(":")
        loaded: Callable[[Options], int] = getattr(
            __import__(f"srs.tools.{module}", fromlist=[name]), name
        )
        return loaded


def say(line: str) -> None:
    """Print a line on stdout; file names keep their bytes, but for control characters."""
    put(os.fsencode(line.translate(_CONTROLS) + "\n"))


def put(raw: bytes | bytearray | memoryview) -> None:
    """Write bytes to stdout."""
    sys.stdout.buffer.write(raw)


def complain(line: str) -> None:
    """Print a line on stderr."""
    line = line.translate(_CONTROLS)
    sys.stderr.write(line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def report(options: Options, error: "VHDError") -> int:
    """Explain ``error`` on stderr; the exit code for it."""
    complain(f"{options.who}: {error}" + (f" ({error.hint})" if error.hint else ""))
    return error.errno or EIO


def run(program: str, commands: Mapping[str, Command], argv: Sequence[str]) -> int:
    """Carry out one command line; the exit code is an errno, 0 for success.

    ``--debug`` is accepted anywhere and changes nothing: what there is to say about a failure
    is on stderr anyway.
    """
    words = [word for word in argv if word != "--debug"]
    if not words or words[0] not in commands:
        asked = words[:1] == ["-h"]
        if words and not asked:
            complain(f"{program}: unknown command {words[0]}")
        say(f"usage: {program} COMMAND [OPTIONS]")
        say(f"COMMAND := {{ {' | '.join(commands)} }}")
        return 0 if asked else EINVAL
    return _carry_out(f"{program} {words[0]}", commands[words[0]], words[1:])


def _carry_out(who: str, command: Command, words: Sequence[str]) -> int:
    try:
        options = Options(who, command.usage, words)
        if "h" in options:
            _say_usage(command)
            return command.help_status
        options.complete()
        return _work(command, options)
    except UsageError as error:
        complain(f"{who}: {error}")
        _say_usage(command)
        return EINVAL


def _say_usage(command: Command) -> None:
    say(f"options: {command.usage} [-h]")


def _work(command: Command, options: Options) -> int:
    work = command.load()
    from srs.vhd.errors import VHDError

    try:
        return work(options)
    except VHDError as error:
        if error.path in (options.get("n"), *options.operands) and failed_to_open(error):
            say(f"error opening {error.path}: {-error.errno}")
        return report(options, error)


def failed_to_open(error: "VHDError") -> bool:
    """True if ``error`` says that its disk cannot be opened."""
    from srs.vhd.errors import BadFooter, BadHeader, NotSparse, Poisoned, StorageFailed, Truncated

    if isinstance(error, StorageFailed):
        return error.operation == "open"
    return isinstance(error, BadFooter | BadHeader | NotSparse | Poisoned | Truncated)


def program(main: Callable[[Sequence[str]], int]) -> None:
    """Be the process of a command: run ``main`` and end with its code, without a teardown.

    Output that cannot be delivered is a failure with its own errno; a reader that has gone away
    is told nothing.
    """
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        status = error.errno or EIO
        if status != EPIPE:
            complain(str(error))
    except KeyboardInterrupt:
        status = _INTERRUPTED
    os._exit(status)
