"""`vhd-util read`, `check` and `coalesce`: what a disk holds, and moving it."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from toolbox import Done, Tool

from srs import vhd
from srs.vhd.rearrange import carry_out

MIB = 1 << 20


@pytest.fixture
def tool(capsysbinary: pytest.CaptureFixture[bytes]) -> Tool:
    return Tool(capsysbinary)


def write(name: str, offset: int, data: bytes) -> None:
    with vhd.open_chain(name, writable=True) as disk:
        disk.write(offset, data)


@pytest.fixture(autouse=True)
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``base.vhd``, block 2 full; ``leaf.vhd`` on it with the sectors 8191 and 8192 to 8195."""
    monkeypatch.chdir(tmp_path)
    vhd.create("base.vhd", 20 * MIB)
    write("base.vhd", 4 * MIB, b"b" * 2 * MIB)
    vhd.snapshot("leaf.vhd", "base.vhd")
    write("leaf.vhd", 4 * MIB - 512, b"l" * 2560)


HEADERS = r"""VHD Footer Summary:
-------------------
Cookie              : conectix
Features            : \(0x00000002\) <RESV>
File format version : Major: 1, Minor: 0
Data offset         : 512
Timestamp           : \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}
Creator Application : 'tap'
Creator version     : Major: 1, Minor: 3
Creator OS          : Unknown!
Original disk size  : 20 MB \(20971520 Bytes\)
Current disk size   : 20 MB \(20971520 Bytes\)
Geometry            : Cyl: 602, Hds: 4, Sctrs: 17
                    : = 19 MB \(20959232 Bytes\)
Disk type           : Differencing hard disk
Checksum            : (0x[0-9a-f]{8})\|\1 \(Good!\)
UUID                : [0-9a-f-]{36}
Saved state         : No
Hidden              : 0

VHD Header Summary:
-------------------
Cookie              : cxsparse
Data offset \(unusd\) : 18446744073709551615
Table offset        : 1536
Header version      : Major: 1, Minor: 0
Max BAT size        : 10
Block size          : 2097152 \(2 MB\)
Parent name         : base.vhd
Parent UUID         : [0-9a-f-]{36}
Parent timestamp    : \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}
Checksum            : (0x[0-9a-f]{8})\|\2 \(Good!\)

VHD Parent Locators:
--------------------
locator:            : 0
       code         : MacX
       data_space   : 512
       data_length  : 17
       data_offset  : 3072
       decoded name : ./base.vhd

locator:            : 1
       code         : W2ku
       data_space   : 512
       data_length  : 20
       data_offset  : 3584
       decoded name : ./base.vhd

locator:            : 2
       code         : W2ru
       data_space   : 512
       data_length  : 20
       data_offset  : 4096
       decoded name : ./base.vhd

VHD Batmap Summary:
-------------------
Batmap offset       : 2560
Batmap size \(secs\)  : 1
Batmap version      : 0x00010002
Checksum            : 0xffffffff\|0xffffffff \(Good!\)

"""


def test_headers(tool: Tool) -> None:
    done = tool("read", "-n", "leaf.vhd", "-p")
    assert re.fullmatch(HEADERS, done.out)
    assert (done.status, done.err) == (0, "")


def test_headers_as_drivers_match_them(tool: Tool) -> None:
    text = tool("read", "-n", "base.vhd", "-p").out
    assert re.search(r"Disk type\s+: (\S+) hard disk", text)[1] == "Dynamic"  # type: ignore[index]
    assert re.search(r"Block size\s+: (\d+)", text)[1] == "2097152"  # type: ignore[index]
    assert "Locators" not in text
    assert "0x8000000" not in text
    assert "Table offset        : 0x600\n" in tool("read", "-n", "base.vhd", "-px").out


