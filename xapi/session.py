"""Sessions: who may call, and what a storage driver may do besides."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager

from xapi.database import Database
from xapi.datatypes import NULL, Basic
from xapi.errors import XenAPIError, permission_denied
from xapi.message import Call, Message, Param, now


class Sessions:
    """The sessions of one server. Over TCP, root's password opens one; locally, nothing."""

    def __init__(self, db: Database, password: str) -> None:
        self._db = db
        self._password = password.encode()

    def login(self, host: str, user: str, password: str, originator: str, *, local: bool) -> str:
        """A new session on `host`.

        Raises:
            XenAPIError: SESSION_AUTHENTICATION_FAILED [user, text].
        """
        known = hmac.compare_digest(password.encode(), self._password) and user == "root"
        if not local and not known:
            raise XenAPIError(
                "SESSION_AUTHENTICATION_FAILED", (user, "wrong user name or password")
            )
        return self._open(host, local_root=local, originator=originator)

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


def _login(call: Call, user: str, password: str, _version: str, originator: str) -> str:
    xapi = call.xapi
    return xapi.sessions.login(xapi.host, user, password, originator, local=call.local)


def _logout(call: Call) -> str:
    call.xapi.sessions.close(call.session)
    return ""


MESSAGES = (
    Message(
        "session.login_with_password",
        _login,
        (
            Param("uname", Basic.STRING),
            Param("pwd", Basic.STRING),
            Param("version", Basic.STRING, "1.1"),
            Param("originator", Basic.STRING, ""),
        ),
        session=False,
    ),
    Message("session.logout", _logout),
    Message("session.local_logout", _logout),
)
