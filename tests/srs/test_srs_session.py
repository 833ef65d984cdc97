"""XenAPI over a unix socket: connections, answers, refusals."""

import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srs.errors import APISession
from srs.session import Failure, Session, ignoring


def success(value: Any) -> bytes:
    return http({"Status": "Success", "Value": value})


def failure(*details: str) -> bytes:
    return http({"Status": "Failure", "ErrorDescription": list(details)})


def http(answer: Any, status: str = "200 OK") -> bytes:
    body = xmlrpc.client.dumps((answer,), methodresponse=True).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Toolstack:
    """Gives prepared answers, one list per connection; keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads: list[threading.Thread] = []

    def answer(self, *connections: list[bytes]) -> None:
        thread = threading.Thread(target=self._serve, args=(connections,))
        thread.start()
        self._threads.append(thread)

    def _serve(self, connections: tuple[list[bytes], ...]) -> None:
        for answers in connections:
            connection, _ = self._listener.accept()
            with connection:
                for answer in answers:
                    self.requests.append(self._request(connection))
                    connection.sendall(answer)

    def _request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"</methodCall>" not in data:
            data += connection.recv(1 << 16)
        return data

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def calls(self) -> list[tuple[str, tuple[Any, ...]]]:
        found = []
        for request in self.requests:
            params, method = xmlrpc.client.loads(request.partition(b"\r\n\r\n")[2].decode())
            found.append((str(method), params))
        return found


@pytest.fixture
def toolstack(tmp_path: Path) -> Iterator[Toolstack]:
    toolstack = Toolstack(tmp_path / "xapi")
    yield toolstack
    toolstack.close()


def test_calls_share_a_connection(toolstack: Toolstack) -> None:
    toolstack.answer([success("17"), success({"uuid": "u"})])
    session = Session("OpaqueRef:s", "OpaqueRef:task", path=toolstack.path)
    assert session.call("SR.get_virtual_allocation", "OpaqueRef:sr") == "17"
    assert session.vdi_record("OpaqueRef:v") == {"uuid": "u"}
    session.close()
    assert toolstack.calls() == [
        ("SR.get_virtual_allocation", ("OpaqueRef:s", "OpaqueRef:sr")),
        ("VDI.get_record", ("OpaqueRef:s", "OpaqueRef:v")),
    ]
    assert b"\r\nSubtask-of: OpaqueRef:task\r\n" in toolstack.requests[0]


def test_a_closed_idle_connection_is_opened_again(toolstack: Toolstack) -> None:
    toolstack.answer([success("1")], [success("2")])
    session = Session("s", path=toolstack.path)
    assert session.call("SR.get_uuid", "a") == "1"
    assert session.call("SR.get_uuid", "b") == "2"
    session.close()
    assert [params[1] for _, params in toolstack.calls()] == ["a", "b"]


def test_a_long_answer(toolstack: Toolstack) -> None:
    records = {f"OpaqueRef:{n}": {"uuid": "u" * 100} for n in range(3000)}
    toolstack.answer([success(records)])
    session = Session("s", path=toolstack.path)
    assert session.vdi_records_of("OpaqueRef:sr") == records
    session.close()
    assert toolstack.calls()[0][1][1] == 'field "SR" = "OpaqueRef:sr"'


def test_refusals_carry_their_details(toolstack: Toolstack) -> None:
    toolstack.answer([failure("HANDLE_INVALID", "VDI", "x"), failure("MAP_DUPLICATE_KEY", "VDI")])
    session = Session("s", path=toolstack.path)
    with pytest.raises(Failure, match=r"VDI\.get_record: HANDLE_INVALID, VDI, x") as caught:
        session.vdi_record("x")
    assert (caught.value.error, caught.value.details[2]) == ("HANDLE_INVALID", "x")
    add = ("VDI.add_to_sm_config", "v", "paused", "true")
    assert not ignoring(("MAP_DUPLICATE_KEY",), lambda: session.call(*add))
    session.close()


@pytest.mark.parametrize(
    "answer",
    [
        http({}, "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<xml",
        b"HTTP/1.1 200 OK\r\n\r\n",
        http("no struct"),
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n<methodResponse>",
    ],
)
def test_what_is_no_answer(toolstack: Toolstack, answer: bytes) -> None:
    toolstack.answer([answer])
    session = Session("s", path=toolstack.path)
    with pytest.raises(APISession):
        session.call("SR.get_uuid", "x")
    session.close()


def test_no_toolstack(tmp_path: Path) -> None:
    with pytest.raises(APISession, match="nobody"):
        Session("s", path=str(tmp_path / "nobody")).call("SR.get_uuid", "x")
