"""FIST points of the drivers, switched on and off from outside (see srs/fist.py)."""

import os
from typing import Any

from srs import paths


def _pipe(name: str) -> str:
    return f"{paths.FIST}{name}.reached"


def arm(name: str, content: str) -> None:
    """Switch a point on, and make the pipe that tells when it was reached."""
    os.mkfifo(_pipe(name))
    with open(paths.FIST + name, "w", encoding="ascii") as file:
        file.write(content)


def wait(_blob: bytes, name: str) -> tuple[Any, bytes]:
    """Wait until the point is reached, or switched off; says which of both."""
    try:
        with open(_pipe(name), "rb") as pipe:
            return bool(pipe.read()), b""
    except FileNotFoundError:
        return False, b""  # it was switched off before this began


def reached(name: str) -> bool:
    """Whether somebody has come to a point that is still switched on."""
    return os.path.exists(paths.FIST + name) and not os.path.exists(_pipe(name))


def disarm(name: str) -> None:
    """Switch a point off; whoever waits for it is told."""
    os.unlink(paths.FIST + name)
    try:
        fd = os.open(_pipe(name), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it was reached
    os.unlink(_pipe(name))
    os.close(fd)
