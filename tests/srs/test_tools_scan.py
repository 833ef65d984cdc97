"""`vhd-util scan`: the lines that drivers parse, the tree, and volumes that are not active."""

import json
import os
from pathlib import Path

import pytest
from toolbox import Done, Tool

from srs import lvm, vhd
from srs.vhd.labels import set_key_hash, set_marker

MIB = 1 << 20


@pytest.fixture
def tool(capsysbinary: pytest.CaptureFixture[bytes]) -> Tool:
    return Tool(capsysbinary)


@pytest.fixture(autouse=True)
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``b.vhd``, hidden, with the children ``a.vhd`` and ``c.vhd``; ``z.vhd`` on a raw image."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("sr")
    vhd.create("sr/b.vhd", 20 * MIB)
    with vhd.open_chain("sr/b.vhd", writable=True) as disk:
        disk.write(0, b"b")
    vhd.snapshot("sr/a.vhd", "sr/b.vhd")
    vhd.snapshot("sr/c.vhd", "sr/b.vhd")
    vhd.set_hidden("sr/b.vhd", 1)
    Path("sr/flat").write_bytes(bytes(9 * MIB))
    vhd.snapshot("sr/z.vhd", "sr/flat", raw_parent=True)
    return tmp_path / "sr"


def size(name: str) -> int:
    return os.path.getsize(f"sr/{name}")


def lines() -> list[str]:
    return [
        f"vhd=a.vhd capacity=20971520 size={size('a.vhd')} hidden=0 parent=b.vhd",
        f"vhd=b.vhd capacity=20971520 size={size('b.vhd')} hidden=1 parent=none",
        f"vhd=c.vhd capacity=20971520 size={size('c.vhd')} hidden=0 parent=b.vhd",
        f"vhd=z.vhd capacity=9437184 size={size('z.vhd')} hidden=0 parent=flat",
    ]


@pytest.mark.parametrize("words", [(), ("-f",), ("-c",), ("-fc",)])
def test_scan(tool: Tool, words: tuple[str, ...]) -> None:
    done = tool("scan", "-m", "sr/*.vhd", *words)
    assert (done.status, done.lines, done.err) == (0, lines(), "")


def test_patterns_and_names(tool: Tool) -> None:
    assert tool("scan", "-m", "sr/{c,a}.vhd").lines == [lines()[0], lines()[2]]
    assert tool("scan", "sr/c.vhd", "-f", "sr/a.vhd").lines == [lines()[2], lines()[0]]
    assert tool("scan", "-m", "sr/x*") == Done(0, b"", "")
    assert tool("scan") == Done(0, b"", "")


def test_whole_paths(tool: Tool, disks: Path) -> None:
    done = tool("scan", "-v", "-m", f"{disks}/a.vhd")
    assert done.out.startswith(f"vhd={disks}/a.vhd ")
    assert done.out.endswith(f" parent={disks}/b.vhd\n")
    assert tool("scan", "-fvm", f"{disks}/a.vhd").out.endswith(" parent=b.vhd\n")


def test_markers(tool: Tool) -> None:
    digest = bytes(range(32))
    set_key_hash("sr/c.vhd", bytes(32), digest)
    set_marker("sr/c.vhd", 7)
    done = tool("scan", "-M", "-f", "sr/a.vhd", "sr/c.vhd")
    assert done.lines[0].endswith(" hidden=0 marker=0 keyhash=empty parent=b.vhd")
    assert done.lines[1].endswith(f" hidden=0 marker=7 keyhash={digest.hex()} parent=b.vhd")


def test_ancestors(tool: Tool) -> None:
    """Each once, a raw one as what it is."""
    assert tool("scan", "-a", "sr/c.vhd", "sr/a.vhd").lines == [lines()[2], lines()[0], lines()[1]]
    flat = "vhd=flat capacity=9437184 size=9437184 hidden=1 parent=none"
    assert tool("scan", "-fa", "sr/z.vhd").lines == [lines()[3], flat]


def test_first_failure_ends_it(tool: Tool) -> None:
    Path("sr/b2.vhd").write_bytes(b"no disk" * 1000)
    bad = "vhd=sr/b2.vhd scan-error=-22 error-message='invalid footer'"
    done = tool("scan", "-f", "-m", "sr/*.vhd")
    assert (done.status, done.lines) == (22, [*lines()[:2], bad])
    done = tool("scan", "-f", "-c", "-m", "sr/*.vhd")
    assert (done.status, done.lines) == (0, [*lines()[:2], bad, *lines()[2:]])
    gone = "vhd=gone scan-error=-2 error-message='opening file'"
    assert tool("scan", "gone", "-c").lines == [gone]
    assert tool("scan", "gone").status == 2


def test_parent_that_is_gone(tool: Tool) -> None:
    """The stored path tells its name, so a scan is no reason to fail."""
    expected = lines()[:1]
    os.remove("sr/b.vhd")
    for words in ((), ("-f",)):
        assert tool("scan", *words, "sr/a.vhd").lines == expected


def test_name_of_a_parent_forges_no_line(tool: Tool) -> None:
    raw = bytearray(Path("sr/a.vhd").read_bytes())
    name = "b\nvhd=evil".encode("utf-16-be")
    raw[512 + 64 : 512 + 64 + len(name)] = name
    raw[512 + 36 : 512 + 40] = bytes(4)
    raw[512 + 36 : 512 + 40] = (~sum(raw[512:1536]) & 0xFFFFFFFF).to_bytes(4, "big")
    Path("sr/a.vhd").write_bytes(raw)
    done = tool("scan", "-f", "sr/a.vhd")
    assert len(done.lines) == 1
    assert done.out.endswith(" parent=b?vhd=evil\n")


