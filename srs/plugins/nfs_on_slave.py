"""Plugin `nfs-on-slave`: whether somebody on this host has a file of an SR open.

check {path}     "True"; fails while a process has the file open
"""

import os
from contextlib import suppress

from srs.errors import VDIInUse
from srs.plugins import by_function


def _check(arguments: dict[str, str]) -> str:
    path = os.path.realpath(arguments["path"])
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it ended, or closed the file, just now
            directory = f"/proc/{process}/fd"
            if any(os.readlink(f"{directory}/{fd}") == path for fd in os.listdir(directory)):
                raise VDIInUse(f"process {process} has {path} open")
    return "True"


plugin = by_function({"check": _check})
