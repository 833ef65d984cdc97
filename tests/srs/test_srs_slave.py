"""What a host asks its pool's master for."""

from pathlib import Path

import pytest

from srs import paths, slave
from srs.datapath import tap
from srs.errors import APISession, SRUnavailable
from srs.session import Session


class _Appointed(Session):
    """A session on a host that is the master by now."""

    def call(self, method: str, *params: object) -> object:
        return {"pool.get_all": ["pool"], "pool.get_master": "here"}[method]


def test_a_slave_that_was_appointed_does_not_ask_itself() -> None:
    """It would see its own lock, or wait for it."""
    with pytest.raises(SRUnavailable, match="become the master"):
        slave.ask_master(_Appointed("session", host="here"), "sr-master", "is_working", {})


class _Slow(Session):
    """A toolstack that waits for another host."""

    def call(self, method: str, *params: object) -> object:
        raise APISession("timed out")


def test_a_pause_that_cannot_be_ended_yet_fails_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PAUSES", str(tmp_path))
    note = tmp_path / "sr" / "disk"
    note.parent.mkdir()
    note.touch()
    tap.resume_forgotten(_Slow("session"), "sr", but=())
    assert note.exists()
