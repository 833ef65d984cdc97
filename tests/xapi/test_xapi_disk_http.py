"""Disks over HTTP: export and import, raw and VHD, tasks, credentials, refusals."""

from __future__ import annotations

import http.client
import io
import random
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest

from xapi.testing import Rig, serve
from xapi.testing.memory import Fault
from xapi.vhd_stream import BLOCK, Image, Reader

MIB = 1 << 20
SIZE = 2 * BLOCK + MIB
NOISE = random.Random(4).randbytes(BLOCK)
#: Data, zeros, data; the last block is short.
CONTENT = NOISE + bytes(BLOCK) + NOISE[:MIB]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Web:
    """HTTP requests to a rig, in a session of its own."""

    rig: Rig
    session: str
    sr: str
    made: list[str] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.rig.server.url).netloc, timeout=20)

    def dial(self) -> socket.socket:
        url = urlsplit(self.rig.server.url)
        return socket.create_connection((url.hostname, url.port), timeout=20)

    def send(
        self, method: str, path: str, body: Any = None, headers: Any = None, **query: str
    ) -> Reply:
        with closing(self.connect()) as connection:
            connection.request(method, f"{path}?{urlencode(query)}", body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def get(self, **query: str) -> Reply:
        return self.send("GET", "/export_raw_vdi/", session_id=self.session, **query)

    def put(self, body: Any, **query: str) -> Reply:
        return self.send("PUT", "/import_raw_vdi/", body, session_id=self.session, **query)

    def vdi(self, content: bytes = b"", size: int = SIZE) -> str:
        vdi = self.rig.vdi(self.sr, virtual_size=str(size))
        self.disk(vdi)[:] = content
        return vdi

    def disk(self, vdi: str) -> bytearray:
        return self.rig.host.disk(self.rig.api.VDI.get_uuid(vdi)).content

    def content(self, vdi: str, size: int = SIZE) -> bytes:
        return bytes(self.disk(vdi)).ljust(size, b"\0")

    def task(self, reply: Reply) -> Any:
        return self.rig.api.task.get_record(reply.headers["task-id"])

    def nothing_is_plugged(self) -> bool:
        return not self.rig.host.devices and not self.rig.api.VBD.get_all()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serve(tmp_path) as rig:
        yield Web(rig, rig.session(), rig.sr())


def vhd(content: bytes, blocks: list[int], parent: UUID | None = None) -> bytes:
    image = Image(UUID(int=5), len(content), blocks, parent)
    pieces = [image.block(content[n * BLOCK : (n + 1) * BLOCK]) for n in blocks]
    return b"".join([image.head(), *pieces, image.foot()])


# -- export


def test_a_raw_export_is_the_disk(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    uuid = web.rig.api.VDI.get_uuid(vdi)
    for name in (vdi, uuid):
        reply = web.get(vdi=name)
        assert reply.status == 200
        assert reply.body == CONTENT
        assert reply.headers["Content-Type"] == "application/octet-stream"
        assert reply.headers["Content-Disposition"] == f'attachment; filename="{uuid}.raw"'
    task = web.task(reply)
    assert (task["status"], task["progress"]) == ("success", 1.0)
    assert web.nothing_is_plugged()


def test_a_vhd_export_holds_the_blocks_that_are_used(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    reply = web.get(vdi=vdi, format="vhd")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/vhd")
    assert len(reply.body) == int(reply.headers["Content-Length"])
    reader = Reader(io.BytesIO(reply.body).read)
    assert (reader.size, list(reader.missing), reader.differencing) == (SIZE, [1], False)
    spans = {span.offset: span.data for span in reader.spans()}
    assert spans == {0: NOISE, 2 * BLOCK: NOISE[:MIB]}


def test_a_delta_holds_what_differs_from_its_base(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    snapshot = web.rig.api.VDI.snapshot(vdi)
    web.disk(vdi)[BLOCK] = 1
    web.disk(vdi)[2 * BLOCK : 2 * BLOCK + MIB] = bytes(MIB)
    reply = web.get(vdi=vdi, format="vhd", base=snapshot)
    reader = Reader(io.BytesIO(reply.body).read)
    assert (list(reader.missing), reader.differencing) == ([0], True)
    assert UUID(web.rig.api.VDI.get_uuid(snapshot)).bytes in reply.body[:2048]
    assert [span.offset for span in reader.spans()] == [BLOCK, 2 * BLOCK]
    assert web.nothing_is_plugged()


def test_a_snapshot_can_be_exported_while_its_disk_is_written_to(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    snapshot = web.rig.api.VDI.snapshot(vdi)
    vbd = web.rig.vbd(vdi)
    web.rig.api.VBD.plug(vbd)
    assert web.get(vdi=snapshot).body == CONTENT
    refused = web.get(vdi=vdi)
    assert refused.status == 500
    assert b"VDI_IN_USE" in refused.body


def test_a_client_that_goes_away_leaves_nothing_plugged(web: Web) -> None:
    task = web.rig.api.task.create("export", "")
    vdi = web.vdi(size=1 << 30)
    with web.dial() as client:
        query = urlencode({"vdi": vdi, "session_id": web.session, "task_id": task})
        client.sendall(f"GET /export_raw_vdi?{query} HTTP/1.0\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert web.rig.host.devices
    ended(web, task)
    assert web.rig.api.task.get_status(task) == "failure"
    assert web.nothing_is_plugged()


def ended(web: Web, task: str) -> None:
    """Wait until a task is over: each call gives the server its turn."""
    for _ in range(100_000):
        if web.rig.api.task.get_status(task) not in ("pending", "cancelling"):
            return
    raise AssertionError("the task goes on")


def test_an_export_that_fails_on_its_way_is_cut(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    web.rig.host.faults["read"] = Fault(0, "power is gone")
    task = web.rig.api.task.create("export", "")
    with pytest.raises(http.client.IncompleteRead):
        web.get(vdi=vdi, task_id=task)
    assert web.rig.api.task.get_error_info(task)[0] == "HOST_OFFLINE"
    assert web.nothing_is_plugged()


def test_a_cancelled_export_is_cut(web: Web) -> None:
    task = web.rig.api.task.create("export", "")
    web.rig.api.task.cancel(task)
    with pytest.raises(http.client.IncompleteRead):
        web.get(vdi=web.vdi(CONTENT), task_id=task)
    assert web.rig.api.task.get_status(task) == "cancelled"
    assert web.rig.api.task.get_error_info(task) == ["TASK_CANCELLED", task]


# -- import


def test_a_raw_import_is_the_disk(web: Web) -> None:
    vdi = web.vdi(NOISE)
    task = web.rig.api.task.create("import", "")
    reply = web.put(CONTENT, vdi=vdi, task_id=task)
    assert (reply.status, reply.headers["task-id"]) == (200, task)
    assert web.content(vdi) == CONTENT
    record = web.task(reply)
    assert (record["status"], record["result"]) == ("success", f"<value>{vdi}</value>")
    assert web.nothing_is_plugged()


def test_a_vhd_import_is_the_disk(web: Web) -> None:
    vdi = web.vdi(random.Random(8).randbytes(SIZE))
    assert web.put(vhd(CONTENT, [0, 2]), vdi=vdi, format="vhd").status == 200
    assert web.content(vdi) == CONTENT


def test_a_delta_changes_only_what_it_holds(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    other = random.Random(9).randbytes(SIZE)
    delta = vhd(other, [1], UUID(int=6))
    assert web.put(delta, vdi=vdi, format="vhd").status == 200
    assert web.content(vdi) == CONTENT[:BLOCK] + other[BLOCK : 2 * BLOCK] + CONTENT[2 * BLOCK :]


def test_what_was_exported_is_imported(web: Web) -> None:
    vdi, base, copy = web.vdi(CONTENT), web.vdi(NOISE), web.vdi(NOISE)
    for format_ in ("raw", "vhd"):
        exported = web.get(vdi=vdi, format=format_).body
        assert web.put(exported, vdi=copy, format=format_).status == 200
        assert web.content(copy) == CONTENT
        web.disk(copy)[:] = NOISE
    delta = web.get(vdi=vdi, format="vhd", base=base).body
    assert web.put(delta, vdi=copy, format="vhd").status == 200
    assert web.content(copy) == CONTENT


def test_a_raw_import_may_make_the_vdi(web: Web) -> None:
    reply = web.put(CONTENT[:MIB], sr_id=web.sr)
    vdi = web.task(reply)["result"].removeprefix("<value>").removesuffix("</value>")
    assert web.content(vdi, MIB) == CONTENT[:MIB]
    assert web.rig.api.VDI.get_name_label(vdi) == "Imported VDI"
    uuid = web.rig.api.SR.get_uuid(web.sr)
    assert web.put(b"x" * 512, sr_uuid=uuid).status == 200
    assert len(web.rig.api.VDI.get_all()) == 2
    web.rig.host.faults["write"] = Fault(0, "the disk is full")
    assert web.put(b"x" * 512, sr_uuid=uuid).status == 500
    assert len(web.rig.api.VDI.get_all()) == 2


def test_an_import_stops_at_the_disk_s_end(web: Web) -> None:
    vdi = web.vdi(size=MIB)
    with closing(web.connect()) as connection:
        query = urlencode({"vdi": vdi, "session_id": web.session})
        connection.putrequest("PUT", f"/import_raw_vdi?{query}")
        connection.putheader("Content-Length", str(1 << 50))
        connection.endheaders(NOISE[:MIB])
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    assert web.content(vdi, MIB) == NOISE[:MIB]


def test_a_body_without_a_length_ends_with_the_connection(web: Web) -> None:
    vdi = web.vdi()
    with web.dial() as client:
        query = urlencode({"vdi": vdi, "session_id": web.session})
        client.sendall(f"PUT /import_raw_vdi?{query} HTTP/1.0\r\n\r\n".encode() + CONTENT)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert web.content(vdi) == CONTENT


@pytest.mark.parametrize("length", ["-5", "1_0", "+1"])
def test_a_length_that_is_none_is_refused(web: Web, length: str) -> None:
    vdi = web.vdi(CONTENT)
    with closing(web.connect()) as connection:
        query = urlencode({"vdi": vdi, "session_id": web.session, "format": "vhd"})
        connection.putrequest("PUT", f"/import_raw_vdi?{query}")
        connection.putheader("Content-Length", length)
        connection.endheaders(b"x")
        assert connection.getresponse().status == 400
    assert web.content(vdi) == CONTENT


def test_an_empty_body_changes_nothing(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    tasks = web.rig.api.task.get_all()
    reply = web.put(b"", vdi=vdi, format="vhd")
    assert (reply.status, reply.body) == (200, b"")
    assert web.content(vdi) == CONTENT
    assert web.rig.api.task.get_all() == tasks


@pytest.mark.parametrize(
    ("format_", "body", "code"),
    [
        ("raw", CONTENT[:1000], "VDI_IO_ERROR"),
        ("vhd", vhd(CONTENT, [0, 2])[:-MIB], "VDI_IO_ERROR"),
        ("vhd", CONTENT, "VDI_IO_ERROR"),
        ("vhd", vhd(CONTENT + bytes(512), [0, 2]), "VDI_IO_ERROR"),
    ],
)
def test_a_bad_import_fails_its_task(web: Web, format_: str, body: bytes, code: str) -> None:
    vdi, task = web.vdi(), web.rig.api.task.create("import", "")
    if format_ == "raw":
        with closing(web.connect()) as connection:
            query = urlencode({"vdi": vdi, "session_id": web.session, "task_id": task})
            connection.putrequest("PUT", f"/import_raw_vdi?{query}")
            connection.putheader("Content-Length", str(SIZE))
            connection.endheaders(body)
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.getresponse().status == 500
    else:
        assert web.put(body, vdi=vdi, format=format_, task_id=task).status == 500
    assert web.rig.api.task.get_status(task) == "failure"
    assert web.rig.api.task.get_error_info(task)[0] == code
    assert web.nothing_is_plugged()


# -- who may, and what is refused


def test_credentials(web: Web) -> None:
    vdi = web.vdi(CONTENT)
    basic = {"Authorization": "Basic " + b64encode(b"root:testbed").decode()}
    cookie = {"Cookie": f"session_id={web.session}"}
    for headers in (basic, cookie):
        assert web.send("GET", "/export_raw_vdi", headers=headers, vdi=vdi).body == CONTENT
    wrong = {"Authorization": "Basic " + b64encode(b"root:wrong").decode()}
    garbled = {"Authorization": "Basic ***"}
    for headers in ({}, wrong, garbled, {"Cookie": "session_id=OpaqueRef:x"}):
        reply = web.send("GET", "/export_raw_vdi", headers=headers, vdi=vdi)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Basic realm="XenAPI"')
        assert web.send("PUT", "/import_raw_vdi", b"", headers=headers, vdi=vdi).status == 401
    sessions = web.rig.api.VDI.get_all()  # still works: nobody else's session was closed
    assert sessions == [vdi]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"vdi": "OpaqueRef:none"}, 500),
        ({"vdi": "VDI", "format": "qcow2"}, 404),
        ({"vdi": "VDI", "task_id": "OpaqueRef:none"}, 404),
        ({"vdi": "VDI", "format": "vhd", "base": "none"}, 500),
    ],
)
def test_exports_that_are_refused(web: Web, query: dict[str, str], status: int) -> None:
    vdi = web.vdi(CONTENT)
    assert web.get(**{key: value.replace("VDI", vdi) for key, value in query.items()}).status == (
        status
    )
    assert web.nothing_is_plugged()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"sr_uuid": "none"}, 500),
        ({"sr_id": "OpaqueRef:none"}, 500),
        ({"sr_id": "SR", "format": "vhd"}, 400),
        ({"sr_id": "SR", "chunked": "true"}, 400),
        ({"sr_id": "SR", "format": "tar"}, 404),
    ],
)
def test_imports_that_are_refused(web: Web, query: dict[str, str], status: int) -> None:
    task = web.rig.api.task.create("import", "")
    named = {key: value.replace("SR", web.sr) for key, value in query.items()}
    assert web.put(CONTENT, task_id=task, **named).status == status
    assert web.rig.api.task.get_status(task) == "failure"
    assert not web.rig.api.VDI.get_all()
