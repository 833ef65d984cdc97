"""Paths of parents: what is stored, and what is found again. Examples from XenServer's disks."""

import errno
import os
from pathlib import Path

import pytest

from srs import vhd
from srs.vhd import locator

SPELLINGS = [
    # child, parent, MacX, UTF-16
    ("/sr/c.vhd", "/sr/p.vhd", "file://./p.vhd", ".\\p.vhd"),
    ("/sr/sub/c.vhd", "/sr/base.vhd", "file://../base.vhd", ".\\..\\base.vhd"),
    ("/sr/c.vhd", "/sr/sp ace/c d.vhd", "file://./sp ace/c d.vhd", ".\\sp ace\\c d.vhd"),
    (
        "/dev/mapper/VG_XenStorage--1234-VHD--bbbb",
        "/dev/mapper/VG_XenStorage--1234-VHD--aaaa",
        "file://./VG_XenStorage--1234-VHD--aaaa",
        ".\\VG_XenStorage--1234-VHD--aaaa",
    ),
]


@pytest.mark.parametrize(("child", "parent", "macx", "utf16"), SPELLINGS)
def test_spellings(child: str, parent: str, macx: str, utf16: str) -> None:
    expected = utf16.encode("utf-16-le")
    found = locator.spellings(locator.relative(child, parent))
    assert found == ((b"MacX", macx.encode()), (b"W2ku", expected), (b"W2ru", expected))
    for platform, text in found:
        path = locator.decode(platform, text)
        assert path is not None
        assert os.path.normpath(os.path.join(os.path.dirname(child), path)) == parent


def test_lengths_of_an_lv() -> None:
    (_, macx), (_, w2ku), _ = locator.spellings("./VG_XenStorage--1234-VHD--aaaa")
    assert (len(macx), len(w2ku)) == (38, 62)


@pytest.mark.parametrize(
    ("platform", "text", "path"),
    [
        (b"MacX", b"file:///abs/p.vhd", "/abs/p.vhd"),
        (b"MacX", b"file://./p.vhd\0\0", "./p.vhd"),
        (b"MacX", b"file://./a%20b.vhd", "./a%20b.vhd"),
        (b"MacX", b"./p.vhd", None),
        (b"MacX", b"file://", None),
        (b"MacX", b"file://./\xff", None),
        (b"W2ku", "C:\\dir\\p.vhd".encode("utf-16-le"), "/dir/p.vhd"),
        (b"W2ru", ".\\p.vhd".encode("utf-16-le"), "./p.vhd"),
        (b"W2ru", b"x", None),
        (b"W2ru", b"", None),
        (b"Mac ", b"file://./p.vhd", None),
    ],
)
def test_decode(platform: bytes, text: bytes, path: str | None) -> None:
    assert locator.decode(platform, text) == path


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that stands in for /dev: nodes of dm are made by root only."""
    root = tmp_path / "dev"
    (root / "mapper").mkdir(parents=True)
    (root / "VG_XenStorage-1234").mkdir()
    (root / "drbd/by-res/res").mkdir(parents=True)
    (root / "dm-3").touch()
    (root / "drbd1000").touch()
    (root / "mapper/VG_XenStorage--1234-VHD--aaaa").symlink_to("../dm-3")
    (root / "VG_XenStorage-1234/VHD-aaaa").symlink_to("../dm-3")
    (root / "VG_XenStorage-1234/VHD-cccc").symlink_to("../dm-3")
    (root / "drbd/by-res/res/0").symlink_to("../../../drbd1000")
    (root / "disk").symlink_to("dm-3")
    monkeypatch.setattr(locator, "DEV", str(root))
    return root


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("mapper/VG_XenStorage--1234-VHD--aaaa", "mapper/VG_XenStorage--1234-VHD--aaaa"),
        ("mapper/../mapper//VG_XenStorage--1234-VHD--aaaa", "mapper/VG_XenStorage--1234-VHD--aaaa"),
        ("VG_XenStorage-1234/VHD-aaaa", "mapper/VG_XenStorage--1234-VHD--aaaa"),
        ("VG_XenStorage-1234/VHD-cccc", "dm-3"),
        ("drbd/by-res/res/0", "drbd/by-res/res/0"),
        ("disk", "dm-3"),
    ],
)
def test_canonical_device(dev: Path, path: str, canonical: str) -> None:
    assert locator.canonical(f"{dev}/{path}") == str(dev / canonical)


def test_canonical_file_follows_links(tmp_path: Path) -> None:
    (tmp_path / "base.vhd").touch()
    (tmp_path / "lnk.vhd").symlink_to("base.vhd")
    assert locator.canonical(f"{tmp_path}/lnk.vhd") == str(tmp_path / "base.vhd")


def test_candidates_in_order(tmp_path: Path) -> None:
    for name in ("a.vhd", "b.vhd"):
        (tmp_path / name).touch()
    child = str(tmp_path / "c.vhd")
    paths = ["./gone.vhd", "./b.vhd", str(tmp_path / "a.vhd"), "/b.vhd"]
    assert locator.candidates(child, paths) == [str(tmp_path / "b.vhd"), str(tmp_path / "a.vhd")]


def test_relative_name_as_drivers_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FileSR works in the SR's directory with bare names."""
    monkeypatch.chdir(tmp_path)
    vhd.create("base.vhd", 1)
    vhd.snapshot("leaf.vhd.new", "base.vhd")
    info = vhd.query("leaf.vhd.new")
    assert info.parent == str(tmp_path / "base.vhd")
    assert info.stored_parent == "./base.vhd"


def test_moved_tree_finds_itself(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    vhd.create(tmp_path / "old/base.vhd", 1)
    vhd.snapshot(tmp_path / "old/leaf.vhd", tmp_path / "old/base.vhd")
    (tmp_path / "old").rename(tmp_path / "new")
    assert vhd.query(tmp_path / "new/leaf.vhd").parent == str(tmp_path / "new/base.vhd")


@pytest.mark.parametrize(
    ("name", "number"), [("bäse.vhd", errno.EILSEQ), ("n" * 255, None), ("a" * 130, None)]
)
def test_names_that_can_and_cannot_be_stored(tmp_path: Path, name: str, number: int | None) -> None:
    parent, child = tmp_path / name, tmp_path / "leaf.vhd"
    vhd.create(parent, 1)
    if number is None:
        vhd.snapshot(child, parent)
        assert vhd.query(child).parent == str(parent)
        return
    with pytest.raises(vhd.ParentPathRefused) as caught:
        vhd.snapshot(child, parent)
    assert caught.value.errno == number
    assert not child.exists()


def test_name_longer_than_the_header_field() -> None:
    with pytest.raises(vhd.ParentPathRefused) as caught:
        locator.relative("/sr/c.vhd", "/sr/" + "n" * 257)
    assert caught.value.errno == errno.ENAMETOOLONG
