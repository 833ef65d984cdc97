"""Sessions counted by target, and records of targets changed in their files."""

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from srs import iscsi, paths, sessionrefs
from srs.iscsi import Chap, Portal, Session
from srs.run import CommandFailed
from srs.scsierrors import ISCSILogin

_IQN = "iqn.2026-01.org.example:disks"


@pytest.fixture(autouse=True)
def refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "SESSION_REFS", str(tmp_path / "sr-ref"))
    return tmp_path / "sr-ref"


def test_the_last_user_says_so(refs: Path) -> None:
    sessionrefs.add(_IQN, "one")
    sessionrefs.add(_IQN, "one")
    sessionrefs.add(_IQN, "other")
    assert sessionrefs.targets_of("one") == [_IQN]
    assert not sessionrefs.drop(_IQN, "one")
    assert sessionrefs.targets_of("one") == []
    assert sessionrefs.users(_IQN) == {"other"}
    assert sessionrefs.drop(_IQN, "other")
    assert list(refs.iterdir()) == []
    assert sessionrefs.drop(_IQN, "nobody")


RECORD = """\
# BEGIN RECORD 2.1.8
node.name = {iqn}
node.session.auth.authmethod = None
node.session.timeo.replacement_timeout = 120
# END RECORD
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record as discovery leaves it."""
    directory = tmp_path / "nodes" / _IQN / "192.0.2.1,3260,1"
    directory.mkdir(parents=True)
    path = directory / "default"
    path.write_text(RECORD.format(iqn=_IQN))
    monkeypatch.setattr(iscsi, "_RECORDS", (str(tmp_path / "none"), str(tmp_path / "nodes")))
    return path


def test_a_record_takes_settings_and_keeps_the_rest(record: Path) -> None:
    chap = Chap("me", "secret = with signs", "it", "another")
    for _ in range(2):
        iscsi.change_record(Portal("192.0.2.1", 3260, _IQN), chap.settings("node.session.auth"))
    lines = record.read_text().splitlines()
    assert lines[0].startswith("# BEGIN")
    assert lines[-1] == "# END RECORD"
    assert sorted(lines[1:-1]) == sorted(
        [
            f"node.name = {_IQN}",
            "node.session.timeo.replacement_timeout = 120",
            "node.session.auth.authmethod = CHAP",
            "node.session.auth.username = me",
            "node.session.auth.password = secret = with signs",
            "node.session.auth.username_in = it",
            "node.session.auth.password_in = another",
        ]
    )
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "portal", [Portal("192.0.2.1", 3261, _IQN), Portal("192.0.2.1", 3260, "iqn.2026-01.org:other")]
)
def test_a_target_that_was_not_discovered(record: Path, portal: Portal) -> None:
    before = record.read_text()
    with pytest.raises(ISCSILogin, match="no record"):
        iscsi.change_record(portal, {})
    assert record.read_text() == before


def test_a_line_of_discovery() -> None:
    text = f"192.0.2.1:3260,1 {_IQN}\n[2001:db8::1]:860,2 eui.0011223344556677\nsomething else\n"
    assert iscsi.portals_in(text) == [
        Portal("192.0.2.1", 3260, _IQN),
        Portal("2001:db8::1", 860, "eui.0011223344556677"),
    ]


def test_no_secret_of_a_discovery_is_on_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program reads it in the record that it has made."""
    path = tmp_path / "192.0.2.1,3260" / "st_config"
    monkeypatch.setattr(iscsi, "_DISCOVERIES", (str(tmp_path / "none"), str(tmp_path)))

    def iscsiadm(argv: Sequence[str], *, accept: Sequence[int] = (0,)) -> str:
        assert "secret" not in " ".join(argv)
        if "new" in argv:
            path.parent.mkdir()
            path.write_text(RECORD.format(iqn=_IQN))
        elif "--discover" in argv:
            assert "discovery.sendtargets.auth.password = secret" in path.read_text().splitlines()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            return f"192.0.2.1:3260,1 {_IQN}"
        else:
            raise CommandFailed(argv, 24, "iscsiadm: who asks?")
        return ""

    monkeypatch.setattr(iscsi, "run", iscsiadm)
    found = iscsi.discover("192.0.2.1", 3260, Chap("me", "secret"))
    assert found == [Portal("192.0.2.1", 3260, _IQN)]


_DEAD, _ALIVE = Portal("192.0.2.1", 3260, _IQN), Portal("192.0.2.2", 3260, _IQN)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> set[Portal]:
    """An initiator: the portals that answer, to which sessions are then in /sys."""
    alive: set[Portal] = set()
    logged_in: list[Portal] = []

    def log_in(portal: Portal, _chap: Chap, _settings: dict[str, str]) -> None:
        if portal not in alive:
            raise ISCSILogin(portal.address)
        logged_in.append(portal)

    def sessions(iqn: str = "") -> list[Session]:
        return [Session(portal, 1) for portal in logged_in if iqn in ("", portal.iqn)]

    monkeypatch.setattr(iscsi, "_log_in", log_in)
    monkeypatch.setattr(iscsi, "sessions", sessions)
    return alive


def test_a_portal_may_be_dead_if_another_one_is_not(alive: set[Portal]) -> None:
    """So a multipath SR starts with the paths that there are."""
    with pytest.raises(ISCSILogin, match=_DEAD.address):
        iscsi.login([_DEAD, _ALIVE], Chap(), 15)
    alive.add(_ALIVE)
    iscsi.login([_DEAD, _ALIVE], Chap(), 15)
    assert [session.portal for session in iscsi.sessions()] == [_ALIVE]
