"""HTTP: methods, paths, content types, limits, connections, and calls that wait."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import xmlrpc.client
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from xapi.testing import Rig, serve
from xapi.web import REQUEST_LIMIT

LIST = xmlrpc.client.dumps((), "system.listMethods").encode()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(Path(tmp_path_factory.mktemp("http"))) as rig:
        yield rig


@pytest.fixture
def connection(rig: Rig) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(rig.server.url).netloc, timeout=20)
    yield connection
    connection.close()


def send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b""
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def call(
    connection: http.client.HTTPConnection, method: str, *params: object, **more: object
) -> Any:
    request = {"method": method, "params": params, "id": 1} | more
    status, headers, body = send(connection, "POST", "/jsonrpc", json.dumps(request).encode())
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    return json.loads(body)


@pytest.mark.parametrize("path", ["/", "/RPC2", "/xmlrpc", "/any/where?x=y", "/json"])
def test_any_path_takes_xml(connection: http.client.HTTPConnection, path: str) -> None:
    status, headers, body = send(connection, "POST", path, LIST)
    assert (status, headers["Content-Type"]) == (200, "text/xml")
    assert headers["Access-Control-Allow-Origin"] == "*"
    [methods], _ = xmlrpc.client.loads(body)
    assert "VDI.revert" in methods  # type: ignore[operator]


def test_jsonrpc_takes_both_versions(connection: http.client.HTTPConnection) -> None:
    for version in ({}, {"jsonrpc": "2.0"}):
        assert "VDI.revert" in call(connection, "system.listMethods", **version)["result"]
    session = call(connection, "session.login_with_password", "root", "testbed")["result"]
    old = call(connection, "VDI.get_uuid", session, "OpaqueRef:x")
    assert old == {"result": None, "error": ["HANDLE_INVALID", "VDI", "OpaqueRef:x"], "id": 1}
    new = call(connection, "VDI.get_uuid", session, "OpaqueRef:x", jsonrpc="2.0", id="y")
    assert new == {
        "jsonrpc": "2.0",
        "error": {"code": 1, "message": "HANDLE_INVALID", "data": ["VDI", "OpaqueRef:x"]},
        "id": "y",
    }


def test_both_wires_say_the_same(rig: Rig, connection: http.client.HTTPConnection) -> None:
    rig.vdi(rig.sr())
    session = call(connection, "session.login_with_password", "root", "testbed")["result"]
    by_json = call(connection, "VDI.get_all_records", session)["result"]
    by_xml = rig.api.VDI.get_all_records()
    assert by_json.keys() == by_xml.keys()
    for ref, record in by_xml.items():
        assert by_json[ref].keys() == record.keys()
        assert by_json[ref]["virtual_size"] == int(record["virtual_size"])
        assert by_json[ref]["snapshot_time"] == record["snapshot_time"].value
        assert by_json[ref]["managed"] is record["managed"] is True
        assert by_json[ref]["sm_config"] == record["sm_config"]


def test_every_call_but_a_login_needs_a_session(
    rig: Rig, connection: http.client.HTTPConnection
) -> None:
    for message in rig.server.dispatcher.messages:
        if message.session:
            arguments = ("OpaqueRef:x", *("" for _ in message.params))
            error = call(connection, message.name, *arguments)["error"]
            assert error == ["SESSION_INVALID", "OpaqueRef:x"], message.name
    free = {message.name for message in rig.server.dispatcher.messages if not message.session}
    assert free == {
        "session.login_with_password",
        "session.slave_local_login_with_password",
    }


def test_garbage_gets_500_and_html(connection: http.client.HTTPConnection) -> None:
    batch = b'[{"method": "system.listMethods", "params": [], "id": 1}]'
    for path, garbage in (("/", b"<methodCall><garbled"), ("/", b""), ("/jsonrpc", batch)):
        status, headers, body = send(connection, "POST", path, garbage)
        assert (status, headers["Content-Type"]) == (500, "text/html")
        assert b"Traceback" not in body


def test_a_large_request_is_refused(connection: http.client.HTTPConnection) -> None:
    padding = b" " * (REQUEST_LIMIT - len(LIST))
    assert send(connection, "POST", "/", LIST + padding)[0] == 200
    assert send(connection, "POST", "/", LIST + padding + b" ")[0] == 500
    assert send(connection, "POST", "/", LIST)[0] == 200


@pytest.mark.parametrize(
    ("length", "sent"), [("-5", 1), ("x", 1), ("1 0", 1), (str(1 << 60), 1 << 20)]
)
def test_odd_lengths_are_refused(rig: Rig, length: str, sent: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(rig.server.url).netloc, timeout=20)
    with closing(connection):
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", length)
        connection.endheaders(b"x" * sent)
        assert connection.getresponse().status in (400, 500)


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
def test_endless_headers_are_refused(rig: Rig, head: bytes) -> None:
    """More than 64 KiB of them are not even listened to."""
    url = urlsplit(rig.server.url)
    with socket.create_connection((url.hostname, url.port), timeout=20) as client:
        client.sendall(head + b"x" * (65 << 10))
        assert client.recv(100).startswith(b"HTTP/1.1 4")


def test_long_headers_are_taken(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/", LIST, {"Cookie": "x" * (60 << 10)})
    assert connection.getresponse().status == 200


def test_a_client_that_does_not_take_its_answer_does_not_keep_the_server(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        vdi = rig.vdi(rig.sr(), virtual_size=str(1 << 30))
        url = urlsplit(rig.server.url)
        client = socket.create_connection((url.hostname, url.port))
        query = f"session_id={rig.session()}&vdi={vdi}"
        client.sendall(f"GET /export_raw_vdi?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        rig.close()
        stopping = threading.Thread(target=rig.server.stop, daemon=True)
        stopping.start()
        stopping.join(20)
        ended = not stopping.is_alive()
        client.close()
        stopping.join()
        assert ended


def test_a_call_without_a_length_is_refused(rig: Rig) -> None:
    connection = http.client.HTTPConnection(urlsplit(rig.server.url).netloc, timeout=20)
    with closing(connection):
        connection.request("POST", "/", iter([LIST]), encode_chunked=True)
        assert connection.getresponse().status == 500


def test_the_other_methods(connection: http.client.HTTPConnection) -> None:
    status, headers, body = send(connection, "GET", "/")
    assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (
        200,
        "text/html",
        len(body),
    )
    status, head, nothing = send(connection, "HEAD", "/")
    assert (status, head["Content-Length"], nothing) == (200, headers["Content-Length"], b"")
    assert send(connection, "GET", "/there/is/none")[0] == 404
    assert send(connection, "PUT", "/there/is/none")[0] == 501
    assert send(connection, "DELETE", "/")[0] == 501
    status, headers, _ = send(connection, "OPTIONS", "/jsonrpc")
    assert (status, headers["Access-Control-Allow-Headers"]) == (200, "X-Requested-With")


def test_a_connection_serves_many_calls(connection: http.client.HTTPConnection) -> None:
    for _ in range(3):
        connection.request("POST", "/", LIST)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        assert not response.will_close


def test_only_loopback_is_bound(rig: Rig) -> None:
    assert urlsplit(rig.server.url).hostname == "127.0.0.1"


def test_calls_that_wait_leave_room_for_others(tmp_path: Path) -> None:
    waiting, gate = threading.Semaphore(0), threading.Event()

    def wait(_function: str, _args: Mapping[str, str]) -> str:
        waiting.release()
        return str(gate.wait(60))

    with serve(tmp_path, plugins={"wait": wait}) as rig:
        [host] = rig.api.host.get_all()
        with ThreadPoolExecutor(40) as pool:
            calls = [
                pool.submit(rig.login().host.call_plugin, host, "wait", "", {}) for _ in range(40)
            ]
            for _ in calls:
                assert waiting.acquire(timeout=60)
            assert rig.api.host.get_all() == [host]
            gate.set()
            assert [call.result() for call in calls] == ["True"] * 40


def test_clients_that_say_nothing_leave_room_for_others(rig: Rig) -> None:
    url = urlsplit(rig.server.url)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection((url.hostname, url.port)))
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        with closing(connection):
            assert send(connection, "POST", "/", LIST)[0] == 200
