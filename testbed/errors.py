"""Everything that can go wrong in the testbed itself.

    TestbedError                 message and hint
    ├── KernelUnavailable        no kernel of the wanted kind can run here
    ├── PackageMissing           a Debian package is not installed
    ├── BootFailed               a kernel started and did not become ready
    ├── KernelDied               a kernel went away under a call
    ├── GuestFault               an operation failed inside a kernel that is fine
    ├── DeviceRefused            a device cannot be plugged in or taken out
    ├── ToolsRefused             the field's commands cannot be written to this directory
    └── CommandFailed            a program of this machine failed

Errors hold fields, their text is derived. Driver and XenAPI errors are not here: they travel
as the field's own codes.
"""

import shlex
from collections.abc import Sequence


class TestbedError(Exception):
    """Base of all; `hint` says what to do next."""

    __test__ = False  # the name starts with Test, and pytest would try to collect it

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class KernelUnavailable(TestbedError):
    """No kernel of the wanted kind can run here; `reasons` says why, per kind."""

    def __init__(self, wanted: str, reasons: dict[str, str]) -> None:
        self.wanted = wanted
        self.reasons = reasons
        listed = "; ".join(f"{kind}: {reason}" for kind, reason in reasons.items())
        super().__init__(
            f"no kernel to boot for --kernel {wanted} ({listed})",
            hint="apt-get install user-mode-linux, or run as root where device-mapper exists",
        )


class PackageMissing(TestbedError):
    """A file that a Debian package provides is not there."""

    def __init__(self, path: str, package: str) -> None:
        self.path = path
        self.package = package
        super().__init__(f"{path} is missing", hint=f"apt-get install {package}")


class BootFailed(TestbedError):
    """The kernel started but its agent never said hello; `console` is what it printed."""

    def __init__(self, reason: str, console: str) -> None:
        self.reason = reason
        self.console = console
        super().__init__(f"the kernel did not come up: {reason}\n{quote(console)}")


class KernelDied(TestbedError):
    """The kernel went away: panic, kill, power cut. `console` is the end of its log."""

    def __init__(self, reason: str, console: str) -> None:
        self.reason = reason
        self.console = console
        super().__init__(f"the kernel is gone: {reason}\n{quote(console)}")


class GuestFault(TestbedError):
    """An operation failed inside the guest.

    Attributes:
        operation: the agent's operation.
        kind: class name of the exception inside.
        errno: its errno, where it has one.
        trace: the traceback inside, for debugging.
    """

    def __init__(
        self, operation: str, kind: str, message: str, errno: int | None, trace: str
    ) -> None:
        self.operation = operation
        self.kind = kind
        self.errno = errno
        self.trace = trace
        super().__init__(f"{operation} failed inside the guest: {kind}: {message}")


class DeviceRefused(TestbedError):
    """A device cannot be plugged in or taken out."""


class ToolsRefused(TestbedError):
    """The field's commands cannot be written to this directory."""


class CommandFailed(TestbedError):
    """A program failed; the text holds a line that can be pasted into a shell."""

    def __init__(self, argv: Sequence[str], returncode: int, output: str) -> None:
        self.argv = list(argv)
        self.returncode = returncode
        self.output = output
        super().__init__(f"exit status {returncode} of\n  $ {shlex.join(argv)}\n{quote(output)}")


def quote(text: str) -> str:
    """Foreign text, marked as such."""
    return "\n".join(f"  | {line}" for line in text.splitlines()) or "  | (nothing)"
