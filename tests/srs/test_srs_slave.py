"""What a host asks its pool's master for."""

from pathlib import Path
from typing import Any

import pytest
from directory import Database, Directory, live_in

from srs import paths, plugins, slave
from srs.cowvdi import CowVDI
from srs.datapath import tap
from srs.errors import APISession, SRError, SRNoSpace, SRUnavailable
from srs.protocol import Request
from srs.session import Failure, Session
from srs.vdi import NewDisk, new_uuid


class _Appointed(Session):
    """A session on a host that is the master by now."""

    def call(self, method: str, *params: object) -> object:
        return {"pool.get_all": ["pool"], "pool.get_master": "here"}[method]


def test_a_slave_that_was_appointed_does_not_ask_itself() -> None:
    """It would see its own lock, or wait for it."""
    with pytest.raises(SRUnavailable, match="become the master"):
        slave.ask_master(_Appointed("session", host="here"), "sr-master", "is_working", {})


class _Asking(Session):
    """A session on a host whose master's plugin fails."""

    def __init__(self, *details: str) -> None:
        super().__init__("session", host="here")
        self._details = details

    def call(self, method: str, *params: object) -> object:
        if method == "host.call_plugin":
            raise Failure(method, list(self._details))
        return {"pool.get_all": ["pool"], "pool.get_master": "there"}[method]


@pytest.mark.parametrize("error", [SRNoSpace("8 bytes needed"), SRUnavailable()])
def test_what_the_master_answers_keeps_its_code(error: SRError) -> None:
    details = plugins.describe("attach", error)
    with pytest.raises(type(error)) as raised:
        slave.ask_master(_Asking(*details), "lvhd-thin", "attach", {})
    assert raised.value.text == error.text


@pytest.mark.parametrize(
    "details",
    [("HOST_OFFLINE", "there"), *(plugins.describe("f", e) for e in (KeyError("a"), OSError(5)))],
)
def test_what_no_driver_raises_stays_a_failure(details: tuple[str, ...]) -> None:
    with pytest.raises(Failure) as raised:
        slave.ask_master(_Asking(*details), "lvhd-thin", "attach", {})
    assert raised.value.details == list(details)


class _Forgetful(Database):
    """A toolstack whose master drops the claim of a host that has not opened the disk yet."""

    def vdi_record(self, ref: str) -> dict[str, Any]:
        record = dict(super().vdi_record(ref))
        self.call("VDI.remove_from_sm_config", ref, "host_host")
        return record


def test_a_claim_that_was_dropped_while_the_disk_was_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_in(tmp_path / "run", monkeypatch)
    monkeypatch.chdir(tmp_path)  # for short names of sockets
    (tmp_path / "sr").mkdir()
    uuid = new_uuid()
    master = Directory(tmp_path / "sr", Database())
    CowVDI(master, uuid).create(NewDisk(2 << 20))
    database = _Forgetful()
    database.vdis = master.session.vdis  # type: ignore[attr-defined]
    sr = Directory(tmp_path / "sr", database)
    sr.request = Request("", sr_uuid="sr", host_ref="host")
    ref = f"OpaqueRef:{uuid}"
    CowVDI(sr, uuid).activate(True)
    try:
        assert database.vdis[ref]["sm_config"]["host_host"] == "RW"
    finally:
        CowVDI(sr, uuid).deactivate()
    assert "host_host" not in database.vdis[ref]["sm_config"]


class _Mute(Database):
    """A toolstack that cannot be reached once this host has the disk open."""

    def vdi_record(self, ref: str) -> dict[str, Any]:
        record = super().vdi_record(ref)
        if tap.is_active("sr", record["uuid"]):
            raise APISession("gone")
        return record


def test_what_cannot_be_confirmed_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call has failed, so nobody would ever deactivate the disk."""
    live_in(tmp_path / "run", monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sr").mkdir()
    uuid = new_uuid()
    master = Directory(tmp_path / "sr", Database())
    CowVDI(master, uuid).create(NewDisk(2 << 20))
    database = _Mute()
    database.vdis = master.session.vdis  # type: ignore[attr-defined]
    sr = Directory(tmp_path / "sr", database)
    sr.request = Request("", sr_uuid="sr", host_ref="host")
    with pytest.raises(APISession):
        CowVDI(sr, uuid).activate(True)
    assert not tap.is_active("sr", uuid)
    assert database.vdis[f"OpaqueRef:{uuid}"]["sm_config"].keys() <= {"vhd-parent", "vhd-blocks"}


class _Renewing(Database):
    """A toolstack whose other host begins to open a disk right after it was asked about it."""

    def call(self, method: str, *args: Any) -> Any:
        if method != "host.call_plugin":
            return super().call(method, *args)
        for vdi in self.vdis.values():
            vdi["sm_config"][tap.ACTIVATING] = args[0]
        return "False"


def test_a_claim_that_is_renewed_while_its_host_is_asked() -> None:
    database = _Renewing()
    record = {"uuid": "disk", "sm_config": {"host_other": "RW"}}
    database.vdis["ref"] = {**record, "sm_config": {"host_other": "RW"}}
    found = tap.users(database, "sr", "ref", record)  # type: ignore[arg-type]
    assert found == {"other": "RW"}
    assert "host_other" in database.vdis["ref"]["sm_config"]


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
