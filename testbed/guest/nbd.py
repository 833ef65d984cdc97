"""Plugging a VDI into the host itself: /dev/nbdN over the kernel's nbd driver.

A driver's vdi_attach names an NBD server (`nbd:unix:<socket>:exportname=<name>`) or a block
device. For a server this module does what `nbd-client` would do, in 20 ms instead of a
second: the NBD handshake in user space (the NBD protocol's fixed newstyle, NBD_OPT_GO), then
the socket goes to the kernel through the generic netlink family "nbd".
"""

import errno
import os
import socket
import struct
from typing import Any, Final

_NBD_MAGIC: Final = b"NBDMAGIC"
_OPTION_MAGIC: Final = b"IHAVEOPT"
_REPLY_MAGIC: Final = 0x3E889045565A9
_OPT_GO: Final = 7
_REP_ACK, _REP_INFO = 1, 3
_INFO_EXPORT: Final = 0
_FLAG_READ_ONLY: Final = 2

_GENERIC_NETLINK: Final = 16
_CONTROLLER: Final = 16
_GET_FAMILY: Final = 3
_CONNECT, _DISCONNECT = 1, 2
_INDEX, _SIZE, _BLOCK_SIZE, _TIMEOUT, _SERVER_FLAGS, _SOCKETS = 1, 2, 3, 4, 5, 7
_NESTED: Final = 0x8000
_NLMSG_ERROR: Final = 2

#: Seconds until a request to a server that hangs ends in EIO; longer than a pause may last.
REQUEST_TIMEOUT: Final = 90


class NBDRefused(OSError):
    """The server did not agree to serve the export."""


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise NBDRefused(errno.ECONNRESET, "the NBD server hung up in the handshake")
        data += piece
    return bytes(data)


def negotiate(sock: socket.socket, export: str) -> tuple[int, int]:
    """The client's half of the handshake; returns size in bytes and transmission flags.

    Raises:
        NBDRefused: no NBD server, or it does not serve `export`.
    """
    if _exactly(sock, 8) != _NBD_MAGIC or _exactly(sock, 8) != _OPTION_MAGIC:
        raise NBDRefused(errno.EPROTO, "the server does not speak NBD newstyle")
    (server,) = struct.unpack(">H", _exactly(sock, 2))
    sock.sendall(struct.pack(">I", server & 3))  # fixed newstyle, no zeroes: as offered
    name = export.encode()
    body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    sock.sendall(_OPTION_MAGIC + struct.pack(">II", _OPT_GO, len(body)) + body)
    described: tuple[int, int] | None = None
    while True:
        magic, _, reply, length = struct.unpack(">QIII", _exactly(sock, 20))
        data = _exactly(sock, length)
        if magic != _REPLY_MAGIC or reply & 0x80000000:
            raise NBDRefused(errno.ENOENT, f"the server refused export {export!r}: {reply:#x}")
        if reply == _REP_INFO and struct.unpack_from(">H", data)[0] == _INFO_EXPORT:
            described = struct.unpack(">QH", data[2:12])
        if reply == _REP_ACK:
            if described is None:
                raise NBDRefused(errno.EPROTO, "the server acknowledged without a size")
            return described


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _ask(family: int, command: int, attributes: bytes) -> list[bytes]:
    """One generic netlink request, with its acknowledgement. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC_NETLINK) as sock:
        sock.bind((0, 0))
        payload = struct.pack("=BBH", command, 1, 0) + attributes
        sock.send(struct.pack("=IHHII", 16 + len(payload), family, 1 | 4, 1, 0) + payload)
        answers: list[bytes] = []
        while True:
            data, offset = sock.recv(1 << 16), 0
            while offset < len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, offset + 16)
                    if code:
                        raise OSError(-code, os.strerror(-code), "nbd")
                    return answers
                answers.append(data[offset + 20 : offset + length])
                offset += (length + 3) & ~3


def _nbd_family() -> int:
    answer = _ask(_CONTROLLER, _GET_FAMILY, _attribute(2, b"nbd\0"))[0]
    (number,) = struct.unpack("=H", _attributes(answer)[1])
    return int(number)


def _free_indices() -> list[int]:
    names = (name for name in os.listdir("/sys/block") if name.startswith("nbd"))
    free = (name for name in names if not os.path.exists(f"/sys/block/{name}/pid"))
    return sorted(int(name.removeprefix("nbd")) for name in free)


def connect(path: str, export: str, *, writable: bool) -> str:
    """Give an NBD server to the kernel; returns /dev/nbdN.

    Raises:
        NBDRefused: the server does not serve the export, or all devices are taken.
        OSError: nobody listens on `path`.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        size, flags = negotiate(sock, export)
        if not writable:
            flags |= _FLAG_READ_ONLY
        family = _nbd_family()
        for index in _free_indices():
            attributes = (
                _attribute(_INDEX, struct.pack("=I", index))
                + _attribute(_SIZE, struct.pack("=Q", size))
                + _attribute(_BLOCK_SIZE, struct.pack("=Q", 512 if size % 4096 else 4096))
                + _attribute(_SERVER_FLAGS, struct.pack("=Q", flags))
                + _attribute(_TIMEOUT, struct.pack("=Q", REQUEST_TIMEOUT))
            )
            item = _attribute(1 | _NESTED, _attribute(1, struct.pack("=I", sock.fileno())))
            try:
                _ask(family, _CONNECT, attributes + _attribute(_SOCKETS | _NESTED, item))
            except OSError as error:
                if error.errno != errno.EBUSY:  # taken by a call beside this one
                    raise
            else:
                return f"/dev/nbd{index}"
    raise NBDRefused(errno.ENODEV, "every /dev/nbdN is in use")


def disconnect(device: str, *, force: bool = False) -> str:
    """Take /dev/nbdN from its server: dirty pages are written first, and errors are told.

    Args:
        device: which.
        force: let it go even if they cannot be written; returns why they could not then.

    Raises:
        OSError: EBUSY when something in the kernel (a mount, a volume group) stands on it;
            or, unless forced, data could not be written.
    """
    lost = ""
    try:
        _flush(device)
    except OSError as error:
        if not force or error.errno == errno.EBUSY:
            raise
        lost = str(error)
    index = int(os.path.basename(device).removeprefix("nbd"))
    # The acknowledgement comes after the receiver is gone: the device is free then.
    _ask(_nbd_family(), _DISCONNECT, _attribute(_INDEX, struct.pack("=I", index)))
    return lost


def _flush(device: str) -> None:
    fd = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        reason = f"data could not be written: {error.strerror}"
        raise OSError(error.errno, reason, device) from error
    finally:
        os.close(fd)


def plug(_blob: bytes, attached: dict[str, Any], writable: bool) -> tuple[Any, bytes]:
    """A block device of this host for what vdi_attach returned; returns its path."""
    server = str(attached.get("params_nbd") or "")
    if not server:
        return os.path.realpath(str(attached["params"])), b""
    scheme, kind, rest = server.split(":", 2)
    if (scheme, kind) != ("nbd", "unix"):
        raise NBDRefused(errno.EPROTONOSUPPORT, f"cannot plug {server!r}")
    path, _, export = rest.partition(":exportname=")
    return connect(path, export, writable=writable), b""


def unplug(_blob: bytes, device: str, force: bool) -> tuple[Any, bytes]:
    """The inverse of `plug`; see `disconnect` for what it returns."""
    if os.path.basename(device).startswith("nbd"):
        return disconnect(device, force=force), b""
    return "", b""
