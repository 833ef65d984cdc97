"""What exists in the guest right now: the counts that must not grow when nothing is leaked."""

import os
from typing import Any

from srs import scsi


def _mounts() -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return sorted(line.split()[1] for line in file)


def _bound(kind: str, attribute: str) -> list[str]:
    """Block devices of a kind whose `attribute` file exists, which means: in use."""
    names = (name for name in os.listdir("/sys/block") if name.startswith(kind))
    return sorted(name for name in names if os.path.exists(f"/sys/block/{name}/{attribute}"))


def _mapped() -> list[str]:
    found = []
    for name in os.listdir("/sys/block"):
        if name.startswith("dm-"):
            with open(f"/sys/block/{name}/dm/name", encoding="ascii") as file:
                found.append(file.read().strip())
    return sorted(found)


def _units() -> list[str]:
    """Paths to SCSI units: the unit's id, and which of its paths it is."""
    found: dict[str, int] = {}
    for path in scsi.paths():
        found[path.scsi_id] = found.get(path.scsi_id, 0) + 1
    return sorted(f"{unit} {number}" for unit, count in found.items() for number in range(count))


def _sessions() -> list[str]:
    """ISCSI sessions: the target's name, and the portal."""
    found = []
    root = "/sys/class/iscsi_connection"
    for name in os.listdir(root) if os.path.isdir(root) else ():
        session = name.partition(":")[0].replace("connection", "session")
        paths = (
            f"/sys/class/iscsi_session/{session}/targetname",
            f"{root}/{name}/persistent_address",
            f"{root}/{name}/persistent_port",
        )
        words = []
        for path in paths:
            with open(path, encoding="utf-8") as file:
                words.append(file.read().strip())
        found.append("{} {}:{}".format(*words))
    return sorted(found)


#: Processes that wait for work: they come and stay, and nobody leaks them.
_FURNITURE = {"iscsid", "sm-server", "sm-call", "slow-call", "nbd spare"}


def _processes() -> list[str]:
    """Names of user processes. A fork has its parent's command line, but a name of its own."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if not file.read(1):
                        continue  # a kernel thread, or a process that ended
                with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                    name = file.read().rstrip("\n")
            except OSError:
                continue  # it ended while we looked
            if name not in _FURNITURE:
                found.append(name)
    return sorted(found)


def _files(roots: list[str]) -> list[str]:
    return sorted(
        os.path.join(directory, name)
        for root in roots
        for directory, _, names in os.walk(root)
        for name in names
    )


def take(_blob: bytes, roots: list[str]) -> tuple[Any, bytes]:
    """Everything that a storage operation could leak.

    Args:
        roots: directories whose files are listed too.
    """
    return {
        "mounts": _mounts(),
        "loops": _bound("loop", "loop/backing_file"),
        "nbds": _bound("nbd", "pid"),
        "mapped": _mapped(),
        "units": _units(),
        "sessions": _sessions(),
        "processes": _processes(),
        "files": _files(roots),
    }, b""
