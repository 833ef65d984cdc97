"""`vhd-util create`, `snapshot`, `query`, `set`, `modify` and `key`, line by line."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from toolbox import Done, Tool

from srs import vhd
from srs.vhd.image import Image
from srs.vhd.parent import open_disk

MIB = 1 << 20


@pytest.fixture
def tool(capsysbinary: pytest.CaptureFixture[bytes]) -> Tool:
    return Tool(capsysbinary)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names in these tests are relative, as drivers like to have them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, offset: int, data: bytes) -> None:
    with vhd.open_chain(name, writable=True) as disk:
        disk.write(offset, data)


@pytest.fixture
def chain(tool: Tool) -> None:
    """``base.vhd`` with two blocks, and ``leaf.vhd`` on it."""
    assert tool("create", "-n", "base.vhd", "-s", 20).status == 0
    write("base.vhd", 0, b"b" * 4 * MIB)
    assert tool("snapshot", "-n", "leaf.vhd", "-p", "base.vhd").status == 0


@pytest.mark.parametrize(
    ("mib", "size"), [(1, 2 * MIB), (3, 4 * MIB), (20, 20 * MIB), (102400, 100 << 30)]
)
def test_create_is_silent_and_rounds_up(tool: Tool, mib: int, size: int) -> None:
    done = tool("create", "-n", "a.vhd", "-s", mib)
    assert done == Done(0, b"", "")
    assert vhd.query("a.vhd").size == size
    assert tool("query", "-n", "a.vhd", "-v").out == f"{size // MIB}\n"


def test_create_with_room_to_grow(tool: Tool) -> None:
    assert tool("create", "-n", "a.vhd", "-s", 20, "-S", 2097152).status == 0
    done = tool("query", "-n", "a.vhd", "-vsS")
    assert done.lines == ["20", "4327936", "2097152"]


def test_create_refuses_less_room_than_size(tool: Tool) -> None:
    done = tool("create", "-n", "a.vhd", "-s", 20, "-S", 10)
    assert (done.status, done.out) == (22, "Error: <-S size> must be greater than <-s size>\n")
    assert not os.path.exists("a.vhd")


def test_create_where_no_directory_is(tool: Tool) -> None:
    done = tool("create", "-n", "gone/a.vhd", "-s", 20)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[0] == "gone/a.vhd: failed to create: -2"


@pytest.mark.parametrize("words", [("-s", "0"), ("-s", "x"), ("-s", "-1"), ("-s", "1" * 30), ()])
def test_create_with_a_bad_size(tool: Tool, words: tuple[str, ...]) -> None:
    assert tool("create", "-n", "a.vhd", *words).status == 22
    assert not os.path.exists("a.vhd")


def test_query_prints_in_its_own_order(tool: Tool, chain: None, directory: Path) -> None:
    """Whatever the order of the letters: size, bytes, parent, hidden, marker, depth, blocks, -S."""
    done = tool("query", "-S", "-a", "-dmf", "-n", "leaf.vhd", "-psv")
    assert (done.status, done.err) == (0, "")
    assert done.lines == [
        "20",
        str(5120),
        str(directory / "base.vhd"),
        "hidden: 0",
        "marker: 0",
        "chain depth: 2",
        "0",
        "20",
    ]


def test_query_of_a_root(tool: Tool, chain: None) -> None:
    physical = os.path.getsize("base.vhd")
    done = tool("query", "-n", "base.vhd", "-vsfpda")
    assert done.lines == [
        "20",
        str(physical),
        "base.vhd has no parent",
        "hidden: 0",
        "chain depth: 1",
        "2",
    ]


def test_query_without_a_question_says_nothing(tool: Tool, chain: None) -> None:
    for words in ((), ("-u",)):
        done = tool("query", "-n", "leaf.vhd", *words)
        assert (done.status, done.out) == (0, "")


def test_query_when_the_parent_is_gone(tool: Tool, chain: None) -> None:
    os.rename("base.vhd", "away.vhd")
    done = tool("query", "-n", "leaf.vhd", "-vpfd")
    assert done.status == 2
    assert done.lines == ["20", "query failed", "hidden: 0", "error checking chain depth: -2"]
    stored = tool("query", "-n", "leaf.vhd", "-pu")
    assert (stored.status, stored.out) == (0, "./base.vhd\n")


def test_query_after_a_cut_between_two_locators(tool: Tool, chain: None) -> None:
    """The header decides: what it describes is the parent as stored."""
    leaf = Path("leaf.vhd")
    tool("create", "-n", "next.vhd", "-s", 20)
    before = leaf.read_bytes()
    image = open_disk("leaf.vhd")
    assert isinstance(image, Image)
    first = image.header.locators[0]
    image.close()
    assert tool("modify", "-n", "leaf.vhd", "-p", "next.vhd").status == 0
    after, end = leaf.read_bytes(), first.offset + first.capacity
    leaf.write_bytes(before[: first.offset] + after[first.offset : end] + before[end:])
    assert leaf.read_bytes() != before
    assert tool("query", "-n", "leaf.vhd", "-pu").out == "./base.vhd\n"


def test_query_of_a_raw_chain(tool: Tool, directory: Path) -> None:
    Path("raw").write_bytes(bytes(9 * MIB))
    assert tool("snapshot", "-n", "r1.vhd", "-p", "raw", "-m").status == 0
    assert tool("snapshot", "-n", "r2.vhd", "-p", "r1.vhd").status == 0
    first = tool("query", "-n", "r1.vhd", "-vpdS")
    assert first.lines == ["9", str(directory / "raw"), "chain depth: 2", "10"]
    assert tool("query", "-n", "r2.vhd", "-vp").lines == ["10", str(directory / "raw")]


@pytest.mark.parametrize("name", ["gone.vhd", "text.vhd"])
def test_query_of_what_is_no_disk(tool: Tool, name: str) -> None:
    Path("text.vhd").write_text("no disk at all\n" * 100)
    code = 2 if name == "gone.vhd" else 22
    done = tool("query", "-n", name, "-v")
    assert (done.status, done.out) == (code, f"error opening {name}: -{code}\n")


def test_snapshot_of_an_empty_disk(tool: Tool, chain: None, directory: Path) -> None:
    """Its parent is linked instead, unless -e says otherwise."""
    tool("snapshot", "-n", "a.vhd", "-p", "leaf.vhd")
    tool("snapshot", "-n", "b.vhd", "-p", "leaf.vhd", "-e", "-S", 2097152)
    assert tool("query", "-n", "a.vhd", "-p").out == f"{directory}/base.vhd\n"
    done = tool("query", "-n", "b.vhd", "-pdS")
    assert done.lines == [str(directory / "leaf.vhd"), "chain depth: 3", "2097152"]


def test_snapshot_depth_limit(tool: Tool, chain: None) -> None:
    words = "snapshot", "-n", "deep.vhd", "-p", "leaf.vhd", "-e", "-l"
    done = tool(*words, 2)
    assert done.status == 28
    assert done.out == "snapshot depth exceeded: current depth: 2, limit: 2\n"
    assert not os.path.exists("deep.vhd")
    assert tool(*words, 3).status == 0


def test_snapshot_onto_itself_keeps_the_disk(tool: Tool, chain: None) -> None:
    before = Path("leaf.vhd").read_bytes()
    done = tool("snapshot", "-n", "leaf.vhd", "-p", "./leaf.vhd")
    assert done.status == 40
    assert Path("leaf.vhd").read_bytes() == before


def test_snapshot_smaller_than_its_parent(tool: Tool, chain: None) -> None:
    assert tool("snapshot", "-n", "a.vhd", "-p", "base.vhd", "-S", 10).status == 22
    assert not os.path.exists("a.vhd")


@pytest.mark.parametrize(
    ("value", "printed"), [("0", "0"), ("1", "1"), ("127", "127"), ("128", "-128"), ("255", "-1")]
)
@pytest.mark.parametrize(("field", "letter"), [("hidden", "f"), ("marker", "m")])
def test_set(tool: Tool, chain: None, field: str, letter: str, value: str, printed: str) -> None:
    """The marker has a neighbour, the map, which says that two blocks are full."""
    done = tool("set", "-n", "base.vhd", "-f", field, "-v", value)
    assert (done.status, done.out) == (0, "")
    query = tool("query", "-n", "base.vhd", f"-{letter}")
    assert query.out == f"{field}: {printed}\n"
    raw = Path("base.vhd").read_bytes()
    assert raw[2560] == 0xC0
    assert raw[:512] == raw[-512:]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("-f", "size", "-v", "1"), "invalid field size"),
        (("-f", "hidden", "-v", "256"), "invalid value 256"),
        (("-f", "hidden", "-v", "-1"), "invalid value -1"),
        (("-f", "marker", "-v", "x"), "invalid value x"),
    ],
)
def test_set_refuses(tool: Tool, chain: None, words: tuple[str, ...], line: str) -> None:
    before = Path("base.vhd").read_bytes()
    done = tool("set", "-n", "base.vhd", *words)
    assert (done.status, done.out) == (22, f"{line}\n")
    assert Path("base.vhd").read_bytes() == before


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk without its last footer, on a file system that has no room for another."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(mount, check=True)
    disk, rest = place / "a.vhd", place / "rest"
    vhd.create(disk, 2 * MIB, max_size=700 * MIB)
    os.truncate(disk, 4096)  # All metadata: a footer would begin the next page.
    with rest.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield disk
    subprocess.run(["umount", str(place)], check=True)


def test_hiding_a_disk_that_is_to_be_removed_needs_no_room(tool: Tool, full: Path) -> None:
    done = tool("set", "-n", full, "-f", "hidden", "-v", 1)
    assert (done.status, done.out) == (0, "")
    assert tool("query", "-n", full, "-f").out == "hidden: 1\n"
    assert tool("scan", "-f", full).out.split()[3] == "hidden=1"
    assert tool("set", "-n", full, "-f", "hidden", "-v", 0).status == 28
    assert tool("query", "-n", full, "-f").out == "hidden: 1\n"
    full.with_name("rest").unlink()
    assert tool("set", "-n", full, "-f", "hidden", "-v", 0).status == 0
    assert tool("check", "-n", full).out == f"{full} is valid\n"


def test_modify_relinks(tool: Tool, chain: None, directory: Path) -> None:
    os.mkdir("sub")
    tool("create", "-n", "sub/other.vhd", "-s", 20)
    done = tool("modify", "-n", "leaf.vhd", "-p", "sub/other.vhd")
    assert (done.status, done.out) == (0, "")
    assert tool("query", "-n", "leaf.vhd", "-p").out == f"{directory}/sub/other.vhd\n"
    Path("raw").write_bytes(bytes(20 * MIB))
    assert tool("modify", "-n", "leaf.vhd", "-p", "raw", "-m").status == 0
    assert tool("query", "-n", "leaf.vhd", "-p").out == f"{directory}/raw\n"


@pytest.mark.parametrize(
    ("name", "words", "status", "line"),
    [
        ("base.vhd", ("-p", "leaf.vhd"), 22, "failed to set parent to 'leaf.vhd': -22"),
        ("leaf.vhd", ("-p", "gone.vhd"), 2, "failed to set parent to 'gone.vhd': -2"),
        ("leaf.vhd", ("-s", "4096"), 22, "failed to set physical size to 4096: -22"),
        ("gone.vhd", ("-s", "4096"), 2, "error opening gone.vhd: -2"),
    ],
)
def test_modify_refuses(
    tool: Tool, chain: None, name: str, words: tuple[str, ...], status: int, line: str
) -> None:
    before = [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")]
    done = tool("modify", "-n", name, *words)
    assert (done.status, done.out) == (status, f"{line}\n")
    assert [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")] == before


def test_modify_moves_the_footer(tool: Tool, chain: None) -> None:
    assert tool("modify", "-n", "leaf.vhd", "-s", 8 * MIB).status == 0
    assert os.path.getsize("leaf.vhd") == 8 * MIB
    assert tool("query", "-n", "leaf.vhd", "-vs").lines == ["20", "5120"]


def test_modify_drops_all_data(tool: Tool, chain: None) -> None:
    """A fixed order: data first, then the link."""
    write("leaf.vhd", 0, b"l" * 2 * MIB)
    tool("create", "-n", "other.vhd", "-s", 20)
    write("other.vhd", 0, b"o" * 512)
    done = tool("modify", "-n", "leaf.vhd", "-p", "other.vhd", "-z")
    assert (done.status, done.out) == (0, "")
    raw = Path("leaf.vhd").read_bytes()
    assert (len(raw), raw[1536:2048]) == (5120, (b"\xff" * 40).ljust(512, b"\0"))
    assert raw[2560:3072] == bytes(512)
    assert raw[:512] == raw[-512:]
    with vhd.open_chain("leaf.vhd", writable=True) as disk:
        assert disk.read(0, 1024) == b"o" * 512 + bytes(512)
    assert tool("query", "-n", "leaf.vhd", "-a").out == "0\n"


def test_key(tool: Tool) -> None:
    nonce, secret = bytes(range(32)), b"k" * 64
    digest = hashlib.sha256(nonce + secret).hexdigest()
    path = "a,aes-xts-plain,512.key"
    Path(path).write_bytes(secret)
    tool("create", "-n", "a.vhd", "-s", 2)
    assert tool("key", "-p", "-n", "a.vhd").out == "none\n"
    assert tool("key", "-c", "-n", "a.vhd", "-k", path).status == 2
    words = "key", "-s", "-n", "a.vhd", "-k", path, "-N", nonce.hex()
    assert tool(*words).status == 0
    assert tool("key", "-pn", "a.vhd").out == f"{nonce.hex()} {digest}\n"
    assert tool("key", "-C", "-k", path, "-N", nonce.hex()).out.split()[1] == digest
    assert tool("key", "-c", "-n", "a.vhd", "-k", path).status == 0
    Path(path).write_bytes(b"w" * 64)
    assert tool("key", "-c", "-n", "a.vhd", "-k", path).status == 22
    tool("snapshot", "-n", "b.vhd", "-p", "a.vhd")
    assert tool("key", "-p", "-n", "b.vhd").out == f"{nonce.hex()} {digest}\n"


def test_key_by_its_hash(tool: Tool) -> None:
    tool("create", "-n", "a.vhd", "-s", 2)
    assert tool("key", "-s", "-n", "a.vhd", "-H", "ab" * 32).status == 0
    assert tool("key", "-p", "-n", "a.vhd").out == f"{'00' * 32} {'ab' * 32}\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("-s", "-n", "base.vhd", "-H", "ab" * 32), 22),  # holds data
        (("-s", "-n", "leaf.vhd", "-H", "xy" * 32), 22),
        (("-s", "-n", "leaf.vhd"), 22),
        (("-s", "-n", "leaf.vhd", "-k", "gone.key"), 2),
        (("-s", "-n", "leaf.vhd", "-k", "short.key"), 22),
        (("-s", "-n", "leaf.vhd", "-k", "other.key"), 22),
        (("-C",), 22),
        (("-p", "-c", "-n", "leaf.vhd"), 22),
        (("-p",), 22),
        ((), 22),
    ],
)
def test_key_refuses(tool: Tool, chain: None, words: tuple[str, ...], status: int) -> None:
    Path("short.key").write_bytes(b"short")
    Path("other.key").write_bytes(b"k" * 32)
    before = [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")]
    done = tool("key", *words)
    assert done.status == status
    assert done.err
    assert [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")] == before
