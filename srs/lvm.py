"""LVM by call: liblvm2cmd through ctypes, and the `lvm` program where the library is missing.

    Exception
    └── LVMError           command, status, messages -> text
        └── LVMNoRoom      the volume group has not enough free extents

A command through the library takes 25-50 ms inside a small virtual machine, a program ten
times as long. The library speaks only through its log callback: errors come at level 3,
what the program would print at level 4.

Not every option survives in a process that runs more than one command: `--readonly` after
`--devices` crashes liblvm2cmd 2.03.16. Use neither here.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from srs.run import CommandFailed, run

_LIBRARY: Final = "liblvm2cmd.so.2.03"
_ERROR, _PRINT = 3, 4
_SUCCESS: Final = 1  # ECMD_PROCESSED of lvm2cmd.h
_LOG_FUNCTION = ctypes.CFUNCTYPE(
    None, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p
)


class LVMError(Exception):
    """An LVM command failed.

    Attributes:
        command: the command, as it can be pasted into a shell.
        status: the library's return code (5: failed, 2: no such command), or the exit status.
        messages: what LVM said.
    """

    def __init__(self, command: str, status: int, messages: Sequence[str]) -> None:
        self.command = command
        self.status = status
        self.messages = tuple(messages)
        super().__init__(f"Command failed ({status}): {command}: {'; '.join(messages)}")


class LVMNoRoom(LVMError):
    """The volume group has not enough free extents."""


class Runner(Protocol):
    """Something that carries out an LVM command line."""

    def __call__(self, command: str) -> tuple[bool, int, list[str], list[str]]:
        """Returns success, status, lines printed, errors."""


class _Library:
    """liblvm2cmd; one per process, because the library keeps global state."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(_LIBRARY)
        self._lib.lvm2_init.restype = ctypes.c_void_p
        self._lib.lvm2_log_fn.argtypes = [_LOG_FUNCTION]
        self._lib.lvm2_run.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._lib.lvm2_exit.argtypes = [ctypes.c_void_p]
        self._printed: list[str] = []
        self._errors: list[str] = []
        self._callback = _LOG_FUNCTION(self._log)  # kept: C code has no reference that counts
        self._lib.lvm2_log_fn(self._callback)
        self._handle = 0
        self.types = ""
        self.start()

    def start(self) -> None:
        """Begin, or begin anew: the library looks only now which types of devices there are."""
        if self._handle:
            self._lib.lvm2_exit(self._handle)
        with open("/proc/devices", encoding="ascii") as file:
            self.types = file.read()
        self._handle = self._lib.lvm2_init()
        if not self._handle:
            raise OSError("liblvm2cmd cannot be initialised")

    def _log(self, level: int, _file: bytes, _line: int, _errno: int, message: bytes) -> None:
        # The low bits are the level, the rest are flags (to stderr, only once).
        if level & 7 == _PRINT:
            self._printed.append(message.decode(errors="replace"))
        elif level & 7 <= _ERROR:
            self._errors.append(message.decode(errors="replace"))

    def __call__(self, command: str) -> tuple[bool, int, list[str], list[str]]:
        self._printed, self._errors = [], []
        status = self._lib.lvm2_run(self._handle, command.encode())
        return status == _SUCCESS, status, self._printed, self._errors


def _program(command: str) -> tuple[bool, int, list[str], list[str]]:
    """The same through the `lvm` program."""
    try:
        return True, 0, run(["lvm", *command.split()]).splitlines(), []
    except CommandFailed as failure:
        return False, failure.returncode, [], failure.output.splitlines() or [str(failure)]


_runner: Callable[[str], tuple[bool, int, list[str], list[str]]] | None = None
_mutex = threading.Lock()


def warm_up() -> None:
    """Load and initialise the library now: 150 ms that forked children then need not spend."""
    with _mutex:
        _load()


def _load() -> Callable[[str], tuple[bool, int, list[str], list[str]]]:
    global _runner
    if _runner is None:
        os.environ.setdefault("LVM_SUPPRESS_FD_WARNINGS", "1")
        try:
            _runner = _Library()
        except OSError:
            _runner = _program
    return _runner


def know(kind: str) -> None:
    """Make sure that LVM uses a type of block device, such as `sd`, if the kernel knows it by now.

    A driver's module may have been loaded after this process, or the one that forked it, has
    begun to use the library; beginning anew takes 0.15 s, once in a process.
    """
    with _mutex:
        library = _load()
        if isinstance(library, _Library) and f" {kind}\n" not in library.types:
            library.start()


def lvm(*words: str) -> list[str]:
    """Run an LVM command; returns the lines that it prints.

    Raises:
        LVMNoRoom: not enough free extents in the volume group.
        LVMError: it failed otherwise, or a word holds a character that LVM would split at.
    """
    command = " ".join(words)
    if any(not word or word.split() != [word] or set(word) & set("'\"\\") for word in words):
        raise LVMError(command, 0, ["an argument is empty, or holds white space or quotes"])
    with _mutex:
        success, status, printed, errors = _load()(command)
    if success:
        return printed
    kind = LVMNoRoom if any("nsufficient free space" in line for line in errors) else LVMError
    raise kind(command, status, errors)


def flush(devices: Iterable[str]) -> None:
    """Make LVM's last commit on these physical volumes durable.

    LVM writes its metadata past the page cache and leaves it at that; a device with a cache of
    its own may lose it with the power. What a driver has reported as done must not be lost.

    Raises:
        OSError: a device cannot be flushed.
    """
    for device in devices:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def report(command: str, fields: Iterable[str], *words: str) -> list[dict[str, str]]:
    """Run `pvs`, `vgs` or `lvs` and return the rows; sizes are bytes, as decimal strings.

    Raises:
        LVMError: as lvm().
    """
    options = ("--reportformat", "json", "--units", "b", "--nosuffix", "-o", ",".join(fields))
    return parse_report("\n".join(lvm(command, *options, *words)))


def parse_report(text: str) -> list[dict[str, str]]:
    """The rows of LVM's JSON report, whatever the kind of row is called.

    Raises:
        ValueError: not a report.
    """
    import json

    # Warnings come on the same way as the document, also in the middle of it: such as that a
    # device which had LVM's header the last time that this process looked has none now.
    lines = [line for line in text.splitlines() if line.lstrip().startswith(tuple('{}[]"'))]
    document: dict[str, Any] = json.loads("\n".join(lines))
    return [row for part in document["report"] for rows in part.values() for row in rows]


def group_of(device: str) -> str:
    """Name of the volume group on a device, empty if there is none.

    Raises:
        LVMError: LVM cannot read the device.
    """
    rows = report("pvs", ("pv_name", "vg_name"))
    real = os.path.realpath(device)
    return next((row["vg_name"] for row in rows if os.path.realpath(row["pv_name"]) == real), "")
