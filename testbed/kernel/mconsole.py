"""The management console of User-Mode Linux: hot plug without a helper program.

One datagram each way over a Unix socket in the guest's `uml_dir`. Request: magic, version,
length, then 512 bytes of command text. Reply: error, more-follows, length, text; all native
32-bit words.
"""

import os
import socket
import struct
from pathlib import Path

from testbed.errors import TestbedError

_MAGIC, _VERSION, _MAX_COMMAND = 0xCAFEBABE, 2, 512
_TIMEOUT = 5.0


class ConsoleRefused(TestbedError):
    """The kernel answered a management command with an error."""

    def __init__(self, command: str, answer: str) -> None:
        self.command = command
        self.answer = answer
        super().__init__(f"the kernel refused {command!r}: {answer}")


def command(path: Path, text: str) -> str:
    """Send one command (`config ubdb=FILE`, `remove ubdb`, ...) and return the answer.

    Args:
        path: the socket, <uml_dir>/<umid>/mconsole.
        text: at most 512 bytes.

    Raises:
        ConsoleRefused: the kernel said no, or the command is too long.
        OSError: nobody listens, or no answer within 5 seconds.
    """
    encoded = text.encode()
    if len(encoded) > _MAX_COMMAND:
        raise ConsoleRefused(text, f"a command may have {_MAX_COMMAND} bytes")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        # An abstract address: the reply needs one, and no file shall stay behind.
        sock.bind(f"\0testbed-{os.getpid()}-{os.urandom(6).hex()}")
        sock.settimeout(_TIMEOUT)
        request = struct.pack("=III", _MAGIC, _VERSION, len(encoded))
        sock.sendto(request + encoded.ljust(_MAX_COMMAND, b"\0"), str(path))
        answer = b""
        while True:
            reply = sock.recv(4096)
            failed, more, length = struct.unpack_from("=iiI", reply)
            answer += reply[12 : 12 + length].rstrip(b"\0")
            if not more:
                break
    said = answer.decode(errors="replace")
    if failed:
        raise ConsoleRefused(text, said)
    return said
