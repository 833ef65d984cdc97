"""The NBD server process, spoken to byte by byte, over VHDs in real files."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srs import vhd
from srs.datapath import nbd
from srs.datapath.server import Server
from srs.datapath.store import Export
from srs.errors import TapdiskAlreadyRunning, TapdiskFailed
from srs.vhd import cbt

SIZE = 4 << 20
NAME = "11111111-2222-3333-4444-555555555555"


class Client:
    """An NBD client that does nothing by itself."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(path)
        assert self.take(18) == b"NBDMAGICIHAVEOPT\0\3"
        self.sock.sendall(struct.pack(">I", 3))

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """All replies to an option, the final one last."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        replies = []
        while True:
            magic, option, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, option) == (0x3E889045565A9, number)
            replies.append((kind, self.take(length)))
            if kind == nbd.REP_ACK or kind & 0x80000000:
                return replies

    def go(self, name: str = NAME) -> tuple[int, int]:
        """Size and flags."""
        replies = self.option(nbd.OPT_GO, describe(name))
        assert replies[-1] == (nbd.REP_ACK, b"")
        kind, size, flags = struct.unpack(">HQH", replies[0][1])
        assert kind == 0
        return size, flags

    def send(self, kind: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> None:
        head = struct.pack(">IHHQQI", 0x25609513, flags, kind, 0xC00C1E, offset, length)
        self.sock.sendall(head + data)

    def answer(self) -> int:
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        assert (magic, cookie) == (0x67446698, 0xC00C1E)
        return int(error)

    def call(self, kind: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> int:
        self.send(kind, offset, length, data, flags)
        return self.answer()

    def write(self, offset: int, data: bytes, flags: int = 0) -> int:
        return self.call(nbd.WRITE, offset, len(data), data, flags)

    def read(self, offset: int, length: int) -> bytes:
        assert self.call(nbd.READ, offset, length) == 0
        return self.take(length)

    def close(self) -> None:
        self.sock.close()


def describe(name: str) -> bytes:
    return struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    vhd.create(tmp_path / "base.vhd", SIZE)
    with vhd.open_chain(tmp_path / "base.vhd", writable=True) as chain:
        chain.write(0, b"base" * 1024)
    vhd.snapshot(tmp_path / "leaf.vhd", tmp_path / "base.vhd")
    return tmp_path / "leaf.vhd"


@pytest.fixture
def server(sockets: Path) -> Iterator[Server]:
    server = Server("sr", NAME)
    yield server
    server.stop()
    assert not server.is_running()


@pytest.fixture
def client(server: Server, image: Path) -> Iterator[Client]:
    server.start(Export(NAME, str(image), raw=False, writable=True))
    client = Client(server.socket_path)
    client.go()
    yield client
    client.close()


def test_what_is_offered(server: Server, image: Path) -> None:
    server.start(Export(NAME, str(image), raw=False, writable=True))
    client = Client(server.socket_path)
    listed = struct.pack(">I", len(NAME)) + NAME.encode()
    assert client.option(nbd.OPT_LIST) == [(nbd.REP_SERVER, listed), (nbd.REP_ACK, b"")]
    assert client.option(99) == [(nbd.REP_ERR_UNSUP, b"")]
    assert client.option(nbd.OPT_GO, describe("another")) == [(nbd.REP_ERR_UNKNOWN, b"")]
    assert client.option(nbd.OPT_GO, b"\0") == [(nbd.REP_ERR_INVALID, b"")]
    assert client.option(nbd.OPT_INFO, describe(NAME))[-1] == (nbd.REP_ACK, b"")
    size, flags = client.go("")
    assert size == SIZE
    assert flags == nbd.HAS_FLAGS | nbd.SEND_FLUSH | nbd.SEND_FUA | 32 | 64 | 256
    assert client.read(0, 4096) == b"base" * 1024
    client.close()


def test_the_old_way_in(server: Server, image: Path) -> None:
    server.start(Export(NAME, str(image), raw=False, writable=False))
    client = Client(server.socket_path)
    client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", 1, len(NAME)) + NAME.encode())
    size, flags = struct.unpack(">QH", client.take(10))
    assert size == SIZE
    assert flags & nbd.READ_ONLY
    assert client.read(0, 4) == b"base"
    assert client.write(0, b"x" * 512) == 1
    client.close()
    stranger = Client(server.socket_path)
    stranger.sock.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"x")
    with pytest.raises(EOFError):
        stranger.take(1)
    stranger.close()


def test_abort_is_acknowledged(server: Server, image: Path) -> None:
    server.start(Export(NAME, str(image), raw=False, writable=True))
    client = Client(server.socket_path)
    assert client.option(nbd.OPT_ABORT) == [(nbd.REP_ACK, b"")]
    with pytest.raises(EOFError):
        client.take(1)
    client.close()


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n" * 4, bytes(64), b"IHAVEOPT" + b"\xff" * 8]
)
def test_noise_ends_one_connection_only(server: Server, image: Path, noise: bytes) -> None:
    server.start(Export(NAME, str(image), raw=False, writable=True))
    rude, polite = Client(server.socket_path), Client(server.socket_path)
    polite.go()
    rude.sock.sendall(noise)
    with pytest.raises((EOFError, ConnectionResetError)):
        rude.take(1)
    assert polite.read(0, 4) == b"base"
    rude.close()
    polite.close()


def test_writes_reach_the_image_and_not_its_parent(
    server: Server, client: Client, image: Path
) -> None:
    assert client.write(1 << 20, b"leaf" * 128, nbd.FLAG_FUA) == 0
    assert client.write((1 << 20) + 512, b"more" * 128) == 0
    assert client.call(nbd.FLUSH, 0, 0) == 0
    client.send(nbd.DISC, 0, 0)
    server.stop()
    with vhd.open_chain(image) as chain:
        assert chain.read(1 << 20, 1024) == b"leaf" * 128 + b"more" * 128
        assert chain.read(0, 4) == b"base"
    with vhd.open_chain(image.with_name("base.vhd")) as chain:
        assert chain.read(1 << 20, 512) == bytes(512)


def test_flush_is_durable_without_an_end(server: Server, client: Client, image: Path) -> None:
    assert client.write(0, b"durable!" * 64) == 0
    assert client.call(nbd.FLUSH, 0, 0) == 0
    with vhd.open_chain(image) as chain:  # the server still has it open
        assert chain.read(0, 8) == b"durable!"


@pytest.mark.parametrize(
    ("kind", "offset", "length", "error"),
    [
        (nbd.READ, SIZE, 512, 22),
        (nbd.READ, SIZE - 512, 1024, 22),
        (nbd.READ, 1 << 63, 512, 22),
        (nbd.WRITE_ZEROES, SIZE - 512, 1024, 28),
        (nbd.TRIM, SIZE, 512, 28),
        (5, 0, 0, 22),
        (77, 0, 0, 22),
    ],
)
def test_requests_that_cannot_be(
    client: Client, kind: int, offset: int, length: int, error: int
) -> None:
    assert client.call(kind, offset, length) == error
    assert client.read(0, 4) == b"base"


def test_a_write_beyond_the_end(client: Client) -> None:
    assert client.write(SIZE - 512, b"x" * 1024) == 28
    assert client.read(SIZE - 512, 512) == bytes(512)


def test_zeroes_hide_the_parents_data_and_trim_changes_nothing(client: Client) -> None:
    assert client.call(nbd.TRIM, 0, 4096) == 0
    assert client.read(0, 4096) == b"base" * 1024
    assert client.call(nbd.WRITE_ZEROES, 100, 3000) == 0
    assert client.read(0, 4096) == (b"base" * 1024)[:100] + bytes(3000) + (b"base" * 1024)[3100:]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(
    st.lists(
        st.tuples(st.integers(0, SIZE - 1), st.integers(1, 9000), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_any_alignment(client: Client, writes: list[tuple[int, int, int]]) -> None:
    for offset, length, value in writes:
        first = max(0, offset - 700)
        length = min(length, SIZE - offset)
        last = min(SIZE, offset + length + 700)
        before = client.read(first, last - first)
        assert client.write(offset, bytes([value]) * length) == 0
        after = client.read(first, last - first)
        cut = offset - first
        assert after == before[:cut] + bytes([value]) * length + before[cut + length :]


def test_a_request_in_pieces_and_many_at_once(client: Client) -> None:
    head = struct.pack(">IHHQQI", 0x25609513, 0, nbd.WRITE, 0xC00C1E, 8192, 512)
    for byte in head + b"piecemeal"[:8] * 64:
        client.sock.sendall(bytes([byte]))
    assert client.answer() == 0
    for block in range(64):
        client.send(nbd.WRITE, block * 512, 512, bytes([block]) * 512)
    assert [client.answer() for _ in range(64)] == [0] * 64
    assert client.read(0, 64 * 512) == b"".join(bytes([block]) * 512 for block in range(64))


def test_large_requests(client: Client) -> None:
    data = os.urandom(3 << 20)
    assert client.write(1000, data) == 0
    assert client.read(1000, len(data)) == data


def test_a_client_that_does_not_read_holds_up_nobody(server: Server, client: Client) -> None:
    for _ in range(8):
        client.send(nbd.READ, 0, 2 << 20)
    other = Client(server.socket_path)
    other.go()
    assert other.write(0, b"other" * 100) == 0
    for _ in range(8):
        assert client.answer() == 0
        client.take(2 << 20)
    assert client.read(0, 5) == b"other"
    other.close()


def test_pause_waits_and_unpause_opens_what_is_there_now(
    server: Server, client: Client, image: Path
) -> None:
    assert client.write(4096, b"before" * 100) == 0
    server.pause()
    server.pause()  # pausing twice is once
    # A snapshot, as drivers make it: the image becomes a base, another one takes its name.
    image.rename(image.with_name("old.vhd"))
    vhd.snapshot(image, image.with_name("old.vhd"))
    client.send(nbd.READ, 4096, 6)
    client.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        client.sock.recv(1)
    client.sock.settimeout(30)
    server.unpause()
    assert client.answer() == 0
    assert client.take(6) == b"before"
    assert client.write(4096, b"after!") == 0
    assert client.call(nbd.FLUSH, 0, 0) == 0
    with vhd.open_chain(image.with_name("old.vhd")) as chain:
        assert chain.read(4096, 6) == b"before"


def test_unpause_without_an_image_fails_and_can_be_repeated(
    server: Server, client: Client, image: Path
) -> None:
    server.pause()
    image.rename(image.with_name("away.vhd"))
    with pytest.raises(TapdiskFailed):
        server.unpause()
    image.with_name("away.vhd").rename(image)
    server.unpause()
    assert client.read(0, 4) == b"base"


def test_one_server_per_disk(server: Server, client: Client, image: Path) -> None:
    with pytest.raises(TapdiskAlreadyRunning):
        server.start(Export(NAME, str(image), raw=False, writable=True))
    assert client.read(0, 4) == b"base"


def test_an_image_that_cannot_be_opened(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TapdiskFailed, match=r"none\.vhd"):
        server.start(Export(NAME, str(tmp_path / "none.vhd"), raw=False, writable=True))
    assert not server.is_running()


def test_a_changed_block_log_of_a_smaller_disk(server: Server, image: Path) -> None:
    log = image.with_name("small.cbtlog")
    cbt.create(log, SIZE // 2)
    with pytest.raises(TapdiskFailed, match="covers"):
        server.start(Export(NAME, str(image), raw=False, writable=True, log=str(log)))
    assert not server.is_running()


def test_zeroes_beyond_the_announced_length(server: Server, tmp_path: Path) -> None:
    """They would keep every other client waiting."""
    vhd.create(tmp_path / "large.vhd", 2 * nbd.MAX_LENGTH)
    export = Export(NAME, str(tmp_path / "large.vhd"), raw=False, writable=True)
    server.start(export)
    client = Client(server.socket_path)
    client.go()
    assert client.call(nbd.WRITE_ZEROES, 0, nbd.MAX_LENGTH + 512) == 22
    assert client.call(nbd.WRITE_ZEROES, 0, nbd.MAX_LENGTH) == 0
    client.close()


def test_raw_images(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"raw!" * 1024)
    server.start(Export(NAME, str(path), raw=True, writable=True))
    client = Client(server.socket_path)
    assert client.go()[0] == 4096
    assert client.read(4, 4) == b"raw!"
    assert client.write(510, b"over the edge") == 0
    client.close()
    server.stop()
    assert path.read_bytes()[508:524] == b"raover the edge!"[:16]


def test_stop_leaves_no_socket_and_can_be_repeated(server: Server, client: Client) -> None:
    assert os.path.exists(server.socket_path)
    server.stop()
    assert not os.path.exists(server.socket_path)
    server.stop()
    with pytest.raises(EOFError):
        client.take(1)