def test_tree(tool: Tool) -> None:
    vhd.snapshot("sr/d.vhd", "sr/c.vhd", link_empty=True)
    vhd.set_hidden("sr/a.vhd", 1)
    text = lines()
    hidden = text[0].replace("hidden=0", "hidden=1")
    top = f"vhd=d.vhd capacity=20971520 size={size('d.vhd')} hidden=0 parent=c.vhd"
    done = tool("scan", "-p", "-f", "-m", "sr/*.vhd")
    assert done.status == 0
    assert done.lines == [
        text[1],
        f"   {text[2]}",
        f"      {top}",
        f"   {hidden}",
        f"{text[3]} (not found in scan)",
    ]


def test_tree_of_a_loop(tool: Tool) -> None:
    """Two disks that stand on each other, as no tool makes them, are drawn and not for ever."""
    os.rename("sr/a.vhd", "sr/x")
    os.rename("sr/b.vhd", "sr/a.vhd")
    vhd.snapshot("sr/b.vhd", "sr/a.vhd")
    os.rename("sr/x", "sr/a.vhd")
    done = tool("scan", "-p", "sr/a.vhd", "sr/b.vhd")
    assert done.status == 0
    assert [line.split()[0] for line in done.lines] == ["vhd=a.vhd", "vhd=b.vhd"]


def test_errors_come_before_the_tree(tool: Tool) -> None:
    done = tool("scan", "-pc", "sr/a.vhd", "gone")
    assert done.lines[0].startswith("vhd=gone scan-error=-2 ")
    assert done.lines[1].endswith(" (not found in scan)")


EXTENT = 4 * MIB
BASE, LEAF, RAW = "VHD-ba-se", "VHD-le-af", "LV-raw"


@pytest.fixture
def group(disks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What LVM reports of the group ``VG-1``, and its physical volume: no volume is active.

    The base of a snapshot is in front of it, a raw volume behind, and free extents between.
    """
    device = disks / "pv"
    names = {name: disks / f"VG--1-{name.replace('-', '--')}" for name in (BASE, LEAF)}
    vhd.create(names[BASE], 20 * MIB)
    vhd.snapshot(names[LEAF], names[BASE])
    vhd.set_hidden(names[BASE], 1)
    rows = []
    with device.open("wb") as file:
        for extent, name in ((1, BASE), (4, LEAF), (6, RAW)):
            file.seek(MIB + extent * EXTENT)
            file.write(names[name].read_bytes() if name in names else b"raw" * 1000)
            rows.append(row(str(device), name, extent))
        file.truncate(MIB + 8 * EXTENT)
    answer = json.dumps({"report": [{"pvseg": rows}]})
    monkeypatch.setattr(lvm, "_runner", lambda command: (True, 1, [answer], []))
    return device


def row(device: str, name: str, extent: int) -> dict[str, str]:
    return {
        "pv_name": device,
        "pe_start": str(MIB),
        "vg_uuid": "group",
        "lv_uuid": name,
        "vg_free": "0",
        "vg_size": "0",
        "lv_name": name,
        "lv_size": str(2 * EXTENT),
        "lv_attr": "-wi-------",
        "lv_tags": "",
        "seg_start": "0",
        "pvseg_start": str(extent),
    }


def test_volumes(tool: Tool, group: Path) -> None:
    """By name, from the device below them; parents by the volume's name, not the mapper's."""
    base = f"vhd={BASE} capacity=20971520 size=8388608 hidden=1 parent=none"
    leaf = f"vhd={LEAF} capacity=20971520 size=8388608 hidden=0 parent={BASE}"
    assert tool("scan", "-f", "-m", "VHD-*", "-l", "VG-1").lines == [base, leaf]
    assert tool("scan", "-f", "-m", LEAF, "-l", "VG-1").lines == [leaf]
    assert tool("scan", "-f", "-a", "-m", LEAF, "-l", "VG-1").lines == [leaf, base]
    assert tool("scan", "-p", "-m", "VHD-*", "-l", "VG-1").lines == [base, f"   {leaf}"]
    assert tool("scan", "-f", "-m", "none-*", "-l", "VG-1") == Done(0, b"", "")


def test_raw_volume(tool: Tool, group: Path) -> None:
    """No VHD if the pattern asks for it, and a disk if a VHD stands on it."""
    bad = f"vhd={RAW} scan-error=-22 error-message='invalid footer'"
    done = tool("scan", "-f", "-c", "-l", "VG-1")
    assert (done.status, done.lines[0], len(done.lines)) == (0, bad, 3)
    assert tool("scan", "-f", "-l", "VG-1", "-m", "LV-*").status == 22
    Path("VG--1-LV--raw").write_bytes(bytes(20 * MIB))
    vhd.snapshot("leaf", "VG--1-LV--raw", raw_parent=True)
    with group.open("r+b") as device:
        device.seek(MIB + 4 * EXTENT)
        device.write(Path("leaf").read_bytes())
    leaf = f"vhd={LEAF} capacity=20971520 size=8388608 hidden=0 parent={RAW}"
    raw = f"vhd={RAW} capacity=8388608 size=8388608 hidden=1 parent=none"
    assert tool("scan", "-f", "-a", "-l", "VG-1", "-m", LEAF).lines == [leaf, raw]


@pytest.mark.parametrize(
    "told",
    [(True, 1, ['{"report": [{"pvseg": []}]}'], []), (False, 5, [], ["Volume group not found"])],
)
def test_group_that_is_not_there(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, told: tuple[bool, int, list[str], list[str]]
) -> None:
    monkeypatch.setattr(lvm, "_runner", lambda command: told)
    done = tool("scan", "-f", "-l", "VG-2", "-m", "*")
    assert (done.status, done.out) == (5, "")
    assert "VG-2" in done.err
