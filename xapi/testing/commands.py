"""`xe` in this process: what it prints, where, and how it ends."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from xapi import xe
from xapi.testing.rig import Rig


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str


class Xe:
    """`xe` with the address of a rig's server: call it with the words of a command line."""

    def __init__(self, rig: Rig) -> None:
        host, _, port = rig.server.url.removeprefix("http://").partition(":")
        self._options = ("-s", host, "-p", port)

    def __call__(self, *argv: str) -> Ended:
        """Run a command."""
        stdout, stderr = StringIO(), StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            status = xe.main((*self._options, *argv))
        return Ended(status, stdout.getvalue(), stderr.getvalue())

    def ok(self, *argv: str) -> str:
        """What a command that goes well prints, without the newline at its end."""
        ended = self(*argv)
        if ended.status or ended.stderr:
            raise AssertionError(f"xe {' '.join(argv)}: status {ended.status}, {ended.stderr}")
        return ended.stdout.removesuffix("\n")
