"""The PyPI module XenAPI against the toolstack: logging in and out, and all shapes of values."""

from __future__ import annotations

import http.client
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import XenAPI

from xapi.testing import Rig, UnixTransport

NULL = "OpaqueRef:NULL"


@pytest.fixture
def session(rig: Rig) -> Iterator[Any]:
    session = XenAPI.Session(rig.server.url)
    session.xenapi.login_with_password("root", "testbed", "2.23", "a test")
    yield session
    session("close")()


def test_logging_in(rig: Rig, session: Any) -> None:
    for more, originator in (((), ""), (("1.0",), ""), (("1.0", "a test"), "a test")):
        other = XenAPI.Session(rig.server.url)
        other.login_with_password("root", "testbed", *more)
        assert other.xenapi.session.get_originator(other.handle) == originator
        assert other.handle != session.handle
        other.xenapi.session.logout()
        assert other.handle is None
        other("close")()
    with pytest.raises(XenAPI.Failure) as wrong:
        session.login_with_password("root", "wrong")
    assert wrong.value.details[:2] == ["SESSION_AUTHENTICATION_FAILED", "root"]


def test_the_version_is_looked_up(session: Any) -> None:
    assert session.API_version == "2.23"


def test_local_root_needs_no_password(rig: Rig) -> None:
    session = XenAPI.Session("http://localhost/", UnixTransport(rig.host.socket))
    session.login_with_password("", "")
    assert session.xenapi.pool.get_all()
    session("close")()


def test_slave_local_login(rig: Rig) -> None:
    session = XenAPI.Session(rig.server.url)
    session.slave_local_login_with_password("root", "testbed")
    assert session.xenapi.host.get_all()
    session.logout()
    session("close")()


def test_a_session_that_ended_is_renewed(rig: Rig, session: Any) -> None:
    old = session.handle
    rig.api.session.get_uuid(old)
    xmlrpc_session = xmlrpc.client.ServerProxy(rig.server.url)
    assert xmlrpc_session.session.logout(old) == {"Status": "Success", "Value": ""}
    xmlrpc_session("close")()
    assert session.xenapi.host.get_all()
    assert session.handle != old


def test_without_credentials_it_gives_up(rig: Rig) -> None:
    stranger = XenAPI.Session(rig.server.url)
    with pytest.raises(xmlrpc.client.Fault) as fault:
        stranger.xenapi.host.get_all()
    assert fault.value.faultCode == 401
    stranger("close")()


def test_shapes(rig: Rig, session: Any) -> None:
    vdi = rig.vdi(
        rig.sr(),
        name_label="\u20ac <&> \t\n",
        other_config={"": "empty", "a b": "<x/>", "\u20ac": "\u20ac"},
        tags=["one", "two"],
        xenstore_data={},
    )
    record = session.xenapi.VDI.get_record(vdi)
    assert record["name_label"] == "\u20ac <&> \t\n"
    assert record["virtual_size"] == str(1 << 20)
    assert record["managed"] is True
    assert record["is_a_snapshot"] is False
    assert record["snapshot_of"] == record["parent"] == NULL
    assert record["other_config"] == {"": "empty", "a b": "<x/>", "\u20ac": "\u20ac"}
    assert record["tags"] == ["one", "two"]
    assert record["xenstore_data"] == record["current_operations"] == {}
    assert record["snapshot_time"] == xmlrpc.client.DateTime("19700101T00:00:00Z")
    assert record["type"] == "user"
    assert datetime.strptime(record["snapshot_time"].value, "%Y%m%dT%H:%M:%SZ")
    assert session.xenapi.VDI.set_other_config(vdi, {}) == ""
    assert session.xenapi.VDI.get_all_records()[vdi]["other_config"] == {}
    progress = session.xenapi.task.get_progress(session.xenapi.task.create("", ""))
    assert (type(progress), progress) == (float, 0.0)


def test_numbers_may_be_sent_in_any_way(rig: Rig, session: Any) -> None:
    vdi = rig.vdi(rig.sr())
    for size in ("2097152", 2097152, 2097152.0):
        session.xenapi.VDI.resize(vdi, size)
    assert session.xenapi.VDI.get_virtual_size(vdi) == "2097152"


def test_failures(session: Any) -> None:
    for method, params, details in (
        (session.xenapi.VDI.get_uuid, ("OpaqueRef:x",), ["HANDLE_INVALID", "VDI", "OpaqueRef:x"]),
        (session.xenapi.VDI.get_by_uuid, ("x",), ["UUID_INVALID", "VDI", "x"]),
        (session.xenapi.No.such, (), ["MESSAGE_METHOD_UNKNOWN", "No.such"]),
        (session.xenapi.VDI.get_uuid, (), ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VDI.get_uuid"]),
    ):
        with pytest.raises(XenAPI.Failure) as failure:
            method(*params)
        assert failure.value.details[: len(details)] == details


def test_in_the_background(rig: Rig, session: Any) -> None:
    vdi = rig.vdi(rig.sr())
    task = session.xenapi.Async.VDI.snapshot(vdi)
    token = ""
    while session.xenapi.task.get_status(task) == "pending":
        token = session.xenapi.event_from(["task/" + task], token, 10)["token"]
    record = session.xenapi.task.get_record(task)
    assert (record["status"], record["progress"]) == ("success", 1.0)
    snapshot = record["result"].removeprefix("<value>").removesuffix("</value>")
    assert session.xenapi.VDI.get_snapshot_of(snapshot) == vdi


def test_events_have_real_numbers_where_clients_need_them(session: Any) -> None:
    batch = session.xenapi.event_from(["host", "pool"], "", 30)
    assert batch["valid_ref_counts"] == {"host": 1, "pool": 1}
    assert {event["operation"] for event in batch["events"]} == {"add"}
    assert all(event["id"].isdecimal() for event in batch["events"])
    [pool] = session.xenapi.pool.get_all()
    session.xenapi.pool.set_name_label(pool, "events")
    [event] = session.xenapi.event_from(["pool"], batch["token"], 30.0)["events"]
    assert (event["class"], event["operation"], event["ref"]) == ("pool", "mod", pool)
    assert event["snapshot"]["name_label"] == "events"


def test_methods_are_listed_without_an_envelope(rig: Rig) -> None:
    proxy = xmlrpc.client.ServerProxy(rig.server.url)
    listed: Any = proxy.system.listMethods()
    assert {"VDI.revert", "VM.revert", "event.from"} <= set(listed)
    proxy("close")()


def test_a_broken_connection_is_opened_anew(rig: Rig, session: Any) -> None:
    connection = session("transport")._connection[1]
    assert isinstance(connection, http.client.HTTPConnection)
    connection.sock.shutdown(2)
    assert session.xenapi.host.get_all() == rig.api.host.get_all()
