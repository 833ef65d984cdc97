"""Has drivers note what they do that costs. Runs inside the guest, beside the drivers.

While the file of the notes is there, each LVM command, sync and call of the toolstack adds a line
to it, a JSON object:

    what       `lvm lvchange -ay of 2`, `fsync`, `xapi VDI.get_record`
    process    number of the process
    seconds    how long it took
    commits    LVM's sequence numbers before and after, of all groups together
    free       bytes that are free in groups and in the file systems of SRs, before and after

Looking at the groups takes longer than most of what is looked at, so a call that is noted is
not a call that is timed.
"""

import glob
import json
import os
import time
from collections.abc import Callable
from typing import Any

from srs import lvm
from srs.session import Session

NOTES = "/run/bench-notes"
_MOUNTS = "/run/sr-mount/*"

_lvm = lvm.lvm


def _groups() -> tuple[int, int]:
    """Sequence numbers and free bytes of all volume groups, added up."""
    fields = ("--noheadings", "--units", "b", "--nosuffix", "-o", "vg_seqno,vg_free")
    rows = [line.split() for line in _lvm("vgs", *fields)]
    return sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows)


def _free_in_files() -> int:
    found = (os.statvfs(path) for path in glob.glob(_MOUNTS))
    return sum(status.f_bfree * status.f_frsize for status in found)


def _noting(
    function: Callable[..., Any], name: Callable[..., str], *, commits: bool = False
) -> Callable[..., Any]:
    def noting(*args: Any, **named: Any) -> Any:
        if not os.path.exists(NOTES):
            return function(*args, **named)
        before = _groups() if commits else (0, _free_in_files())
        began = time.monotonic()
        try:
            return function(*args, **named)
        finally:
            seconds = time.monotonic() - began
            after = _groups() if commits else (0, _free_in_files())
            note = {
                "what": name(*args),
                "process": os.getpid(),
                "seconds": round(seconds, 6),
                "commits": (before[0], after[0]),
                "free": (before[1], after[1]),
            }
            _append(json.dumps(note) + "\n")

    return noting


def _command(command: str, *words: str) -> str:
    """An LVM command in short: activating thirty volumes is not activating one."""
    short = ["lvm", command, *(word for word in words if word in ("-ay", "-an"))]
    volumes = sum("/" in word and not word.startswith("/") for word in words)
    return " ".join([*short, f"of {volumes}"] if volumes > 1 else short)


def _append(line: str) -> None:
    fd = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _install() -> None:
    os.fsync = _noting(os.fsync, lambda _fd: "fsync")
    os.fdatasync = _noting(os.fdatasync, lambda _fd: "fsync")
    lvm.lvm = _noting(_lvm, _command, commits=True)
    Session.call = _noting(Session.call, lambda _session, method, *_args: f"xapi {method}")  # type: ignore[method-assign]


# Only among the drivers: who reads the notes imports this module, too, for their place.
if __name__ != "scenarios.bench.notes":
    _install()
