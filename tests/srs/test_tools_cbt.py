"""`cbt-util`: the logs of changed blocks, as drivers make, ask and merge them."""

from pathlib import Path

import pytest
from toolbox import Done, Tool

from srs.tools import cbt_util

MIB = 1 << 20
ID = "11111111-2222-3333-4444-555555555555"
OTHER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
NONE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def cbt(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Tool:
    monkeypatch.chdir(tmp_path)
    return Tool(capsysbinary, cbt_util.main)


def test_fresh_log(cbt: Tool) -> None:
    assert cbt("create", "-n", "a.cbtlog", "-s", 20 * MIB) == Done(0, b"", "")
    assert Path("a.cbtlog").stat().st_size == 88
    for letter, text in (("p", NONE), ("c", NONE), ("f", "0"), ("s", "20971520")):
        assert cbt("get", "-n", "a.cbtlog", f"-{letter}").out == f"{text}\n"
    assert cbt("get", "-n", "a.cbtlog", "-b").raw == bytes(40)


@pytest.mark.parametrize(("gib", "length"), [(2040, 4177968), (1, 2096)])
def test_length(cbt: Tool, gib: int, length: int) -> None:
    cbt("create", "-n", "a", "-s", gib << 30)
    assert Path("a").stat().st_size == length


def test_fields(cbt: Tool) -> None:
    cbt("create", "-n", "a", "-s", 20 * MIB)
    assert cbt("set", "-n", "a", "-p", ID, "-c", OTHER, "-f", 1) == Done(0, b"", "")
    assert [cbt("get", "-n", "a", letter).out for letter in ("-p", "-c", "-f")] == [
        f"{ID}\n",
        f"{OTHER}\n",
        "1\n",
    ]
    raw = Path("a").read_bytes()
    assert raw[:16].hex() == ID.replace("-", "")
    assert raw[32:36] == b"\1\0\0\0"
    cbt("set", "-n", "a", "-f", -2)
    assert cbt("get", "-n", "a", "-f").out == "-2\n"


def test_id_that_cannot_be_read_changes_nothing(cbt: Tool) -> None:
    cbt("create", "-n", "a", "-s", 20 * MIB)
    cbt("set", "-n", "a", "-p", ID)
    for text in ("x", "", ID[:-1], f"{{{ID}}}x", "g" * 32):
        done = cbt("set", "-n", "a", "-p", text)
        assert (done.status, done.out) == (0, "")
    assert cbt("get", "-n", "a", "-p").out == f"{ID}\n"


def test_size_grows_only(cbt: Tool) -> None:
    cbt("create", "-n", "a", "-s", 20 * MIB)
    raw = bytearray(Path("a").read_bytes())
    raw[48] = 0x81
    Path("a").write_bytes(raw)
    assert cbt("set", "-n", "a", "-s", 40 * MIB).status == 0
    assert cbt("get", "-n", "a", "-b").raw == b"\x81" + bytes(79)
    before = Path("a").read_bytes()
    done = cbt("set", "-n", "a", "-s", 20 * MIB)
    assert done == Done(22, b"", "Size smaller than current file size (41943040)\n")
    assert Path("a").read_bytes() == before
    assert cbt("set", "-n", "a", "-s", 1 << 60).status == 22


def test_coalesce(cbt: Tool) -> None:
    """What changed before is added to what changed after; the child's disk may have grown."""
    for name, size, byte in (("old", 20, 0x81), ("new", 40, 0x03)):
        cbt("create", "-n", name, "-s", size * MIB)
        raw = bytearray(Path(name).read_bytes())
        raw[48] = byte
        Path(name).write_bytes(raw)
    assert cbt("coalesce", "-p", "old", "-c", "new") == Done(0, b"", "")
    assert cbt("get", "-n", "new", "-b").raw == b"\x83" + bytes(79)
    assert cbt("get", "-n", "old", "-b").raw == b"\x81" + bytes(39)
    assert cbt("coalesce", "-p", "new", "-c", "old").status == 22


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("get", "-n", "gone", "-s"), 2),
        (("get", "-n", "short", "-s"), 5),
        (("get", "-n", "log"), 22),
        (("get", "-n", "log", "-s", "-f"), 22),
        (("get", "-s"), 22),
        (("set", "-n", "gone", "-f", "1"), 2),
        (("set", "-n", "short", "-f", "1"), 5),
        (("set", "-n", "log", "-f", "x"), 22),
        (("set", "-n", "log", "-f", "2147483648"), 22),
        (("set", "-n", "log", "-s", "x"), 22),
        (("create", "-n", "gone/log", "-s", "1"), 2),
        (("create", "-n", "log", "-s", "0"), 22),
        (("create", "-n", "log"), 22),
        (("coalesce", "-p", "log"), 22),
        (("coalesce", "-p", "gone", "-c", "log"), 2),
        (("coalesce", "-p", "log", "-c", "short"), 5),
    ],
)
def test_refused(cbt: Tool, words: tuple[str, ...], status: int) -> None:
    Path("short").write_bytes(bytes(20))
    cbt("create", "-n", "log", "-s", 20 * MIB)
    before = Path("log").read_bytes()
    done = cbt(*words)
    assert done.status == status
    assert done.err
    assert Path("log").read_bytes() == before
