"""First code of a guest: open the wire to the host, then become the agent.

Started by a script that the host writes (testbed/kernel/guestconfig.py); in a User-Mode
Linux guest it is process 1, on this machine's own kernel an ordinary root process.
"""

import mmap
import os
import socket
import termios
from typing import Any

from testbed.guest import agent, linux
from testbed.guest.frames import Link, SocketLink, describe
from testbed.guest.ring import Bell, PeerGone, Ring, region_size


def _serial_line(path: str) -> int:
    """A serial line as a clean byte pipe: no echo, no translation, one byte wakes a read."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    attributes = termios.tcgetattr(fd)
    attributes[0] = attributes[1] = attributes[3] = 0
    attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    return fd


def _ring(capacity: int) -> Ring:
    fd = os.open("/dev/mmapper", os.O_RDWR | os.O_CLOEXEC)
    region = memoryview(mmap.mmap(fd, region_size(capacity)))
    os.close(fd)
    first, second = _serial_line("/dev/ttyS0"), _serial_line("/dev/ttyS1")
    return Ring(
        region, capacity, host=False, inbound=Bell(first, first), outbound=Bell(second, second)
    )


def _log(text: str) -> None:
    """Last words go to the kernel log: the host keeps and quotes it."""
    with open("/dev/kmsg", "w", encoding="utf-8") as file:
        for line in text.splitlines():
            file.write(f"<3>agent: {line}\n")
            file.flush()


def main(config: dict[str, Any], started: float) -> None:
    """Run the agent over the link that `config` names; power off when the host is gone."""
    link: Link
    if config["own_kernel"]:
        link = _ring(config["ring_capacity"])
    else:
        link = SocketLink(socket.socket(fileno=config["socket"]))
    try:
        agent.main(config, link, started=started)
    except PeerGone:
        return
    except BaseException as error:
        if not config["own_kernel"]:
            raise
        _log(describe(error)["trace"])
        linux.power_off()
