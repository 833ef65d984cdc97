"""This host's iSCSI initiator: open-iscsi's daemon, asked through its own program.

    SRError
    ├── ISCSIInitiator 70      sessions go on under another name of this host
    ├── ISCSIDaemon 71         iscsid does not start
    ├── ISCSIDiscovery 83      a portal does not tell its targets
    ├── ISCSITarget 141        nobody answers at a portal
    ├── ISCSILogin 68          a target refuses
    ├── ISCSILogout 69         a session cannot be closed
    └── ISCSIQueryDaemon 86    iscsid does not answer

What goes on is read from sysfs. `iscsiadm` is started only for what changes something, for each
start takes a tenth of a second in a small virtual machine: discovery, login, logout. The record
of a target, where CHAP names and secrets belong, is changed in its file (reference: iscsiadm(8),
"Files"): that saves a start, and a secret on a command line would show to every process.

Callers hold `lock()`: one host, one initiator.
"""

import os
import re
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from srs import scsi
from srs.locks import Lock
from srs.run import CommandFailed, run
from srs.scsierrors import (
    ISCSIDaemon,
    ISCSIDiscovery,
    ISCSIInitiator,
    ISCSILogin,
    ISCSILogout,
    ISCSIQueryDaemon,
    ISCSITarget,
)

_NAME_FILE: Final = "/etc/iscsi/initiatorname.iscsi"
_PID_FILE: Final = "/run/iscsid.pid"
#: Debian keeps the records with the configuration, others where XenServer does.
_RECORDS: Final = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes")
_DISCOVERIES: Final = ("/etc/iscsi/send_targets", "/var/lib/iscsi/send_targets")
_DIRECTORIES: Final = ("/run/lock/iscsi", "/var/lib/iscsi")
_SESSIONS: Final = "/sys/class/iscsi_session"
_CONNECTIONS: Final = "/sys/class/iscsi_connection"

#: Exit statuses of iscsiadm: the session is there already, iscsid is not, there is no record.
_EXISTS, _NO_DAEMON, _NO_RECORD = 15, 20, 21

#: Seconds to connect to a portal.
_CONNECT: Final = 10.0
#: Seconds for iscsid to come and go.
_DAEMON_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True, order=True)
class Portal:
    """Where a target is reached.

    Attributes:
        address: IP address.
        port: TCP port.
        iqn: the target's name.
    """

    address: str
    port: int
    iqn: str


@dataclass(frozen=True, slots=True)
class Chap:
    """Who this host is to a target and, if `in_user` is set, who the target is to this host."""

    user: str = ""
    secret: str = ""
    in_user: str = ""
    in_secret: str = ""

    def settings(self, prefix: str) -> dict[str, str]:
        """Lines of a record; `prefix` says what the names are for."""
        if not self.user:
            return {f"{prefix}.authmethod": "None"}
        found = {
            f"{prefix}.authmethod": "CHAP",
            f"{prefix}.username": self.user,
            f"{prefix}.password": self.secret,
        }
        if self.in_user:
            found[f"{prefix}.username_in"] = self.in_user
            found[f"{prefix}.password_in"] = self.in_secret
        return found


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is logged in, or that iscsid tries to log in again.

    Attributes:
        host: number of its SCSI host.
    """

    portal: Portal
    host: int


def lock() -> Lock:
    """Held while the initiator is looked at and changed; the name is XenServer's."""
    return Lock("iscsiadm", "isciadm_running")


# -- the daemon


