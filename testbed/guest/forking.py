"""Forking in a guest, where every page that a child touches costs 100 us and more.

`os.fork` runs the handlers that the standard library registers for a child: `threading` makes
its locks anew, `random` reseeds. In a guest that is 300 page faults, 25 ms, for every single
call. `bare_fork` is fork(2) alone, through a ctypes handle that keeps the interpreter's lock,
so that the child goes on with it. Measured: 393 faults and 61 ms to the child's first line
become 84 faults and 34 ms.

The price, and why it can be paid here: only a process with one thread may fork so (no lock
can be held by a thread that the child does not have), and numbers of `random` repeat from
child to child (uuids come from the kernel, not from there).
"""

import ctypes
import threading

_libc = ctypes.PyDLL(None)


def bare_fork() -> int:
    """Fork; 0 in the child. Raises OSError, and RuntimeError in a process with threads."""
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must fork through os.fork")
    pid = int(_libc.fork())
    if pid < 0:
        raise OSError("fork failed")
    return pid
