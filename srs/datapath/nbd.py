"""The server's half of the NBD protocol: handshake and requests of one connection.

    Exception
    └── HangUp       the peer broke the protocol, or said goodbye

Reference: the NBD project's protocol document; fixed newstyle handshake with
NBD_OPT_EXPORT_NAME, NBD_OPT_GO, NBD_OPT_INFO, NBD_OPT_LIST and NBD_OPT_ABORT, and simple
replies. All integers are big-endian.

    handshake   server: NBDMAGIC IHAVEOPT flags:16      client: flags:32
    option      client: IHAVEOPT option:32 length:32 data
                server: 3e889045565a9:64 option:32 reply:32 length:32 data
    request     25609513:32 flags:16 type:16 cookie:64 offset:64 length:32 [data]
    reply       67446698:32 error:32 cookie:64 [data]

Bytes are received into one buffer, as many as there are, and requests are carried out where
they lie in it: data of a write goes from the buffer to the disk without being copied.
"""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

SECTOR: Final = 512
#: The largest read or write (bytes); the protocol obliges clients to stay below 32 MiB.
MAX_LENGTH: Final = 32 << 20
_BUFFER: Final = 256 << 10

_OPTION_MAGIC: Final = b"IHAVEOPT"
_GREETING: Final = b"NBDMAGIC" + _OPTION_MAGIC + struct.pack(">H", 3)  # fixed newstyle, no zeroes
_OPTION: Final = struct.Struct(">8sII")
_OPTION_REPLY: Final = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
_REQUEST: Final = struct.Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_REPLY: Final = struct.Struct(">IIQ")
_REPLY_MAGIC: Final = 0x67446698

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR_UNSUP, REP_ERR_INVALID, REP_ERR_UNKNOWN = 0x80000001, 0x80000003, 0x80000006
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3

READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FLAG_FUA: Final = 1
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA = 1, 2, 4, 8
SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN = 32, 64, 256

#: The protocol has its own numbers for errors; they are Linux's for these, EINVAL for others.
_ERRORS: Final = frozenset({errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC})


class HangUp(Exception):
    """The connection is over: the peer broke the protocol, or said goodbye."""