def ensure_daemon(name: str) -> None:
    """Have iscsid run under the host's name.

    Raises:
        ISCSIInitiator: there are sessions under another name.
        ISCSIDaemon: it does not start.
    """
    pid = _daemon()
    if pid and _current_name() == name:
        return
    if pid:
        if sessions():
            raise ISCSIInitiator(f"{_current_name()} has sessions, so this host cannot be {name}")
        os.kill(pid, signal.SIGTERM)
        scsi.wait_for(lambda: not _daemon(), seconds=_DAEMON_TIMEOUT)
    for directory in _DIRECTORIES:
        os.makedirs(directory, exist_ok=True)
    try:
        with open(_NAME_FILE, "w", encoding="utf-8") as file:
            file.write(f"InitiatorName={name}\n")
    except OSError as error:
        raise ISCSIInitiator(f"{_NAME_FILE}: {error.strerror}") from error
    try:
        run(["iscsid"])
    except CommandFailed as error:
        raise ISCSIDaemon(error) from error
    if not scsi.wait_for(lambda: bool(_daemon()), seconds=_DAEMON_TIMEOUT):
        raise ISCSIDaemon("it ended at once")


def _daemon() -> int:
    """Process id of iscsid; 0 if it does not run."""
    with suppress(OSError, ValueError):
        pid = int(_text(_PID_FILE))
        return pid if _text(f"/proc/{pid}/comm") == "iscsid" else 0
    return 0


def _current_name() -> str:
    with suppress(OSError):
        return _text(_NAME_FILE).removeprefix("InitiatorName=").strip()
    return ""


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


# -- sessions


def sessions(iqn: str = "") -> list[Session]:
    """All sessions, or those with a target."""
    found = []
    for name in os.listdir(_SESSIONS) if os.path.isdir(_SESSIONS) else ():
        with suppress(OSError, ValueError):  # it ended meanwhile
            session = _session(name)
            if iqn in ("", session.portal.iqn):
                found.append(session)
    return sorted(found, key=lambda session: session.portal)


def _session(name: str) -> Session:
    connection = f"{_CONNECTIONS}/connection{name.removeprefix('session')}:0"
    address = _text(f"{connection}/persistent_address")
    port = int(_text(f"{connection}/persistent_port"))
    portal = Portal(address, port, _text(f"{_SESSIONS}/{name}/targetname"))
    host = re.search(r"/host(\d+)/", os.path.realpath(f"{_SESSIONS}/{name}"))
    if host is None:
        raise ValueError(name)
    return Session(portal, int(host[1]))


def require_service(address: str, port: int) -> None:
    """Look whether a portal takes connections.

    Raises:
        ISCSITarget: it does not.
    """
    try:
        socket.create_connection((address, port), timeout=_CONNECT).close()
    except OSError as error:
        raise ISCSITarget(f"{_host_part(address)}:{port}: {error}") from error


def discover(address: str, port: int, chap: Chap) -> list[Portal]:
    """What a portal tells about targets and where they are reached.

    Raises:
        ISCSIDiscovery: it does not.
    """
    at = f"{_host_part(address)}:{port}"
    words = ["-t", "sendtargets", "-p", at]
    try:
        text = _admin("discovery", *words)
    except CommandFailed as error:
        if not chap.user:
            raise ISCSIDiscovery(f"{at}: {_reason(error)}") from error
        text = _discover_as(chap, address, port, words)
    return portals_in(text)


def _discover_as(chap: Chap, address: str, port: int, words: list[str]) -> str:
    """The same for a portal that wants to know who asks."""
    at = f"{address}:{port} as {chap.user}"
    try:
        _admin("discoverydb", *words, "-o", "new")
        names = (f"{root}/{address},{port}/st_config" for root in _DISCOVERIES)
        path = next(filter(os.path.exists, names), "")
        if not path:
            raise ISCSIDiscovery(f"{at}: iscsiadm has made no record")
        _change(path, chap.settings("discovery.sendtargets.auth"))
        return _admin("discoverydb", *words, "--discover")
    except CommandFailed as error:
        raise ISCSIDiscovery(f"{at}: {_reason(error)}") from error


def portals_in(text: str) -> list[Portal]:
    """From lines `address:port,group name`; names begin with their kind."""
    kinds = (" iqn.", " eui.", " naa.")
    return [_portal(line) for line in text.splitlines() if any(kind in line for kind in kinds)]


def _portal(line: str) -> Portal:
    where, iqn = line.split()
    address, _, port = where.partition(",")[0].rpartition(":")
    return Portal(address.strip("[]"), int(port), iqn)


