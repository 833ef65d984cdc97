"""The driver server: imports the storage drivers once, then forks the processes of calls.

Every SMAPIv1 call has a process for itself as long as it runs, as on a real host (locks,
`kill -9`, two calls at once), without the second that starting Python in the guest would take.
A process that ends its call as it began it takes another one: pages that it has touched
already cost nothing, and they are most of the cost of a call (60 ms of fork and page faults
for an empty one). A call that leaves a lock, a descriptor or a thread behind is the
last one of its process, so that nothing of it reaches the next; the kernel's log tells what
it was. (A data path is no leftover: it is meant to outlive the call that starts it.)

One connection, one process. Frames (testbed/guest/frames.py) in turns:

    request   {"driver": "lvhd"} + the XML-RPC document; no driver: which ones are there?
    answer    {"stderr": text, "returncode": 0} + the XML-RPC document

    request   {"plugin": "on-slave", "fn": "is_open", "args": {...}}: a host plugin
    answer    {"value": text} or {"error": [code of the XenAPI, parameters ...]}
"""

import gc
import os
import signal
import socket
import sys
import threading

from srs.forking import fork, name_process
from testbed.guest import linux, workers
from testbed.guest.frames import pack_body, unpack_body

#: What liblvm2cmd keeps open from its first command on: device-mapper's control node, and the
#: context of its asynchronous input and output.
_LIBRARY_FILES = ("/dev/mapper/control", "anon_inode:[aio]")


def _load_variants(paths: list[str]) -> None:
    """Import Python files that register drivers of their own."""
    import importlib.util

    for path in paths:
        name = "testbed_variant_" + os.path.basename(path).removesuffix(".py")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _open_files() -> dict[str, str]:
    """Descriptors of this process -> what they are; not the one that lists them."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def _surroundings() -> dict[str, object]:
    """What a process can change for all that is done in it later."""
    umask = os.umask(0o022)
    os.umask(umask)
    return {
        "directory": os.getcwd(),
        "umask": umask,
        "environment": dict(os.environ),
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
    }


class _Caller:
    """A process that carries out calls, one after the other."""

    def __init__(self) -> None:
        self._files = _open_files()
        self._surroundings = _surroundings()

    def perform(self, body: bytes) -> bytes:
        """One call."""
        from srs import command, plugins, registry

        # While it waits the kernel reaps what it started; now drivers wait for programs.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        header, document = unpack_body(body)
        if "plugin" in header:
            return pack_body(plugins.call(header["plugin"], header["fn"], header["args"]))
        if header["driver"] is None:
            return pack_body(registry.names())
        reply = command.execute(registry.get(header["driver"]), document.decode())
        result = {"stderr": reply.stderr, "returncode": 0}
        return pack_body(result, reply.stdout.encode())

    def is_clean(self) -> bool:
        """Whether another call may follow."""
        left = self._left_behind()
        if left:
            linux.log(f"a driver left behind: {', '.join(left)}")
        # From here on the kernel reaps: data paths that calls of this process have started.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        return not left

    def _left_behind(self) -> list[str]:
        left = [thread.name for thread in threading.enumerate()[1:]]
        before, self._surroundings = self._surroundings, _surroundings()
        left += [name for name, now in self._surroundings.items() if now != before[name]]
        known, self._files = self._files, _open_files()  # a lock is a file, too
        left += [
            name
            for number, name in self._files.items()
            if known.get(number) != name and name not in _LIBRARY_FILES
        ]
        return left


def serve(listener: socket.socket, variants: list[str]) -> None:
    """Accept connections for ever, and fork a process for each.

    Args:
        listener: where the agent connects to.
        variants: Python files that register more drivers, or other ones in their place.
    """
    # Here, not at the top: the agent imports this module, and must stay small.
    from srs import command, plugins, registry

    command.warm_up()
    registry.names()
    plugins.load()
    _load_variants(variants)
    # What is imported stays: no collector pass may touch (and so copy) these pages in a child.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    while True:
        connection, _ = listener.accept()
        try:
            child = fork()
        except OSError:  # no memory for one more: this call fails, the next one may not
            connection.close()
            continue
        if child == 0:
            try:
                listener.close()
                name_process("sm-call")
                caller = _Caller()
                workers.serve(connection, caller.perform, may_go_on=caller.is_clean)
            finally:
                os._exit(0)
        connection.close()
