"""The console of a kernel: drained all the time, kept to a bound, quoted in errors.

A pipe, not a file: a kernel that runs out of memory prints a gigabyte in a minute. A pipe
that nobody drains would drop lines, never stop the guest; this one is drained.
"""

import os
import re
import threading
from collections import deque

_KEPT_LINES = 2000
#: Harmless on every boot (no ubda, no console input), or the stack of a panic, which says
#: nothing without the kernel's sources: not worth a reader's time.
_NOISE = re.compile(
    r"epollctl add err|mmapper_init - find_iomem|Failed to initialize ubd device"
    r"|SELINUX_CHECKREQPROT|\[<[0-9a-f]{8}>\]|^\[[ .0-9]*\]  [0-9a-f]{8} "
)


class Console:
    """Collects what is written to `write_end` until every writer closed it."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = b""
        self._thread = threading.Thread(target=self._drain, name="console", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while True:
            data = os.read(self._read, 1 << 16)
            if not data:
                break
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._lines.extend(line.decode(errors="replace").rstrip("\r") for line in lines)
        os.close(self._read)

    def started(self) -> None:
        """The kernel holds the writing end now: close ours, so that its end can be seen."""
        os.close(self.write_end)

    def finish(self, timeout: float) -> None:
        """Wait for the last words of a kernel that ended."""
        self._thread.join(timeout)

    def tail(self, count: int = 25) -> str:
        """The last lines worth reading."""
        lines = [line for line in list(self._lines) if line and not _NOISE.search(line)]
        partial = self._partial.decode(errors="replace")
        return "\n".join([*lines, *([partial] if partial else [])][-count:])
