"""Kernel objects that are made and wired up as directories, files and links: configfs.

What to make is decided outside; in here a list of steps is carried out in one call (55 ms for
a target with LUNs, where each program that does one step costs as much).
"""

import os
from typing import Any, Final

from testbed.guest import linux

_ROOT: Final = "/sys/kernel/config"


def _mount() -> None:
    if not os.path.ismount(_ROOT):
        linux.mount("configfs", _ROOT, "configfs")


def configure(_blob: bytes, steps: list[list[str]]) -> tuple[Any, bytes]:
    """Carry out steps in order.

    Args:
        steps: what, a path below the file system's root, and what that needs:
            ["make", path] a directory with all above it, ["drop", path] an empty one,
            ["write", path, text], ["link", path, target], ["unlink", path].

    Raises:
        OSError: the kernel refuses one; those before it are done.
    """
    _mount()
    for what, name, *rest in steps:
        path = f"{_ROOT}/{name}"
        if what == "make":
            os.makedirs(path, exist_ok=True)
        elif what == "drop":
            os.rmdir(path)
        elif what == "write":
            # One write: the kernel takes each as a whole value.
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, rest[0].encode())
            finally:
                os.close(fd)
        elif what == "link":
            os.symlink(f"{_ROOT}/{rest[0]}", path)
        elif what == "unlink":
            os.unlink(path)
        else:
            raise ValueError(f"no step {what!r}")
    return None, b""