PLACES = """logical sector 4095: block number: 0, sector offset: 4095, file offset: not allocated
logical sector 4096: block number: 1, sector offset: 0, file offset: 8192
logical sector 4097: block number: 1, sector offset: 1, file offset: 8704
"""


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("-t 4095 -c 3", PLACES),
        ("-b 0 -c 3", "block: 0: offset: not allocated\nblock: 1: offset: 7680\n"
                      "block: 2: offset: 2108928\n"),
        ("-b 1 -x", "block: 0x1: offset: 0x1e00\n"),
        ("-i 8190 -c 4", "block 1: sec: 4094: 0\nblock 1: sec: 4095: 1\n"
                         "block 2: sec: 0: 1\nblock 2: sec: 1: 1\n"),
        ("-e 0 -c 40960", "8191 5\n"),
        ("-e 8192 -c 2", "8192 2\n"),
        ("-e 0 -c 8191", ""),
        ("-m 0", "block 0 not allocated\n"),
        ("-d 3", "block 3 not allocated\n"),
        ("-t 40960", None),
        ("-t 40959 -c 2", None),
        ("-b 10", None),
        ("-m 9 -c 2", None),
        ("-d 10", None),
        ("-j 10", None),
        ("-i 40960", None),
        ("-e 40959 -c 2", None),
        ("-r 40960", None),
        ("-R 20971520 -c 512", None),
    ],
)  # fmt: skip
def test_places(tool: Tool, words: str, out: str | None) -> None:
    """Outside the disk nothing is printed and the status is ERANGE."""
    done = tool("read", "-n", "leaf.vhd", *words.split())
    assert (done.status, done.out) == ((34, "") if out is None else (0, out))


def test_bytes(tool: Tool) -> None:
    def raw(*words: object, name: str = "leaf.vhd") -> bytes:
        done = tool("read", "-n", name, *words)
        assert done.status == 0
        return done.raw

    assert raw("-B") == b"\x60\x00"
    assert raw("-B", name="base.vhd") == b"\x20\x00"
    assert raw("-m", 1, "-c", 2) == bytes(511) + b"\x01" + b"\xf0" + bytes(511)
    assert raw("-m", 2, name="base.vhd") == b"\xff" * 512
    assert raw("-a") == bytes(512)
    assert raw("-a", name="base.vhd") == b"\x20" + bytes(511)
    assert raw("-d", 2) == b"l" * 2048 + bytes(2 * MIB - 2048)
    assert raw("-r", 8191, "-c", 6) == b"l" * 2560 + b"b" * 512
    assert raw("-r", 0, "-c", 40960) == (
        bytes(4 * MIB - 512) + b"l" * 2560 + b"b" * (2 * MIB - 2048) + bytes(14 * MIB)
    )
    assert raw("-R", 8191 * 512, "-c", 512) == b"l" * 512
    assert raw("-C", "-r", 0) == bytes(512)


def test_map_bits_go_to_stderr(tool: Tool) -> None:
    done = tool("read", "-n", "base.vhd", "-j", 1, "-c", 2)
    assert done == Done(0, b"", "batmap for block 1: 0\nbatmap for block 2: 1\n")


@pytest.mark.parametrize("words", ["-R 1 -c 512", "-R 0", "-R 512 -c 100"])
def test_bytes_are_whole_sectors(tool: Tool, words: str) -> None:
    done = tool("read", "-n", "leaf.vhd", *words.split())
    assert (done.status, done.raw) == (22, b"")


def test_several_questions_have_one_order(tool: Tool) -> None:
    done = tool("read", "-r", 8192, "-n", "leaf.vhd", "-b", 0, "-t", 0)
    assert done.raw.startswith(b"logical sector 0: ")
    assert done.raw.endswith(b"\nblock: 0: offset: not allocated\n" + b"l" * 512)


def poison(name: str) -> None:
    """What a journaled resize leaves in both footers when it is interrupted."""
    raw = bytearray(Path(name).read_bytes())
    for at in (0, len(raw) - 512):
        raw[at : at + 8] = b"v_poison"
        raw[at + 64 : at + 68] = bytes(4)
        total = ~sum(raw[at : at + 512]) & 0xFFFFFFFF
        raw[at + 64 : at + 68] = total.to_bytes(4, "big")
    Path(name).write_bytes(raw)