class Store(Protocol):
    """What is served; offsets and lengths in bytes, any alignment. Errors are OSErrors."""

    size: int

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write; durable after flush."""

    def zero(self, offset: int, length: int) -> None:
        """Make bytes read as zero."""

    def flush(self) -> None:
        """Make all writes durable."""


class Connection:
    """One client. `receive` when its socket is readable, `send` when it is writable.

    Args:
        sock: non-blocking stream socket.
        name: the export that is offered; clients may ask for it or for the empty name.
        store: what is served.
        writable: whether writes are accepted.
    """

    def __init__(self, sock: socket.socket, name: str, store: Store, *, writable: bool) -> None:
        self.sock = sock
        self._name = name
        self._store = store
        self._writable = writable
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0
        self._answer = memoryview(bytearray(_REPLY.size + _BUFFER))
        self._outgoing = memoryview(_GREETING)
        self._parse: Callable[[], int] = self._parse_client_flags
        self._no_zeroes = False
        self.send()

    @property
    def wants_to_send(self) -> bool:
        """Whether an answer is waiting for the client to read."""
        return len(self._outgoing) > 0

    def use(self, store: Store) -> None:
        """Serve another store from now on: the image was opened again."""
        self._store = store

    def close(self) -> None:
        """Hang up, and give the buffers back."""
        # At once: they are megabytes, and a cycle of references would keep them for long.
        self.sock.close()
        self._buffer = self._answer = self._outgoing = memoryview(b"")

    def receive(self) -> None:
        """Take what has arrived, and carry out what is complete.

        Raises:
            HangUp: see there.
        """
        try:
            count = self.sock.recv_into(self._buffer[self._end :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise HangUp(str(error)) from error
        if count == 0:
            raise HangUp("end of stream")
        self._end += count
        self.proceed()

    def proceed(self) -> None:
        """Carry out complete requests, as long as their answers can be sent.

        Raises:
            HangUp: see there.
        """
        while not self.wants_to_send:
            used = self._parse()
            if not used:
                break
            self._start += used
        if self._start == self._end:
            self._start = self._end = 0
            self._shrink()

    def _shrink(self) -> None:
        """After a large request: clients that are idle must not hold what it needed."""
        if len(self._buffer) > _BUFFER:
            self._buffer = memoryview(bytearray(_BUFFER))
        if len(self._answer) > _REPLY.size + _BUFFER and not self.wants_to_send:
            self._answer = memoryview(bytearray(_REPLY.size + _BUFFER))

    def send(self) -> None:
        """Send what is waiting, or as much of it as the socket takes.

        Raises:
            HangUp: see there.
        """
        while len(self._outgoing):
            try:
                sent = self.sock.send(self._outgoing)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise HangUp(str(error)) from error
            self._outgoing = self._outgoing[sent:]

    def _have(self, length: int) -> bool:
        """Whether this many bytes have arrived; makes room for them if not."""
        if self._end - self._start >= length:
            return True
        if self._start + length > len(self._buffer):
            rest = bytes(self._buffer[self._start : self._end])
            if length > len(self._buffer):
                self._buffer = memoryview(bytearray(length + _REQUEST.size))
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return False

    def _reply(self, data: bytes) -> None:
        self._outgoing = memoryview(data)
        self.send()

    # -- handshake: each method returns how many bytes it used, 0 to wait for more

    def _parse_client_flags(self) -> int:
        if not self._have(4):
            return 0
        (flags,) = struct.unpack_from(">I", self._buffer, self._start)
        self._no_zeroes = bool(flags & 2)
        if not flags & 1:
            raise HangUp("the client does not speak fixed newstyle")
        self._parse = self._parse_option
        return 4

    def _parse_option(self) -> int:
        if not self._have(_OPTION.size):
            return 0
        magic, option, length = _OPTION.unpack_from(self._buffer, self._start)
        if magic != _OPTION_MAGIC or length > _BUFFER // 2:
            raise HangUp("no NBD option")
        if not self._have(_OPTION.size + length):
            return 0
        at = self._start + _OPTION.size
        self._choose(option, bytes(self._buffer[at : at + length]))
        return int(_OPTION.size + length)

    def _choose(self, option: int, data: bytes) -> None:
        if option == OPT_EXPORT_NAME:
            if not self._offered(data):
                raise HangUp("unknown export")  # this option has no way to say no
            padding = b"" if self._no_zeroes else bytes(124)
            self._parse = self._parse_request
            self._reply(struct.pack(">QH", self._store.size, self._flags()) + padding)
        elif option in (OPT_GO, OPT_INFO):
            self._describe(option, data)
        elif option == OPT_LIST:
            name = self._name.encode()
            server = self._option_reply(option, REP_SERVER, struct.pack(">I", len(name)) + name)
            self._reply(server + self._option_reply(option, REP_ACK))
        elif option == OPT_ABORT:
            self._reply(self._option_reply(option, REP_ACK))
            raise HangUp("the client ended the handshake")
        else:
            self._reply(self._option_reply(option, REP_ERR_UNSUP))

    def _describe(self, option: int, data: bytes) -> None:
        (length,) = struct.unpack_from(">I", data.ljust(4, b"\xff"))
        if 4 + length + 2 > len(data):
            self._reply(self._option_reply(option, REP_ERR_INVALID))
            return
        if not self._offered(data[4 : 4 + length]):
            self._reply(self._option_reply(option, REP_ERR_UNKNOWN))
            return
        export = struct.pack(">HQH", _INFO_EXPORT, self._store.size, self._flags())
        blocks = struct.pack(">HIII", _INFO_BLOCK_SIZE, 1, 4096, MAX_LENGTH)
        if option == OPT_GO:
            self._parse = self._parse_request
        self._reply(
            self._option_reply(option, REP_INFO, export)
            + self._option_reply(option, REP_INFO, blocks)
            + self._option_reply(option, REP_ACK)
        )

    def _offered(self, name: bytes) -> bool:
        return name in (b"", self._name.encode())

    def _flags(self) -> int:
        flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | CAN_MULTI_CONN
        return flags if self._writable else flags | READ_ONLY

    @staticmethod
    def _option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
        return _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)) + data

    # -- requests

    def _parse_request(self) -> int:
        if not self._have(_REQUEST.size):
            return 0
        magic, flags, kind, cookie, offset, length = _REQUEST.unpack_from(self._buffer, self._start)
        if magic != _REQUEST_MAGIC or (kind in (READ, WRITE) and length > MAX_LENGTH):
            raise HangUp("no NBD request")
        if kind == DISC:
            raise HangUp("the client disconnected")
        used = _REQUEST.size + (length if kind == WRITE else 0)
        if not self._have(used):
            return 0
        if kind == READ:
            self._read(cookie, offset, length)
        else:
            data = self._buffer[self._start + _REQUEST.size : self._start + used]
            error = self._attempt(lambda: self._change(kind, flags, offset, length, data))
            self._reply(_REPLY.pack(_REPLY_MAGIC, error, cookie))
        return int(used)

    def _read(self, cookie: int, offset: int, length: int) -> None:
        if _REPLY.size + length > len(self._answer):
            self._answer = memoryview(bytearray(_REPLY.size + length))
        target = self._answer[_REPLY.size : _REPLY.size + length]
        error = self._attempt(lambda: self._checked_read(offset, target))
        _REPLY.pack_into(self._answer, 0, _REPLY_MAGIC, error, cookie)
        self._outgoing = self._answer[: _REPLY.size + (0 if error else length)]
        self.send()

    def _checked_read(self, offset: int, target: memoryview) -> None:
        self._check_range(offset, len(target), errno.EINVAL)
        self._store.readinto(offset, target)

    def _change(self, kind: int, flags: int, offset: int, length: int, data: memoryview) -> None:
        if kind == FLUSH:
            self._store.flush()
            return
        if kind not in (WRITE, TRIM, WRITE_ZEROES):
            raise OSError(errno.EINVAL, "unknown request")
        if not self._writable:
            raise OSError(errno.EPERM, "the export is read-only")
        self._check_range(offset, length, errno.ENOSPC)
        if kind == WRITE_ZEROES and length > MAX_LENGTH:
            raise OSError(errno.EINVAL, "longer than was announced; others wait for their turn")
        if kind == WRITE:
            self._store.write(offset, data)
        elif kind == WRITE_ZEROES:
            self._store.zero(offset, length)
        # TRIM is advice; a VHD could only give a block back by showing the parent's data.
        if flags & FLAG_FUA:
            self._store.flush()

    def _check_range(self, offset: int, length: int, number: int) -> None:
        if offset + length > self._store.size:
            raise OSError(number, "beyond the end of the disk")

    @staticmethod
    def _attempt(action: Callable[[], None]) -> int:
        try:
            action()
        except OSError as error:
            return error.errno if error.errno in _ERRORS else errno.EIO
        return 0
