"""The driver server: imports the storage drivers once, then forks a child per SMAPIv1 call.

So every call is a process of its own, as on a real host (locks, `kill -9`, leaks), without
the second that starting Python in the guest would take. One connection, one call: the
request is a body (see testbed/guest/frames.py) up to the end of input, the answer a frame
kind and a body.

    request   {"driver": "lvhd"} + the XML-RPC document; no driver: which ones are there?
    answer    {"stderr": text, "returncode": 0} + the XML-RPC document
"""

import gc
import os
import signal
import socket
import sys

from srs.forking import fork
from testbed.guest.frames import Kind, describe, pack_body, unpack_body


def _receive(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


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


def _answer(body: bytes) -> bytes:
    from srs import command, registry

    header, document = unpack_body(body)
    if header["driver"] is None:
        return bytes([Kind.RESULT]) + pack_body(registry.names())
    reply = command.execute(registry.get(header["driver"]), document.decode())
    result = {"stderr": reply.stderr, "returncode": 0}
    return bytes([Kind.RESULT]) + pack_body(result, reply.stdout.encode())


def _child(connection: socket.socket) -> None:
    # Even the reading is done here: a client that stops halfway must not hold up the server.
    try:
        answer = _answer(_receive(connection))
    except BaseException as error:
        answer = bytes([Kind.FAULT]) + pack_body(describe(error))
    connection.sendall(answer)


def serve(listener: socket.socket, variants: list[str]) -> None:
    """Accept calls for ever.

    Args:
        listener: where the agent connects to, once per call.
        variants: Python files that register more drivers, or other ones in their place.
    """
    # Here, not at the top: the agent imports this module, and must stay small.
    from srs import command, registry

    command.warm_up()
    registry.names()
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
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            try:
                _child(connection)
            finally:
                os._exit(0)
        connection.close()