def test_poisoned_disk_can_be_looked_at(tool: Tool) -> None:
    """And no more: its data may be on the move."""
    poison("leaf.vhd")
    before = Path("leaf.vhd").read_bytes()
    assert tool("query", "-n", "leaf.vhd", "-vf").lines == ["20", "hidden: 0"]
    for fast in ((), ("-f",)):
        assert tool("scan", *fast, "leaf.vhd").out.endswith(" hidden=0 parent=base.vhd\n")
    assert tool("read", "-n", "leaf.vhd", "-p").lines[2] == "Cookie              : v_poison"
    assert tool("read", "-n", "leaf.vhd", "-b", 1).out == "block: 1: offset: 7680\n"
    for words in (
        ("set", "-f", "hidden", "-v", "1"),
        ("modify", "-p", "base.vhd"),
        ("modify", "-z"),
        ("resize", "-f", "-s", "20"),
        ("coalesce",),
        ("read", "-r", "0"),
        ("check",),
    ):
        assert tool(*words, "-n", "leaf.vhd").status == 22
    assert Path("leaf.vhd").read_bytes() == before


def test_check(tool: Tool) -> None:
    assert tool("check", "-n", "leaf.vhd") == Done(0, b"leaf.vhd is valid\n", "")
    done = tool("check", "-n", "leaf.vhd", "-p")
    assert done.lines == ["leaf.vhd is valid", f"{os.getcwd()}/base.vhd is valid"]
    for words in ("-iItb", "-B"):
        assert tool("check", "-n", "leaf.vhd", words).status == 0


def test_check_statistics(tool: Tool) -> None:
    """Of the five sectors of the leaf the base holds four; the root comes first."""
    done = tool("check", "-n", "leaf.vhd", "-s")
    assert done.status == 0
    assert done.lines == [
        f"{os.getcwd()}/base.vhd: secs allocated: 0x1000 secs written: 0x1000 (100.00%)",
        "leaf.vhd: secs allocated: 0x2000 secs written: 0x5 (0.06%)"
        " secs not in parent: 0x1 (20.00%) secs not in ancestors: 0x1 (20.00%)",
    ]


def test_check_shows_what_is_wrong(tool: Tool) -> None:
    """Reason, verdict, metadata; the backup footer is enough with -i."""
    os.truncate("leaf.vhd", os.path.getsize("leaf.vhd") - 512)
    done = tool("check", "-n", "leaf.vhd")
    assert done.status == 22
    assert done.lines[:3] == [
        "primary footer invalid: invalid cookie",
        "leaf.vhd appears invalid; dumping metadata",
        "VHD Footer Summary:",
    ]
    assert done.lines[-2] == "Checksum            : 0xffffffff|0xffffffff (Good!)"
    assert tool("check", "-n", "leaf.vhd", "-i").out == "leaf.vhd is valid\n"


def test_check_names_the_ancestor_that_is_wrong(tool: Tool) -> None:
    raw = bytearray(Path("base.vhd").read_bytes())
    raw[-400:-300] = b"x" * 100
    Path("base.vhd").write_bytes(raw)
    done = tool("check", "-n", "leaf.vhd", "-p")
    assert done.status == 22
    path = f"{os.getcwd()}/base.vhd"
    assert done.lines[:2] == ["leaf.vhd is valid", "primary footer invalid: invalid checksum"]
    assert done.lines[2] == f"{path} appears invalid; dumping metadata"


@pytest.mark.parametrize(
    ("make", "status", "line"),
    [
        (lambda: None, 2, "cannot stat x: 2"),
        (lambda: os.mkdir("x"), 22, "x is not a regular file or block device"),
        (lambda: os.mkfifo("x"), 22, "x is not a regular file or block device"),
        (lambda: Path("x").write_bytes(b"tiny"), 22, "error calculating end of file: -22"),
    ],
)
def test_check_of_no_disk(tool: Tool, make: object, status: int, line: str) -> None:
    assert callable(make)
    make()
    done = tool("check", "-n", "x")
    assert (done.status, done.lines[0]) == (status, line)


def test_check_of_a_full_header_of_garbage_is_printable(tool: Tool) -> None:
    """Foreign bytes must not reach a terminal."""
    raw = bytearray(Path("leaf.vhd").read_bytes())
    raw[512:1536] = os.urandom(1024)
    Path("leaf.vhd").write_bytes(raw)
    done = tool("check", "-n", "leaf.vhd")
    assert done.status == 22
    assert done.lines[0].startswith("header is invalid: ")
    assert not [letter for letter in done.out if letter < " " and letter != "\n"]


