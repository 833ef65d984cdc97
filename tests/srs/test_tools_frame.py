"""What all commands have in common: command line, usage, exit codes, and never a traceback."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srs import vhd
from srs.tools import cbt_util, td_util, vhd_util
from srs.tools.frame import Command
from srs.tools.options import Options, UsageError

MAINS = {"vhd-util": vhd_util.main, "td-util": td_util.main, "cbt-util": cbt_util.main}
TABLES = {"vhd-util": vhd_util.COMMANDS, "td-util": td_util.COMMANDS, "cbt-util": cbt_util.COMMANDS}
ALL = [(program, name) for program, table in TABLES.items() for name in table]
USAGE = "-n NAME -s MIB [-S MIB] {-j JOURNAL | -f} [-abc]"


def given_by(*words: str) -> dict[str, str]:
    options = Options("x", USAGE, words)
    return {letter: options[letter] for letter in "nsSjfabch" if letter in options}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n", "x"), {"n": "x"}),
        (("-nx", "-ab"), {"n": "x", "a": "", "b": ""}),
        (("-abn", "x"), {"a": "", "b": "", "n": "x"}),
        (("-n", "-s", "-s", "5"), {"n": "-s", "s": "5"}),
        (("-n", "x", "-n", "y"), {"n": "y"}),
        (("-f", "operand", "-c"), {"f": "", "c": ""}),
        (("-f", "--", "-c"), {"f": ""}),
        (("-", "-h"), {"h": ""}),
        (("-n", ""), {"n": ""}),
        ((), {}),
    ],
)
def test_options(words: tuple[str, ...], expected: dict[str, str]) -> None:
    assert given_by(*words) == expected


def test_operands() -> None:
    assert Options("x", USAGE, ("one", "-a", "two", "--", "-b", "--")).operands == [
        "one",
        "two",
        "-b",
        "--",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-q",), "invalid option -- 'q'"),
        (("-aqb",), "invalid option -- 'q'"),
        (("--all",), "invalid option -- '-'"),
        (("-n",), "option requires an argument -- 'n'"),
        (("-an",), "option requires an argument -- 'n'"),
    ],
)
def test_bad_options(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Options("x", USAGE, words)


def test_what_stands_in_no_brackets_is_needed() -> None:
    Options("x", USAGE, ("-n", "x", "-s", "1")).complete()
    for words in ((), ("-n", "x"), ("-s", "1", "-f"), ("-n", "", "-s", "1")):
        with pytest.raises(UsageError, match="is needed"):
            Options("x", USAGE, words).complete()
    Options("x", "-f", ("-f",)).complete()


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), (str(2**64 - 1), 2**64 - 1)])
def test_numbers(text: str, number: int) -> None:
    assert Options("x", USAGE, ("-s", text)).number("s") == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_0", "0x1", "1.0", "\u00b2", "\u0661", str(2**64)]
)
def test_no_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="is no number"):
        Options("x", USAGE, ("-s", text)).number("s")


@pytest.mark.parametrize(("program", "name"), ALL)
def test_each_command_has_a_function(program: str, name: str) -> None:
    assert callable(TABLES[program][name].load())


@pytest.mark.parametrize(("program", "name"), ALL)
def test_help(program: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command: Command = TABLES[program][name]
    asks_kindly = ("snapshot", "query", "check", "scan", "key")
    if program == "vhd-util":
        assert command.help_status == (0 if name in asks_kindly else 22)
    assert MAINS[program]([name, "-h"]) == command.help_status
    assert capsys.readouterr() == (f"options: {command.usage} [-h]\n", "")


@pytest.mark.parametrize(("program", "name"), ALL)
def test_unknown_letter(program: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAINS[program]([name, "-?"]) == 22
    out, err = capsys.readouterr()
    assert out.startswith("options: ")
    assert err == f"{program} {name}: invalid option -- '?'\n"


def test_reference_names_every_command_and_letter() -> None:
    """And no other; the form of a line is for people."""
    text = (Path(__file__).parents[2] / "docs/reference/vhd.md").read_text()
    block = re.sub(r"\n {20,}", " ", text)
    documented = {
        (program, name): re.findall(r"-(\w+)", usage)
        for program, name, usage in re.findall(r"^    (\w+-util) +(\w+) +(.*)$", block, re.M)
    }
    assert sorted(documented) == sorted(ALL)
    for (program, name), letters in documented.items():
        takes = set("".join(re.findall(r"-(\w+)", TABLES[program][name].usage)))
        # Two letters are there to be refused.
        assert set("".join(letters)) == takes - (set("kE") if name == "copy" else set())


@pytest.mark.parametrize("program", MAINS)
def test_top_level(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, status in (([], 22), (["-h"], 0), (["nope"], 22), (["--debug"], 22)):
        assert MAINS[program](words) == status
        out, err = capsys.readouterr()
        assert out.startswith(f"usage: {program} COMMAND [OPTIONS]\n")
        assert ("nope" in err) == (words == ["nope"])


def test_debug_goes_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.vhd")
    assert vhd_util.main(["--debug", "create", "-n", path, "-s", "2"]) == 0
    assert vhd_util.main(["query", "-n", "--debug", path, "-v", "--debug"]) == 0
    assert capsys.readouterr().out == "2\n"


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with disks, with what looks like disks, and with what does not."""
    directory = tmp_path_factory.mktemp("somewhere")
    vhd.create(directory / "base.vhd", 4 << 20)
    vhd.snapshot(directory / "leaf.vhd", directory / "base.vhd")
    (directory / "raw").write_bytes(bytes(2 << 20))
    (directory / "text.vhd").write_text("text " * 200)
    (directory / "empty.vhd").touch()
    (directory / "sub").mkdir()
    return directory


