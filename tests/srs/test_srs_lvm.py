"""LVM: reports, names and sizes; everything that needs no device."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srs import lvhd_layout as layout
from srs import lvhd_replace, lvm
from srs.errors import LVMRead
from srs.journal import VolumeJournal
from srs.lvhd_store import VolumeStore
from srs.refcount import Count, RefCounts
from srs.volumes import EXTENT, VolumeGroup

MIB = 1 << 20
DISK = "11111111-2222-3333-4444-555555555555"
ROW = {
    "pv_name": "/dev/loop0",
    "pe_start": "11534336",
    "vg_free": "4248829952",
    "vg_size": "4282384384",
    "lv_name": f"VHD-{DISK}",
    "lv_size": "16777216",
    "lv_attr": "-ri-ao----",
    "lv_tags": "one,two",
    "seg_start": "0",
    "pvseg_start": "3",
    "vg_uuid": "NPfkOr-jVBB-xepb-bzpK-P3mB-zJXA-AGdTTa",
    "lv_uuid": "Klw9kA-AaAd-HmCp-8zuz-4eMs-ZsG5-nFcBgM",
}


Answer = tuple[bool, int, list[str], list[str]]


class Told:
    """liblvm2cmd's place: keeps the commands, gives prepared answers."""

    def __init__(self, *answers: Answer) -> None:
        self.commands: list[str] = []
        self._answers = list(answers)

    def __call__(self, command: str) -> Answer:
        self.commands.append(command)
        return self._answers.pop(0) if self._answers else (True, 1, [], [])


def test_a_report_with_warnings_around_it() -> None:
    text = "WARNING: a warning\n" + json.dumps({"report": [{"lv": [{"lv_name": "x"}]}]}) + "\n"
    assert lvm.parse_report(text) == [{"lv_name": "x"}]


def test_an_empty_report() -> None:
    assert lvm.parse_report('{"report": [{"lv": []}]}') == []


@pytest.mark.parametrize("text", ["", "no report", "}{"])
def test_no_report(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        lvm.parse_report(text)


def test_a_group_out_of_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    second = {**ROW, "seg_start": "8388608", "pvseg_start": "9"}
    free = {**ROW, "lv_name": "", "lv_attr": "", "lv_size": "", "lv_tags": "", "pvseg_start": "7"}
    document = json.dumps({"report": [{"pvseg": [ROW, second, free]}]})
    told = Told((True, 1, document.splitlines(), []))
    monkeypatch.setattr(lvm, "_runner", told)
    group = VolumeGroup("VG")
    volume = group.volume(f"VHD-{DISK}")
    assert volume.size == 16777216
    assert (volume.active, volume.open, volume.readonly) == (True, True, True)
    assert volume.tags == {"one", "two"}
    assert volume.start == ("/dev/loop0", 11534336 + 3 * EXTENT)
    assert volume.id == "LVM-NPfkOrjVBBxepbbzpKP3mBzJXAAGdTTaKlw9kAAaAdHmCp8zuz4eMsZsG5nFcBgM"
    assert (group.free, group.size) == (4248829952, 4282384384)
    assert len(told.commands) == 1


def test_no_more_commands_than_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "device").touch()
    empty = {
        **ROW,
        "pv_name": str(tmp_path / "device"),
        "lv_name": "",
        "lv_size": "",
        "lv_attr": "",
        "lv_tags": "",
    }
    document = json.dumps({"report": [{"pvseg": [empty]}]})
    told = Told((True, 1, [document], []))
    monkeypatch.setattr(lvm, "_runner", told)
    group = VolumeGroup("VG")
    free = group.free
    group.create("a", 1, tags=("t",))
    group.create("b", 5 * MIB)
    assert group.free == free - 3 * EXTENT
    group.activate("a", "b")
    group.release()
    group.activate("a", "b", "a")
    group.rename("a", "c")
    group.release()
    group.set_readonly("b", False)
    group.resize("b", 7 * MIB)
    group.remove("b", "c")
    assert group.free == free
    assert told.commands[1:] == [
        "lvcreate -y -ay -Wn -Zn -L 4194304b -n a --addtag t VG",
        "lvcreate -y -ay -Wn -Zn -L 8388608b -n b VG",
        "lvchange -an VG/a VG/b",
        "lvchange -ay VG/a VG/b",
        "lvchange -an VG/a",
        "lvrename VG a c",
        "lvchange -an VG/b",
        "lvremove -f VG/b VG/c",
    ]