def test_coalesce(tool: Tool) -> None:
    done = tool("coalesce", "-n", "leaf.vhd")
    assert done == Done(0, b"Coalesced 5 sectors", "")
    assert tool("read", "-n", "base.vhd", "-r", 8191, "-c", 6).raw == b"l" * 2560 + b"b" * 512
    assert tool("coalesce", "-n", "leaf.vhd").out == "Coalesced 5 sectors"


def test_coalesce_with_progress(tool: Tool) -> None:
    done = tool("coalesce", "-n", "leaf.vhd", "-s", "-p")
    first, rest = done.out.split("\n", 1)
    assert first == "opening for sparse writes"
    assert re.fullmatch(r"(\r +\d+\.\d\d%)+\r100\.00%\nCoalesced 5 sectors", rest)


def test_coalesce_beyond_the_parent(tool: Tool) -> None:
    vhd.create("small.vhd", 2 * MIB)
    vhd.snapshot("big.vhd", "small.vhd", max_size=20 * MIB)
    vhd.resize("big.vhd", 20 * MIB)
    write("big.vhd", 10 * MIB, b"x" * 512)
    before = Path("small.vhd").read_bytes()
    done = tool("coalesce", "-n", "big.vhd")
    assert (done.status, done.out) == (34, "")
    assert Path("small.vhd").read_bytes() == before


def test_coalesce_into_an_ancestor_and_a_new_file(tool: Tool) -> None:
    vhd.snapshot("top.vhd", "leaf.vhd")
    write("top.vhd", 0, b"t" * 512)
    assert tool("coalesce", "-n", "top.vhd", "-o", "new.vhd").status == 0
    new = tool("read", "-n", "new.vhd", "-r", 0, "-c", 40960).raw
    assert new == tool("read", "-n", "top.vhd", "-r", 0, "-c", 40960).raw
    assert tool("coalesce", "-n", "top.vhd", "-o", "new.vhd").status == 17
    assert tool("coalesce", "-n", "top.vhd", "-a", "base.vhd").out == "Coalesced 6 sectors"
    assert tool("read", "-n", "base.vhd", "-r", 0, "-c", 40960).raw == new
    assert tool("coalesce", "-n", "top.vhd", "-a", "x", "-o", "y").status == 22


@pytest.mark.parametrize(
    ("name", "status", "out"),
    [("base.vhd", 22, ""), ("gone.vhd", 2, "error opening gone.vhd: -2\n")],
)
def test_coalesce_refuses(tool: Tool, name: str, status: int, out: str) -> None:
    done = tool("coalesce", "-n", name)
    assert (done.status, done.out) == (status, out)


def test_copy(tool: Tool) -> None:
    """A disk of its own with all that the chain holds, and no more room than that needs."""
    assert tool("copy", "-n", "leaf.vhd", "-N", "new.vhd") == Done(0, b"", "")
    done = tool("query", "-n", "new.vhd", "-vpa")
    assert done.lines == ["20", "new.vhd has no parent", "2"]
    whole = "-r", 0, "-c", 40960
    assert tool("read", "-n", "new.vhd", *whole).raw == tool("read", "-n", "leaf.vhd", *whole).raw
    assert tool("check", "-n", "new.vhd", "-b").out == "new.vhd is valid\n"
    assert tool("read", "-n", "new.vhd", "-e", 0, "-c", 40960).out == "8191 4097\n"


def test_copy_refuses(tool: Tool) -> None:
    before = Path("base.vhd").read_bytes()
    done = tool("copy", "-n", "leaf.vhd", "-N", "base.vhd")
    assert (done.status, done.out) == (22, "error creating base.vhd: -22\n")
    assert Path("base.vhd").read_bytes() == before
    assert tool("copy", "-n", "gone.vhd", "-N", "new.vhd").out == "error opening gone.vhd: -2\n"
    assert tool("copy", "-n", "leaf.vhd", "-N", "new.vhd", "-E").status == 95
    assert tool("copy", "-n", "leaf.vhd", "-N", "gone/new.vhd").status == 2
    assert not os.path.exists("new.vhd")


