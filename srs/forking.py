"""Forking where every page that a child touches costs 100 us and more.

`os.fork` runs the handlers that the standard library registers for a child: `threading` makes
its locks anew, `random` reseeds. In a User-Mode Linux guest that is 300 page faults, 25 to 50
ms, for every single call. Here it is fork(2) alone, through a ctypes handle that keeps the
interpreter's lock, so that the child goes on with it. Measured there: 393 faults and 61 ms to
the child's first line become 84 faults and 34 ms.

The price, and why it can be paid: only a process with one thread forks so (no lock can be held
by a thread that the child does not have; with threads it is `os.fork`), and numbers of
`random` repeat from child to child (uuids come from the kernel, not from there). Other
handlers do not run either: a child must take no lock of srs/locks.py that its parent has taken.
"""

import ctypes
import os
import signal
import threading

_libc = ctypes.PyDLL(None, use_errno=True)


def fork() -> int:
    """Fork; 0 in the child.

    Raises:
        OSError: no process can be made.
    """
    if threading.active_count() > 1:
        return os.fork()
    pid = int(_libc.fork())
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "fork")
    return pid


def detach(*kept: int) -> None:
    """In a child that outlives its parent: let go of session, files, directory and signals.

    Args:
        kept: descriptors that stay open.
    """
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def name_process(name: str) -> None:
    """Give this process a name of its own in lists of processes: 15 bytes of it are shown."""
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name)