def _host_part(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def login(portals: list[Portal], chap: Chap, recovery: int) -> None:
    """Log in where no session is yet. A portal may be dead, if another one of its target is not.

    Args:
        portals: where.
        chap: who to be.
        recovery: seconds that requests wait for a session that broke, before they fail.

    Raises:
        ISCSILogin: there is no session with a target: it refuses.
        ISCSIDiscovery: nor here: it is not known here, and does not tell its targets.
        ISCSITarget: nor here: nobody answers.
        ISCSIQueryDaemon: iscsid does not answer.
    """
    there = {session.portal for session in sessions()}
    settings = chap.settings("node.session.auth")
    settings["node.session.timeo.replacement_timeout"] = str(recovery)
    failures: dict[str, ISCSILogin | ISCSIDiscovery | ISCSITarget] = {}
    for portal in portals:
        if portal not in there:
            try:
                _log_in(portal, chap, settings)
            except (ISCSILogin, ISCSIDiscovery, ISCSITarget) as error:
                failures.setdefault(portal.iqn, error)
    for iqn, failure in failures.items():
        if not sessions(iqn):
            raise failure


def _log_in(portal: Portal, chap: Chap, settings: dict[str, str]) -> None:
    # Where nobody answers, iscsid would try for two minutes.
    require_service(portal.address, portal.port)
    if not _record(portal):  # noted by an attach before this host was started again
        discover(portal.address, portal.port, chap)
    change_record(portal, settings)
    where = f"{_host_part(portal.address)}:{portal.port}"
    try:
        _admin("node", "-T", portal.iqn, "-p", where, "--login")
    except CommandFailed as error:
        if error.returncode != _EXISTS:
            raise ISCSILogin(f"{portal.iqn} at {where}: {_reason(error)}") from error


def _record(portal: Portal) -> str:
    """The file with the record of a portal; empty if this host has not discovered it yet."""
    for root in _RECORDS:
        with suppress(FileNotFoundError):
            for entry in os.listdir(f"{root}/{portal.iqn}"):
                # After address and port the directory's name has the number of a group.
                if entry.startswith(f"{portal.address},{portal.port},"):
                    return f"{root}/{portal.iqn}/{entry}/default"
    return ""


def change_record(portal: Portal, settings: dict[str, str]) -> None:
    """Change what the next login to a portal goes by; readers find the old record or the new one.

    Raises:
        ISCSILogin: the portal was never discovered.
    """
    path = _record(portal)
    if not path:
        raise ISCSILogin(f"there is no record of {portal.iqn} at {portal.address}:{portal.port}")
    _change(path, settings)


def _change(path: str, settings: dict[str, str]) -> None:
    lines = _text(path).splitlines()
    kept = [line for line in lines if line.partition(" = ")[0] not in settings]
    added = [f"{key} = {text}" for key, text in settings.items()]
    fresh = f"{path}.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join([*kept[:-1], *added, kept[-1], ""]))  # before the end mark
    os.rename(fresh, path)


def logout(iqn: str) -> None:
    """Close all sessions with a target; its SCSI disks are gone afterwards.

    Raises:
        ISCSILogout: one stays.
    """
    if not sessions(iqn):
        return
    try:
        _admin("node", "-T", iqn, "--logout", accept=(0, _NO_RECORD))
    except CommandFailed as error:
        raise ISCSILogout(f"{iqn}: {_reason(error)}") from error


def _admin(mode: str, *words: str, accept: tuple[int, ...] = (0,)) -> str:
    try:
        return run(["iscsiadm", "-m", mode, *words], accept=accept)
    except CommandFailed as error:
        if error.returncode == _NO_DAEMON:
            raise ISCSIQueryDaemon(_reason(error)) from None
        raise


def _reason(error: CommandFailed) -> str:
    """The last thing that iscsiadm said."""
    lines = [line for line in error.output.splitlines() if line.strip()]
    return lines[-1].removeprefix("iscsiadm: ") if lines else f"exit {error.returncode}"
