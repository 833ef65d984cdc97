"""Journal entries: names, bodies and files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srs import journal
from srs.errors import LVMCreate, LVMNoVolume
from srs.journal import Entry, FileJournal

GROUP = "VG_XenStorage-0c5a3f5e-31f1-4f6b-9a4f-0123456789ab"
DISK = "11111111-2222-3333-4444-555555555555"
BASE = "66666666-7777-8888-9999-aaaaaaaaaaaa"


def test_names_as_the_field_has_them() -> None:
    assert journal.volume_name(GROUP, "inflate", DISK, "8388608") == f"inflate_{DISK}_8388608"
    assert journal.volume_name(GROUP, "relink", DISK, "1") == f"relink_{DISK}_1"
    assert journal.volume_name(GROUP, "clone", DISK, "short") == f"clone_{DISK}_1"
    assert journal.volume_name(GROUP, "other", DISK, f"{BASE}_{BASE}") == f"other_{DISK}_1"
    # A disk of 100 GiB that grows: two long numbers, and device-mapper doubles every dash.
    assert journal.volume_name(GROUP, "resize", DISK, "107374182400_107592286208").endswith("_1")


@given(st.text("abcdefgh", min_size=1, max_size=12), st.text("0123456789_-", max_size=80))
def test_no_device_mapper_name_is_too_long(kind: str, value: str) -> None:
    name = journal.volume_name(GROUP, kind, DISK, value)
    assert len(_in_device_mapper(name)) <= 127
    wished = f"{kind}_{DISK}_{value}"
    if len(_in_device_mapper(wished)) <= 127 and kind not in ("clone", "leaf"):
        assert name == wished


def _in_device_mapper(name: str) -> str:
    return "-".join(part.replace("-", "--") for part in (GROUP, name))


def test_the_body_of_an_entry() -> None:
    body = journal.encode_body(f"{BASE}_{DISK}")
    assert body == f"73 {BASE}_{DISK}".encode().ljust(512)
    assert journal.decode_body(body) == f"{BASE}_{DISK}"


@given(st.text("abc_-.0", max_size=500))
def test_bodies_survive(value: str) -> None:
    assert journal.decode_body(journal.encode_body(value)) == value


def test_a_body_that_was_never_written_has_no_value() -> None:
    assert journal.decode_body(bytes(512)) == ""


@pytest.mark.parametrize(
    "sector", [b"garbage".ljust(512), b"900 x".ljust(512), b"x 1 2", b"3 a/b", b"2 \xff\xff"]
)
def test_a_body_of_something_else(sector: bytes) -> None:
    """A volume shows what its extents held until the body is written."""
    assert journal.decode_body(sector) == ""


@pytest.mark.parametrize("torn", ["", f"{BASE}_"])
def test_a_file_that_was_never_finished_has_no_value(tmp_path: Path, torn: str) -> None:
    (tmp_path / f"clone_{DISK}").write_text(torn)
    assert FileJournal(str(tmp_path), ("clone",)).entries() == [Entry("clone", DISK, "")]


def test_an_entry_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        FileJournal(str(tmp_path), ("clone",)).create("clone", DISK, BASE)
    assert list(tmp_path.iterdir()) == []


def test_a_value_too_long_for_a_sector() -> None:
    with pytest.raises(ValueError, match="600 characters"):
        journal.encode_body("x" * 600)


def test_files(tmp_path: Path) -> None:
    entries = FileJournal(str(tmp_path), ("clone",))
    entries.create("clone", DISK, f"{BASE}_-")
    assert (tmp_path / f"clone_{DISK}").read_text() == f"{BASE}_-\n"
    assert FileJournal(str(tmp_path), ("clone",)).entries() == [Entry("clone", DISK, f"{BASE}_-")]
    with pytest.raises(LVMCreate):
        entries.create("clone", DISK, BASE)
    entries.remove("clone", DISK)
    assert entries.entries() == []
    with pytest.raises(LVMNoVolume):
        entries.remove("clone", DISK)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_no_entries(tmp_path: Path) -> None:
    (tmp_path / f"{DISK}.vhd").write_text("")
    (tmp_path / f"leaf_{DISK}").write_text(BASE)
    assert FileJournal(str(tmp_path), ("clone",)).entries() == []


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "..\n"])
def test_names_that_no_entry_can_have(tmp_path: Path, bad: str) -> None:
    entries = FileJournal(str(tmp_path), ("clone",))
    for kind, id in ((bad, DISK), ("clone", bad)):
        with pytest.raises(LVMNoVolume):
            entries.create(kind, id, "1")
    assert list(tmp_path.iterdir()) == []