NAMES = ["base.vhd", "leaf.vhd", "new.vhd", "raw", "text.vhd", "empty.vhd", "sub", "no/such", "."]
NUMBERS = ["0", "1", "2", "4", "512", "4194304", str(2**63), str(10**30), "-1", "x", ""]
OTHERS = ["vhd", "aio", "hidden", "marker", "*", "*.vhd", "{base,leaf}.vhd", "[", "none", "--", "ä"]
LETTERS = "abcdefhijkmnopqrstuvxzBCEHIMNRS?-"  # no l: it has LVM read all devices
WORDS = st.one_of(
    st.sampled_from(NAMES + NUMBERS + OTHERS),
    st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4).map(lambda x: "-" + "".join(x)),
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), max_size=8),
)
PAIRS = st.one_of(
    st.tuples(st.just("-n"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["-s", "-S", "-c", "-r", "-t"]), st.sampled_from(NUMBERS)),
    st.tuples(st.sampled_from(["-p", "-N", "-j"]), st.sampled_from(NAMES)),
    WORDS.map(lambda word: (word,)),
)


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(ALL), st.lists(PAIRS, max_size=6), st.sampled_from(["", "vhd", "base.vhd"]))
def test_no_command_line_ends_in_a_traceback(
    somewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    which: tuple[str, str],
    pairs: list[tuple[str, ...]],
    operand: str,
) -> None:
    """Disks change under these, which is as good a start for the next as any."""
    monkeypatch.chdir(somewhere)
    program, name = which
    words = [word for pair in pairs for word in pair]
    status = MAINS[program]([name, operand, *words] if operand else [name, *words])
    out, err = capsysbinary.readouterr()
    assert 0 <= status <= 133
    assert status == 0 or out or err
    assert os.path.isdir("sub")


PATCHES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2100), st.integers(2040, 4608), st.integers(-512, -1)),
        st.one_of(st.binary(min_size=1, max_size=24), st.sampled_from([b"\0" * 8, b"\xff" * 8])),
    ),
    max_size=6,
)


CONTROLS = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n"}


def sealed(raw: bytearray) -> None:
    """Give footers and header the checksums that belong to their bytes."""
    for start, length, at in ((0, 512, 64), (len(raw) - 512, 512, 64), (512, 1024, 36)):
        part = raw[start : start + length]
        part[at : at + 4] = bytes(4)
        raw[start + at : start + at + 4] = (~sum(part) & 0xFFFFFFFF).to_bytes(4, "big")


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(PATCHES, st.booleans(), st.one_of(st.none(), st.integers(0, 6000)))
def test_no_damage_ends_in_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    patches: list[tuple[int, bytes]],
    seal: bool,
    length: int | None,
) -> None:
    """Looking at a damaged disk gives an answer, and on stdout nothing that a terminal obeys."""
    monkeypatch.chdir(tmp_path)
    if not os.path.exists("leaf.vhd"):
        vhd.create("base.vhd", 4 << 20)
        vhd.snapshot("leaf.vhd", "base.vhd")
        with vhd.open_chain("leaf.vhd", writable=True) as disk:
            disk.write(0, bytes(2 << 20))
        os.rename("leaf.vhd", "sound")
    raw = bytearray(Path("sound").read_bytes())
    for at, data in patches:
        at %= len(raw)
        raw[at : at + len(data)] = data[: len(raw) - at]
    if seal:
        sealed(raw)
    Path("leaf.vhd").write_bytes(raw[:length])
    for words in (
        "query -vspfmdaS",
        "query -pu",
        "read -p",
        "read -t 0 -b 0 -i 0 -e 0 -c 2",
        "check -s",
        "check -p",
        "key -p",
    ):
        status = vhd_util.main([*words.split(), "-n", "leaf.vhd"])
        out, err = capsysbinary.readouterr()
        assert 0 <= status <= 133
        assert status == 0 or out or err
        assert not set(out.decode()) & CONTROLS
    for words in ("scan -M leaf.vhd", "scan -f -M leaf.vhd", "scan -p leaf.vhd base.vhd"):
        assert 0 <= vhd_util.main(words.split()) <= 133
    capsysbinary.readouterr()
