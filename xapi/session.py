"""Sessions: who may call, and what a storage driver may do besides."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from xapi.database import Database
from xapi.datatypes import NULL, Basic, Value
from xapi.errors import XenAPIError, permission_denied
from xapi.message import Call, Message, Param, now

#: A session that nobody has used for so long ends, and the least active of too many.
_IDLE = timedelta(hours=24)
_MOST = 500


class Sessions:
    """The sessions of one server. Over TCP, root's password opens one; locally, nothing."""

    def __init__(self, db: Database, password: str) -> None:
        self._db = db
        self._password = password

    def login(self, host: str, user: str, password: str, originator: str, *, local: bool) -> str:
        """A new session on `host`.

        Raises:
            XenAPIError: SESSION_AUTHENTICATION_FAILED [user, text].
        """
        if not local:
            self._authenticate(user, password)
        self.expire(now())
        return self._open(host, local_root=local, originator=originator)

    def change_password(self, old: str, new: str) -> None:
        """Another password for root; sessions that are open stay so.

        Raises:
            XenAPIError: SESSION_AUTHENTICATION_FAILED [user, text], CHANGE_PASSWORD_REJECTED
                [text] where the new one is empty.
        """
        self._authenticate("root", old)
        if not new:
            raise XenAPIError("CHANGE_PASSWORD_REJECTED", ("The password is empty.",))
        salt = os.urandom(16)
        [pool] = self._db.refs("pool")
        self._db.put("pool", pool, root_password=f"{salt.hex()} {_digest(new, salt)}")

    def expire(self, moment: datetime) -> None:
        """End sessions that were given up, and all but the most active ones of clients."""
        with self._db.transaction():
            clients = [
                (self._db.get("session", session, "last_active"), session)
                for session in self._db.find("session", storage_of=NULL)
            ]
            clients.sort(reverse=True)
            for index, (last_active, session) in enumerate(clients):
                if index >= _MOST or moment - last_active > _IDLE:
                    self.close(session)

    def check(self, session: str) -> None:
        """Raise SESSION_INVALID unless the session is open; note that it was used."""
        with self._db.lock:
            if not self._db.exists("session", session):
                raise XenAPIError("SESSION_INVALID", (session,))
            self._db.put("session", session, last_active=now())

    def close(self, session: str) -> None:
        """End a session."""
        self._db.destroy("session", session)

    @contextmanager
    def of_driver(self, host: str, sr: str) -> Iterator[str]:
        """A session for one run of a storage driver, with rights on the records of `sr`."""
        session = self._open(host, storage_of=sr, originator="SM")
        if sr != NULL:
            self._db.put("session", session, other_config={"_sm_session": sr})
        try:
            yield session
        finally:
            with self._db.lock:
                # A driver may have logged out by itself.
                if self._db.exists("session", session):
                    self.close(session)
                self._db.changed.notify_all()

    def with_drivers(self) -> frozenset[str]:
        """The SRs that drivers are working on, as far as they need to be told of one."""
        with self._db.lock:
            sessions = self._db.refs("session")
            return frozenset(
                self._db.get("session", session, "storage_of") for session in sessions
            ) - {NULL}

    def require_storage_access(self, session: str, sr: str) -> None:
        """Let pass local root and the driver that is working on `sr`.

        Raises:
            XenAPIError: PERMISSION_DENIED [""].
        """
        with self._db.lock:
            local_root: bool = self._db.get("session", session, "local_root")
            storage_of: str = self._db.get("session", session, "storage_of")
        if not local_root and (sr == NULL or storage_of != sr):
            raise permission_denied()

    def _authenticate(self, user: str, password: str) -> None:
        [pool] = self._db.refs("pool")
        salt, _, digest = str(self._db.get("pool", pool, "root_password")).partition(" ")
        given, right = password, self._password
        if digest:
            given, right = _digest(password, bytes.fromhex(salt)), digest
        if user != "root" or not hmac.compare_digest(given.encode(), right.encode()):
            raise XenAPIError(
                "SESSION_AUTHENTICATION_FAILED", (user, "wrong user name or password")
            )

    def _open(
        self, host: str, *, local_root: bool = False, storage_of: str = NULL, originator: str
    ) -> str:
        return self._db.create(
            "session",
            this_host=host,
            last_active=now(),
            validation_time=now(),
            is_local_superuser=True,
            auth_user_name="root",
            originator=originator,
            local_root=local_root,
            storage_of=storage_of,
        )


def _digest(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << 12, r=8, p=1).hex()


def _login(call: Call, user: str, password: str, _version: str, originator: str) -> str:
    xapi = call.xapi
    return xapi.sessions.login(xapi.host, user, password, originator, local=call.local)


def _local_login(call: Call, user: str, password: str) -> str:
    return _login(call, user, password, "", "")


def _logout(call: Call) -> str:
    call.xapi.sessions.close(call.session)
    return ""


def _change_password(call: Call, old: str, new: str) -> str:
    call.xapi.sessions.change_password(old, new)
    return ""


def _subject_identifiers(call: Call) -> tuple[str, ...]:
    """Users of a directory who are logged in. There is no directory here, and root is in none."""
    db = call.xapi.db
    with db.lock:
        sids = {db.get("session", session, "auth_user_sid") for session in db.refs("session")}
    return tuple(sorted(sids - {""}))


def _logout_subject(call: Call, subject: str) -> str:
    db = call.xapi.db
    with db.transaction():
        for session in db.find("session", auth_user_sid=subject):
            if subject:
                call.xapi.sessions.close(session)
    return ""


_USER = (Param("uname", Basic.STRING), Param("pwd", Basic.STRING))


def _message(name: str, run: Callable[..., Value], *params: Param, session: bool = True) -> Message:
    return Message(f"session.{name}", run, params, session=session, asynchronous=False)


MESSAGES = (
    _message(
        "login_with_password",
        _login,
        *_USER,
        Param("version", Basic.STRING, "1.1"),
        Param("originator", Basic.STRING, ""),
        session=False,
    ),
    _message("slave_local_login_with_password", _local_login, *_USER, session=False),
    _message("logout", _logout),
    _message("local_logout", _logout),
    _message(
        "change_password",
        _change_password,
        Param("old_pwd", Basic.STRING),
        Param("new_pwd", Basic.STRING),
    ),
    _message("get_all_subject_identifiers", _subject_identifiers),
    _message(
        "logout_subject_identifier",
        _logout_subject,
        Param("subject_identifier", Basic.STRING),
    ),
)