def _report(*volumes: str) -> Answer:
    rows = [{**ROW, "pv_name": "/nowhere", "lv_name": name} for name in volumes]
    return True, 1, [json.dumps({"report": [{"pvseg": rows}]})], []


@pytest.mark.parametrize("status", [1, 5])
def test_a_change_that_failed_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """LVM commits, and then the device cannot be flushed, or LVM itself says that it failed."""
    done: Answer = (status == 1, status, [], [])
    told = Told(_report("a", "b"), done, _report("c", "b"), done, _report("c"))
    monkeypatch.setattr(lvm, "_runner", told)
    group = VolumeGroup("VG")
    assert "a" in group.volumes
    with pytest.raises((OSError, lvm.LVMError)):
        group.rename("a", "c")
    assert "c" in group.volumes
    with pytest.raises((OSError, lvm.LVMError)):
        group.remove("b")
    assert list(group.volumes) == ["c"]


def test_a_removal_that_failed_leaves_nothing_to_release(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = {**ROW, "pv_name": "/nowhere", "lv_name": "a", "lv_attr": "-wi-------"}
    before: Answer = (True, 1, [json.dumps({"report": [{"pvseg": [idle]}]})], [])
    told = Told(before, (True, 1, [], []), (True, 1, [], []), _report("b"))
    monkeypatch.setattr(lvm, "_runner", told)
    group = VolumeGroup("VG")
    group.activate("a")
    with pytest.raises(OSError, match="nowhere"):
        group.remove("a")
    assert "a" not in group.volumes
    group.release()
    assert group.temporary == ()


def test_an_old_image_that_resists_tells_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A revert is done, its old image cannot be removed: what it reads as is no longer true."""
    (tmp_path / "device").touch()
    row = {**ROW, "pv_name": str(tmp_path / "device")}
    new = {**row, "lv_tags": layout.SOURCE_TAG + "snapshot"}
    old = {**row, "lv_name": layout.old_name(DISK)}
    report: Answer = (True, 1, [json.dumps({"report": [{"pvseg": [new, old]}]})], [])
    told = Told(report, (False, 5, [], ["in use"]), report)
    monkeypatch.setattr(lvm, "_runner", told)
    store = VolumeStore(VolumeGroup("VG"), RefCounts("nobody"))
    (entry,) = lvhd_replace.pending(store)
    assert entry.value == "snapshot"
    lvhd_replace.drop(store, DISK)
    assert told.commands[-1] == f"lvchange --deltag revert.snapshot VG/VHD-{DISK}"
    (entry,) = lvhd_replace.pending(store)
    assert entry.value == ""


def test_a_replacement_beside_an_older_one_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old image that resisted is in the way of a second revert, which so must be undone."""
    names = (f"VHD-{DISK}", layout.old_name(DISK), layout.incoming_name(DISK))
    monkeypatch.setattr(lvm, "_runner", Told(_report(*names)))
    store = VolumeStore(VolumeGroup("VG"), RefCounts("nobody"))
    assert not lvhd_replace.settle(store, DISK)


def test_a_foreign_entry_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its volume cannot be activated, or not be read: then nobody goes by it."""
    entry = {**ROW, "lv_name": f"clone_{DISK}_1", "lv_tags": "journaler", "lv_attr": "-wi-------"}
    report: Answer = (True, 1, [json.dumps({"report": [{"pvseg": [entry]}]})], [])
    for activation in (True, False):
        answer: Answer = (activation, 1 if activation else 5, [], [])
        monkeypatch.setattr(lvm, "_runner", Told(report, answer))
        (found,) = VolumeJournal(VolumeGroup("VG-that-is-nowhere")).entries()
        assert (found.kind, found.id, found.value) == ("clone", DISK, "")
        with pytest.raises(LVMRead):
            found.require_value()


def test_an_attached_disk_without_headers_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = DISK.replace("1", "9")
    rows = [
        {**ROW, "lv_name": layout.vhd_name(DISK), "lv_attr": "-wi-------", "pv_name": "/nowhere"},
        {**ROW, "lv_name": layout.raw_name(other), "lv_attr": "-wi-------"},
    ]
    told = Told((True, 1, [json.dumps({"report": [{"pvseg": rows}]})], []))
    monkeypatch.setattr(lvm, "_runner", told)
    counts = RefCounts("lvm-VG", str(tmp_path))
    for uuid in (DISK, other):
        counts.set(uuid, Count(0, 1))
    VolumeStore(VolumeGroup("VG"), counts).reactivate()
    assert told.commands[1:] == [f"lvchange -ay VG/LV-{other}"]


def test_failures_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm, "_runner", Told((False, 5, [], ["It is full", "Really"])))
    with pytest.raises(lvm.LVMError, match=r"lvcreate -L 4m VG: It is full; Really") as caught:
        lvm.lvm("lvcreate", "-L", "4m", "VG")
    assert (caught.value.status, caught.value.command) == (5, "lvcreate -L 4m VG")


@pytest.mark.parametrize(
    "said",
    [
        'Volume group "VG" has insufficient free space (1015 extents): 1908 required.',
        "Insufficient free space: 3 extents needed, but only 0 available",
    ],
)
def test_no_room_has_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """What lvcreate says, and what lvresize says."""
    monkeypatch.setattr(lvm, "_runner", Told((False, 5, [], [said])))
    with pytest.raises(lvm.LVMNoRoom):
        lvm.lvm("lvcreate", "VG")


@pytest.mark.parametrize("word", ["", "two words", "quo'ted", "a\nb", 'quo"ted', "back\\slash"])
def test_words_that_lvm_would_split(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    told = Told()
    monkeypatch.setattr(lvm, "_runner", told)
    with pytest.raises(lvm.LVMError):
        lvm.lvm("lvremove", word)
    assert told.commands == []


@pytest.mark.parametrize(
    ("virtual", "full"),
    [
        (2 * MIB, 8 * MIB),
        (100 * MIB, 108 * MIB),
        (1 << 30, 1032 * MIB),
        (10 << 30, 10268 * MIB),
        (2040 << 30, 2093048 * MIB),
    ],
)
def test_sizes_of_the_field(virtual: int, full: int) -> None:
    assert layout.full_size(virtual) == full
    assert layout.empty_size() == 8 * MIB
    assert layout.metadata_size(2 << 40) == 4329472


@given(st.integers(1, 1020 << 10))
def test_a_full_disk_fits_into_its_volume(blocks: int) -> None:
    used = layout.metadata_size(layout.TABLE_SIZE) + blocks * ((2 << 20) + 4096) + 512
    assert layout.full_size(blocks << 21) >= used - 512


def test_names() -> None:
    assert layout.disk_of(layout.vhd_name(DISK)) == DISK
    assert layout.disk_of(layout.raw_name(DISK)) == DISK
    for other in ("MGT", layout.old_name(DISK), layout.incoming_name(DISK), f"clone_{DISK}_1"):
        assert layout.disk_of(other) == ""
    assert layout.replaced_disk_of(layout.old_name(DISK)) == DISK
    assert layout.incoming_disk_of(layout.incoming_name(DISK)) == DISK


def test_counts_are_what_attached_disks_need(tmp_path: Path) -> None:
    counts = RefCounts("lvm-sr", root=str(tmp_path))
    counts.recount([["leaf", "base", "root"], ["other", "root"]])
    assert counts.get("root") == Count(2, 0)
    assert counts.get("leaf") == Count(0, 1)
    assert sorted(counts.attached()) == ["leaf", "other"]
    counts.recount([["other", "root"]])
    assert not counts.get("base").used
    assert counts.get("root") == Count(1, 0)
    counts.reset()
    assert counts.attached() == []


def test_warnings_in_the_middle_of_a_report() -> None:
    """A device without the header that the process saw there last time brings one."""
    text = '{\n "report": [\nClear pvid and info for no lvm header /dev/loop1\n {"pv": []}\n ]\n}'
    assert lvm.parse_report(text) == []
