"""Sessions: who may call, and for how long."""

from __future__ import annotations

import xmlrpc.client
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from xapi.message import now
from xapi.server import XapiServer
from xapi.testing import MemoryHost, Rig, UnixTransport


def raw(rig: Rig, method: str, *params: object, local: bool = False) -> dict[str, Any]:
    transport = UnixTransport(rig.host.socket) if local else None
    with xmlrpc.client.ServerProxy(rig.server.url, transport) as proxy:
        reply: Any = getattr(proxy, method)(*params)
    assert isinstance(reply, dict)
    return reply


def login(rig: Rig, password: str = "testbed", user: str = "root") -> dict[str, Any]:
    return raw(rig, "session.login_with_password", user, password)


@pytest.mark.parametrize("more", [(), ("1.0",), ("1.0", "a test")])
def test_login_and_logout(rig: Rig, more: tuple[str, ...]) -> None:
    session = raw(rig, "session.login_with_password", "root", "testbed", *more)["Value"]
    assert raw(rig, "session.get_this_host", session, session)["Value"] == rig.server.xapi.host
    assert raw(rig, "session.logout", session) == {"Status": "Success", "Value": ""}
    assert raw(rig, "pool.get_all", session)["ErrorDescription"] == ["SESSION_INVALID", session]
    assert raw(rig, "session.logout", session)["ErrorDescription"] == ["SESSION_INVALID", session]


@pytest.mark.parametrize(("user", "password"), [("root", "wrong"), ("else", "testbed"), ("", "")])
def test_wrong_credentials(rig: Rig, user: str, password: str) -> None:
    description = raw(rig, "session.login_with_password", user, password)["ErrorDescription"]
    assert description[:2] == ["SESSION_AUTHENTICATION_FAILED", user]


def test_the_unix_socket_takes_any_password(rig: Rig) -> None:
    reply = raw(rig, "session.login_with_password", "", "", local=True)
    assert reply["Status"] == "Success"
    assert (rig.host.socket.stat().st_mode & 0o777) == 0o600


def test_local_login(rig: Rig) -> None:
    reply = raw(rig, "session.slave_local_login_with_password", "root", "testbed")
    session = reply["Value"]
    assert raw(rig, "pool.get_all", session)["Status"] == "Success"
    assert raw(rig, "session.local_logout", session) == {"Status": "Success", "Value": ""}
    assert raw(rig, "pool.get_all", session)["ErrorDescription"] == ["SESSION_INVALID", session]
    wrong = raw(rig, "session.slave_local_login_with_password", "root", "wrong")
    assert wrong["ErrorDescription"][:2] == ["SESSION_AUTHENTICATION_FAILED", "root"]


def test_getters(rig: Rig) -> None:
    session = login(rig)["Value"]
    record = raw(rig, "session.get_record", session, session)["Value"]
    assert record["this_host"] == rig.server.xapi.host
    assert record["is_local_superuser"] is True
    assert "local_root" not in record
    for field in ("uuid", "this_user", "last_active", "pool", "originator"):
        assert raw(rig, f"session.get_{field}", session, session)["Value"] == record[field]


# -- the password


def test_another_password(rig: Rig) -> None:
    rig.api.session.change_password("testbed", "another")
    assert login(rig)["ErrorDescription"][0] == "SESSION_AUTHENTICATION_FAILED"
    assert login(rig, "another")["Status"] == "Success"
    assert rig.api.pool.get_all()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("wrong", "another", "SESSION_AUTHENTICATION_FAILED"),
        ("testbed", "", "CHANGE_PASSWORD_REJECTED"),
    ],
)
def test_passwords_that_are_refused(rig: Rig, old: str, new: str, code: str) -> None:
    with pytest.raises(XenAPI.Failure) as error:
        rig.api.session.change_password(old, new)
    assert error.value.details[0] == code
    assert login(rig)["Status"] == "Success"


def test_another_password_outlives_the_server(tmp_path: Path) -> None:
    host = MemoryHost({}, tmp_path / "xapi")
    for password, refused in (("testbed", "another"), ("another", "testbed")):
        server = XapiServer(host, state=tmp_path / "state")
        server.start()
        session = XenAPI.Session(server.url)
        with pytest.raises(XenAPI.Failure):
            session.login_with_password("root", refused)
        session.login_with_password("root", password)
        if password == "testbed":
            session.xenapi.session.change_password("testbed", "another")
        session("close")()
        server.stop()


# -- the end of a session


def test_sessions_that_nobody_uses_end(rig: Rig) -> None:
    session = login(rig)["Value"]
    rig.server.xapi.sessions.expire(now() + timedelta(hours=23))
    assert raw(rig, "pool.get_all", session)["Status"] == "Success"
    rig.server.xapi.sessions.expire(now() + timedelta(hours=25))
    assert raw(rig, "pool.get_all", session)["ErrorDescription"] == ["SESSION_INVALID", session]


def test_too_many_sessions(rig: Rig) -> None:
    db = rig.server.xapi.db
    old = db.create("session", last_active=now() - timedelta(hours=1))
    driver = db.create("session", storage_of="OpaqueRef:sr", last_active=now() - timedelta(hours=2))
    for _ in range(500):
        db.create("session", last_active=now())
    rig.server.xapi.sessions.expire(now())
    assert not db.exists("session", old)
    assert db.exists("session", driver)
    assert len(db.refs("session")) == 501


def test_subjects(rig: Rig) -> None:
    """There is no directory of users: nobody can be logged in from one."""
    db = rig.server.xapi.db
    assert rig.api.session.get_all_subject_identifiers() == []
    session = db.create("session", auth_user_sid="S-1", last_active=now())
    assert rig.api.session.get_all_subject_identifiers() == ["S-1"]
    rig.api.session.logout_subject_identifier("")
    rig.api.session.logout_subject_identifier("S-1")
    assert not db.exists("session", session)
