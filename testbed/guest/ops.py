"""Operations of the agent, by name.

QUICK ones run in the agent's loop: they must be over in a millisecond or two and never wait
for a device. SLOW ones run in a worker process (testbed/guest/workers.py), get the call's raw
bytes, and may give some back. Arguments and results are JSON.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from srs import devicemapper, paths, scsi
from srs.forking import name_process
from testbed.guest import accounting, blocks, census, configfs, fist, linux, nbd, netlink, workers
from testbed.guest.frames import pack_body, unpack_body

#: Processes of driver calls are to be had here, one a connection (testbed/guest/smserver.py).
SM_SOCKET = "/run/testbed-sm"

Quick = Callable[..., Any]
Slow = Callable[..., tuple[Any, bytes]]


def start_driver_server(variants: list[str]) -> None:
    """Fork the driver server. Calls may come at once: they queue until it has imported."""
    from testbed.guest import smserver

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SM_SOCKET)
    listener.listen(128)
    name_process("sm-server")  # before the fork: the child has its name from the first moment
    if os.fork() == 0:
        try:
            # Nothing of the agent's: neither its lines to the host, nor the toolstack's socket.
            os.closerange(3, listener.fileno())
            os.closerange(listener.fileno() + 1, 1 << 16)
            smserver.serve(listener, variants)
        finally:
            os._exit(1)
    name_process("agent")
    listener.close()


def driver_worker() -> workers.Worker:
    """A process for driver calls."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(SM_SOCKET)
    return workers.Worker(sock)


def slow_worker() -> workers.Worker:
    """A process for operations of `SLOW`."""
    return workers.forked(_perform)


def _perform(body: bytes) -> bytes:
    request, blob = unpack_body(body)
    operation = SLOW.get(request["op"]) or ONCE[request["op"]]
    return pack_body(*operation(blob, **request["args"]))


def _load_modules(modules: list[tuple[str, str]]) -> None:
    for path, parameters in modules:
        linux.load_module(path, parameters)


def _make_directory(path: str) -> None:
    os.makedirs(path, exist_ok=True)


def _set_gc_pause(text: str) -> None:
    os.makedirs(os.path.dirname(paths.GC_PAUSE), exist_ok=True)
    with open(paths.GC_PAUSE, "w", encoding="ascii") as file:
        file.write(text)


def _mount(_blob: bytes, source: str, target: str, kind: str) -> tuple[Any, bytes]:
    os.makedirs(target, exist_ok=True)
    linux.mount(source, target, kind)
    return None, b""


def _unmount(_blob: bytes, target: str) -> tuple[Any, bytes]:
    linux.unmount(target)
    return None, b""


def _room(_blob: bytes, path: str) -> tuple[Any, bytes]:
    """Bytes of a file system, and how many are used."""
    found = os.statvfs(path)
    return (found.f_blocks * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize), b""


def _run(_blob: bytes, argv: list[str], environment: dict[str, str]) -> tuple[Any, bytes]:
    import subprocess

    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )
    result = {"returncode": done.returncode, "stderr": done.stderr.decode(errors="replace")}
    return result, done.stdout


def _unit(scsi_id: str) -> list[str]:
    return [path.name for path in scsi.paths(scsi_id)]


def _value_of(function: Quick) -> Slow:
    """A function that takes no bytes and gives none, as a SLOW operation."""
    return lambda _blob, **arguments: (function(**arguments), b"")


QUICK: dict[str, Quick] = {
    "accounting_start": accounting.start,
    "accounting_stop": accounting.stop,
    "attach_loop": linux.attach_loop,
    "detach_loop": linux.detach_loop,
    "fist_arm": fist.arm,
    "fist_disarm": fist.disarm,
    "fist_reached": fist.reached,
    "gc_pause": _set_gc_pause,
    "load_modules": _load_modules,
    "make_directory": _make_directory,
    "written": linux.written,
}

SLOW: dict[str, Slow] = {
    "mount": _mount,
    "unmount": _unmount,
    "census": census.take,
    "configure": configfs.configure,
    "clear": blocks.clear,
    "copy": blocks.copy,
    "digest": blocks.digest,
    "dm_create": _value_of(devicemapper.create),
    "dm_message": _value_of(devicemapper.message),
    "dm_remove": _value_of(devicemapper.remove),
    "dm_resume": _value_of(devicemapper.resume),
    "dm_status": _value_of(devicemapper.status),
    "dm_suspend": _value_of(devicemapper.suspend),
    "dm_switch": _value_of(devicemapper.switch),
    "dm_table": _value_of(devicemapper.table),
    "fist_wait": fist.wait,
    "layout": blocks.layout,
    "pieces": blocks.pieces,
    "plug": nbd.plug,
    "read": blocks.read,
    "room": _room,
    "run": _run,
    "size": blocks.size,
    "store": blocks.store,
    "sync": blocks.sync,
    "unit": _value_of(_unit),
    "unplug": nbd.unplug,
    "used": blocks.used,
    "write": blocks.write,
}

#: In a worker that ends afterwards, because of what it has imported.
ONCE: dict[str, Slow] = {
    "net_address": netlink.change_address,
    "net_inspect": netlink.inspect,
    "net_shape": netlink.shape,
}
