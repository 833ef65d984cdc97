"""Starting and ending kernels as processes of this machine, through a guard (see guard.py)."""

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import BootFailed
from testbed.kernel.guestconfig import interpreter

_GUARD = Path(__file__).with_name("guard.py")


class KernelProcess:
    """A kernel's main process and everything that it started.

    Args:
        argv: program and arguments.
        lock: descriptor that the guard keeps open for as long as anything of it runs.
        writable: directories that it may write; empty for no fence at all.
        pass_fds: descriptors that the program inherits under the same numbers.
        output: descriptor for stdout and stderr.
        environment: all of its environment.

    Raises:
        BootFailed: the guard could not start it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        lock: int,
        writable: Sequence[Path],
        pass_fds: Sequence[int],
        output: int,
        environment: dict[str, str],
    ) -> None:
        self._order, theirs = socket.socketpair()
        # Landlock's escape hatch is the owner's to open, so the guard sees its environment.
        with theirs:
            self._guard = subprocess.Popen(
                [
                    *(str(interpreter()), "-I", "-S", str(_GUARD)),
                    *(str(theirs.fileno()), str(lock)),
                    *(str(directory) for directory in writable),
                    "--",
                    *argv,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(), lock, *pass_fds),
                env=environment,
                start_new_session=True,
            )
        self._words = self._order.makefile("r", encoding="ascii")
        first = self._words.readline()
        if not first:
            self._guard.wait()
            raise BootFailed(f"its guard exited with status {self._guard.returncode}", "")
        #: Process id of the main process, which is the id of its group too.
        self.pid = int(first)
        self._status: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="kernel-watch", daemon=True).start()

    def _watch(self) -> None:
        last = self._words.readline()
        self._guard.wait()
        # No status: the guard itself was killed, and the kernel's end is not known.
        self._status = int(last) if last else None
        self._words.close()
        self._ended.set()

    def kill(self) -> None:
        """SIGKILL to all of it, at once; returns when nothing of it is left."""
        with contextlib.suppress(OSError):  # the guard is done already
            self._order.shutdown(socket.SHUT_WR)
        self._ended.wait()
        self._order.close()

    def wait(self, timeout: float) -> int | None:
        """The exit status (negative: a signal), or None when it still runs after `timeout`."""
        return self._status if self._ended.wait(timeout) else None

    @property
    def running(self) -> bool:
        """False once everything of it is gone."""
        return not self._ended.is_set()

    def end(self, timeout: float) -> int | None:
        """Wait for it to end by itself; kill it when it does not."""
        status = self.wait(timeout)
        self.kill()
        return status


def explain(status: int | None, console: str) -> str:
    """What an exit status and the last words of a kernel mean."""
    if "Kernel panic" in console:
        return "it panicked"
    if "ran out of memory on the host side" in console:
        return "this machine had no memory left for it"
    if status is None:
        return "it stopped answering"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    if status == 0:
        return "it powered off"
    return f"its process exited with status {status}"