def test_fill(tool: Tool) -> None:
    """All that was the parent's is the disk's own; nothing that is read changes."""
    whole = "read", "-n", "leaf.vhd", "-r", 0, "-c", 40960
    before = tool(*whole).raw
    assert tool("fill", "-n", "leaf.vhd") == Done(0, b"", "")
    assert tool("query", "-n", "leaf.vhd", "-a").out == "10\n"
    assert tool("read", "-n", "leaf.vhd", "-e", 0, "-c", 40960).out == "0 40960\n"
    assert tool("check", "-n", "leaf.vhd").out == "leaf.vhd is valid\n"
    assert tool(*whole).raw == before


def test_allocate(tool: Tool) -> None:
    """Blocks 1 to 3 of the base, of which 2 was there, and keeps what it holds; with a footer."""
    assert tool("fill", "-n", "base.vhd", "-b", "-f", 4096, "-t", 12289) == Done(0, b"", "")
    assert tool("read", "-n", "base.vhd", "-B").raw == b"\x70\x00"
    assert tool("read", "-n", "base.vhd", "-e", 0, "-c", 40960).out == "4096 12288\n"
    raw = Path("base.vhd").read_bytes()
    assert raw[:512] == raw[-512:]
    assert tool("check", "-n", "base.vhd", "-b").out == "base.vhd is valid\n"
    content = bytes(4 * MIB) + b"b" * 2 * MIB + bytes(14 * MIB)
    assert tool("read", "-n", "base.vhd", "-r", 0, "-c", 40960).raw == content
    assert tool("fill", "-n", "base.vhd", "-bB").status == 0
    assert tool("query", "-n", "base.vhd", "-a").out == "10\n"


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("leaf.vhd", ("-b",), 22),
        ("base.vhd", ("-b", "-t", "40961"), 34),
        ("base.vhd", ("-b", "-f", "2", "-t", "1"), 34),
        ("base.vhd", ("-b", "-f", "x"), 22),
        ("gone.vhd", (), 2),
    ],
)
def test_fill_refuses(tool: Tool, name: str, words: tuple[str, ...], status: int) -> None:
    """A block that is just allocated hides the parent's data."""
    before = [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")]
    assert tool("fill", "-n", name, *words).status == status
    assert [Path(disk).read_bytes() for disk in ("base.vhd", "leaf.vhd")] == before


def test_repair(tool: Tool) -> None:
    """After a crash in the middle of appending a block there is no footer at the end."""
    sound = Path("leaf.vhd").read_bytes()
    Path("leaf.vhd").write_bytes(sound[:-512] + b"new block" * 1000)
    assert tool("check", "-n", "leaf.vhd").status == 22
    assert tool("check", "-n", "leaf.vhd", "-i").status == 0
    assert tool("repair", "-n", "leaf.vhd") == Done(0, b"", "")
    assert Path("leaf.vhd").read_bytes() == sound
    assert tool("check", "-n", "leaf.vhd").status == 0


def test_repair_by_the_backup(tool: Tool) -> None:
    tool("set", "-n", "leaf.vhd", "-f", "hidden", "-v", 1)
    with open("leaf.vhd", "r+b") as file:
        file.seek(-512, os.SEEK_END)
        primary = bytearray(file.read())
        primary[85], primary[64:68] = 0, bytes(4)
        primary[64:68] = (~sum(primary) & 0xFFFFFFFF).to_bytes(4, "big")
        file.seek(-512, os.SEEK_END)
        file.write(primary)
    assert tool("query", "-n", "leaf.vhd", "-f").out == "hidden: 0\n"
    assert tool("repair", "-n", "leaf.vhd", "-b").status == 0
    assert tool("query", "-n", "leaf.vhd", "-f").out == "hidden: 1\n"


def test_repair_without_any_footer(tool: Tool) -> None:
    Path("leaf.vhd").write_bytes(bytes(8192))
    done = tool("repair", "-n", "leaf.vhd")
    assert (done.status, done.out) == (22, "error opening leaf.vhd: -22\n")


def test_update_has_nothing_to_do(tool: Tool) -> None:
    before = Path("leaf.vhd").read_bytes()
    assert tool("update", "-n", "leaf.vhd") == Done(0, b"", "")
    assert Path("leaf.vhd").read_bytes() == before
    assert tool("update", "-n", "gone.vhd").status == 2


def test_fixed_disk(tool: Tool) -> None:
    """Data and a footer; there is no other structure to talk about."""
    assert tool("create", "-n", "fixed.vhd", "-s", 1, "-r") == Done(0, b"", "")
    done = tool("query", "-n", "fixed.vhd", "-vspfdaS")
    assert done.status == 22
    assert done.lines == [
        "2",
        str(2 * MIB + 512),
        "fixed.vhd has no parent",
        "hidden: 0",
        "chain depth: 1",
        "error reading bat: -22",
        "0",
    ]
    read = tool("read", "-n", "fixed.vhd", "-p")
    assert (read.status, read.out) == (22, "Failed to get bat for fixed.vhd: -22\n")
    assert tool("check", "-n", "fixed.vhd") == Done(0, b"", "")
    assert tool("resize", "-n", "fixed.vhd", "-f", "-s", 4).status == 22
    assert tool("resize", "-n", "fixed.vhd", "-j", "j", "-s", 4).out == (
        "creating journal failed: -22\n"
    )


def test_resize(tool: Tool) -> None:
    """The table of a disk made without -S has room for its own size only."""
    write("base.vhd", 0, b"x" * 512)
    before = Path("base.vhd").read_bytes()
    assert tool("resize", "-n", "base.vhd", "-f", "-s", 2000).status == 22
    assert tool("resize", "-n", "base.vhd", "-f", "-s", 10).status == 22
    done = tool("resize", "-n", "base.vhd", "-j", "journal", "-s", 10)
    assert (done.status, done.out) == (38, "dynamic shrink not fully implemented\n")
    assert Path("base.vhd").read_bytes() == before
    assert tool("resize", "-n", "base.vhd", "-j", "journal", "-s", 1999) == Done(0, b"", "")
    assert not os.path.exists("journal")
    assert tool("query", "-n", "base.vhd", "-v").out == "2000\n"
    assert tool("check", "-n", "base.vhd").out == "base.vhd is valid\n"
    assert tool("read", "-n", "base.vhd", "-r", 0, "-c", 2).raw == b"x" * 512 + bytes(512)


@pytest.mark.parametrize("words", [(), ("-f", "-j", "journal"), ("-s", "5")])
def test_resize_wants_one_way(tool: Tool, words: tuple[str, ...]) -> None:
    assert tool("resize", "-n", "base.vhd", "-s", 40, *words).status == 22


def test_resize_with_a_journal_that_exists(tool: Tool) -> None:
    Path("journal").write_text("mine")
    assert tool("resize", "-n", "base.vhd", "-j", "journal", "-s", 4000).status == 17
    assert Path("journal").read_text() == "mine"


def test_revert(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resize that was cut in the middle: the driver finds the journal and has it undone."""
    before = tool("read", "-n", "leaf.vhd", "-r", 0, "-c", 40960).raw
    middle: dict[str, bytes] = {}

    def remember(*words: Any) -> None:
        middle.update((name, Path(name).read_bytes()) for name in ("leaf.vhd", "journal"))
        carry_out(*words)

    monkeypatch.setattr(sys.modules["srs.vhd.resize"], "carry_out", remember)
    assert tool("resize", "-n", "leaf.vhd", "-j", "journal", "-s", 4000).status == 0
    for name, raw in middle.items():
        Path(name).write_bytes(raw)
    assert tool("read", "-n", "leaf.vhd", "-r", 0).status == 22
    assert tool("query", "-n", "leaf.vhd", "-v").status == 0
    assert tool("revert", "-n", "leaf.vhd", "-j", "journal") == Done(0, b"", "")
    assert not os.path.exists("journal")
    assert tool("query", "-n", "leaf.vhd", "-v").out == "20\n"
    assert tool("check", "-n", "leaf.vhd").out == "leaf.vhd is valid\n"
    assert tool("read", "-n", "leaf.vhd", "-r", 0, "-c", 40960).raw == before
    assert tool("revert", "-n", "leaf.vhd", "-j", "journal").status == 0
    assert tool("revert", "-n", "base.vhd", "-j", "leaf.vhd").status == 22
