"""The metadata volume: bytes as the field has them, and any sequence of changes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from srs import mgt
from srs.errors import MetadataError
from srs.mgt import DiskRecord, MetadataVolume, SRRecord

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=120)
UUID = st.uuids().map(str)
RECORD = st.builds(
    DiskRecord,
    uuid=UUID,
    name_label=TEXT,
    name_description=TEXT,
    is_a_snapshot=st.booleans(),
    snapshot_of=st.just("") | UUID,
    snapshot_time=st.sampled_from(["", "20240131T12:00:00Z"]),
    type=st.sampled_from(["user", "system", "metadata"]),
    vdi_type=st.sampled_from(["vhd", "aio"]),
    read_only=st.booleans(),
    managed=st.booleans(),
)


def device(path: Path, capacity: int = 64 << 10) -> MetadataVolume:
    path.write_bytes(b"\xa5" * capacity)
    volume = MetadataVolume(str(path), capacity)
    volume.format(SRRecord("sr-uuid", "thin", "an <SR> & more", "about it"))
    return volume


def test_the_bytes_of_a_small_volume(tmp_path: Path) -> None:
    path = tmp_path / "MGT"
    volume = device(path)
    volume.put(DiskRecord("d-uuid", name_label="disk", name_description="of A & B"))
    data = path.read_bytes()
    sectors = [data[at : at + 512].decode().rstrip(" ") for at in range(0, 3072, 512)]
    assert sectors == [
        "XSSM:3072      :1:2",
        '<?xml version="1.0" ?><uuid>sr-uuid</uuid><allocation>thin</allocation>',
        "<name_label>an &lt;SR&gt; &amp; more</name_label>",
        "<name_description>about it</name_description>",
        "<vdi><name_label>disk</name_label><name_description>of A &amp; B</name_description>",
        "<uuid>d-uuid</uuid><is_a_snapshot>0</is_a_snapshot><snapshot_of></snapshot_of>"
        "<snapshot_time></snapshot_time><type>user</type><vdi_type>vhd</vdi_type>"
        "<read_only>0</read_only><managed>1</managed><metadata_of_pool></metadata_of_pool>"
        "<deleted>0</deleted></vdi>",
    ]


@given(RECORD)
def test_a_record_survives(record: DiskRecord) -> None:
    encoded = mgt.encode_disk(record)
    assert len(encoded) == mgt.RECORD
    decoded = mgt.decode_disk(encoded)
    assert record.name_label.startswith(decoded.name_label)
    assert record.name_description.startswith(decoded.name_description)
    kept = replace(record, name_label=decoded.name_label, name_description=decoded.name_description)
    assert decoded == kept


@given(TEXT, TEXT)
def test_names_are_cut_only_if_they_must_be(label: str, description: str) -> None:
    decoded = mgt.decode_disk(mgt.encode_disk(DiskRecord("u", label, description)))
    length = len((mgt.escape(label) + mgt.escape(description)).encode())
    whole = (decoded.name_label, decoded.name_description) == (label, description)
    assert whole == (length <= 445)


@pytest.mark.parametrize("sector", [b"", bytes(512), b"XSSM:17        :1:2", b"XSSM:x:1:2"])
def test_a_device_without_metadata(tmp_path: Path, sector: bytes) -> None:
    path = tmp_path / "MGT"
    path.write_bytes(sector.ljust(4096, b"\0"))
    with pytest.raises(MetadataError):
        MetadataVolume(str(path)).disks()


def test_a_removed_record_makes_room(tmp_path: Path) -> None:
    volume = device(tmp_path / "MGT", capacity=2048 + 3 * 1024)
    for uuid in "abc":
        volume.put(DiskRecord(uuid))
    with pytest.raises(MetadataError, match="full"):
        volume.put(DiskRecord("d"))
    volume.delete("b")
    volume.put(DiskRecord("d"))
    assert list(MetadataVolume(str(tmp_path / "MGT")).disks()) == ["a", "d", "c"]


def test_the_end_shrinks(tmp_path: Path) -> None:
    volume = device(tmp_path / "MGT")
    volume.put(DiskRecord("a"))
    volume.put(DiskRecord("b"))
    volume.delete("b")
    assert mgt.decode_length((tmp_path / "MGT").read_bytes()[:512]) == 2048 + 1024


class Changes(RuleBasedStateMachine):
    """Whatever is done, a fresh reader sees what a dictionary would hold."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "MGT"
        self._volume = device(self._path)
        self._model: dict[str, DiskRecord] = {}

    @rule(uuid=st.sampled_from("abcdef"), label=st.sampled_from(["", "name", "<&>"]))
    def put(self, uuid: str, label: str) -> None:
        self._model[uuid] = DiskRecord(uuid, label)
        self._volume.put(self._model[uuid])

    @rule(uuid=st.sampled_from("abcdef"))
    def delete(self, uuid: str) -> None:
        self._model.pop(uuid, None)
        self._volume.delete(uuid)

    @invariant()
    def a_fresh_reader_agrees(self) -> None:
        fresh = MetadataVolume(str(self._path))
        assert fresh.disks() == self._model
        assert fresh.sr() == SRRecord("sr-uuid", "thin", "an <SR> & more", "about it")

    def teardown(self) -> None:
        self._directory.cleanup()


TestChanges = Changes.TestCase
