"""The one function of the storage manager that runs programs: mkfs, fsck, and lvm as a fallback.

    Exception
    └── CommandFailed      argv, returncode, output -> text with the command as it can be pasted

Everything that a system call or a library can do is done by call: inside a small virtual
machine starting a program costs as much as a whole snapshot.
"""

from collections.abc import Sequence
from typing import Final

#: CommandFailed.returncode of a program that was not done in time.
TOO_LONG: Final = 124


class CommandFailed(Exception):
    """A program ended with a status that its caller does not accept.

    Attributes:
        argv: the command.
        returncode: exit status; negative for a signal; 124, as timeout(1) has it, if it took too
            long; 127 if there is no such program.
        output: stdout and stderr, mixed as they came.
    """

    def __init__(self, argv: Sequence[str], returncode: int, output: str) -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output
        super().__init__(self._text())

    def _text(self) -> str:
        import shlex

        command = shlex.join(self.argv)
        if self.returncode == 127:
            return f"Command not found: {command}"
        if self.returncode == TOO_LONG:
            return f"Command took too long: {command}"
        how = f"signal {-self.returncode}" if self.returncode < 0 else f"exit {self.returncode}"
        said = " ".join(self.output.split())
        return f"Command failed ({how}): {command}: {said}"


def run(
    argv: Sequence[str],
    *,
    accept: Sequence[int] = (0,),
    stdin: str = "",
    seconds: float | None = None,
) -> str:
    """Run a program and return what it printed.

    Args:
        argv: program and arguments; no shell is involved.
        accept: exit statuses that are no failure.
        stdin: what the program reads.
        seconds: how long it may take, before it is killed.

    Raises:
        CommandFailed: another exit status, a signal, no such program, or no time left.
    """
    import subprocess  # here, because importing it costs more than most calls do

    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        raise CommandFailed(argv, 127, "") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(argv, TOO_LONG, "") from None
    if done.returncode not in accept:
        raise CommandFailed(argv, done.returncode, done.stdout)
    return done.stdout
