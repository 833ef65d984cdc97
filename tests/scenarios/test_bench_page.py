"""The page of a run stands alone, and a browser shows it."""

import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import runpage
from scenarios.bench import html
from scenarios.bench.cases import GIB, SMALL, Case
from scenarios.bench.compare import compare
from scenarios.bench.results import Result, Results
from scenarios.bench.stand import Counts, Sample, Step
from scenarios.crash import page as crashpage
from scenarios.pages.chain import Node, picture
from scenarios.pages.page import plain, tag
from scenarios.report import Results as Outcomes
from scenarios.report import repeat

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
STEPS = (
    Step("lvm lvcreate", 0.05, 1),
    Step("fsync", 0.001, 0),
    Step("xapi VDI.get_record", 0.002, 0),
)
CASES = (
    Case("revert", GIB),
    Case("revert"),
    Case("fallback"),
    Case("revert", SMALL),
    Case("revert", SMALL, depth=29),
)
CHAIN = (
    Node("aaaa", "base copy", "", "8 MiB"),
    Node("bbbb", "disk", "aaaa", "4 MiB"),
    Node("cccc", "snapshot", "aaaa", "4 MiB"),
)


def results(tree: str = "", slower: float = 1.0) -> list[Result]:
    counts = Counts(0, 4, 5, ("vdi_revert",), 1 << 20, STEPS)
    samples = [Sample(slower * n / 10, slower * n / 10, 0.1, 4096, 5) for n in range(1, 9)]
    return [Result("lvhd", case, tree, counts, samples) for case in CASES]


def run_of(found: list[Result]) -> Results:
    about = {"machine": "2 of <486>", "kernel under test": "6.1"}
    return Results(about, found, {"lvhd": (CHAIN, CHAIN[:2])})


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    html.page(path, run_of(results()), {})
    return path


class Strict(HTMLParser):
    """Every element is closed, in its place; what they are is kept."""

    EMPTY = frozenset({"meta", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(name)
        self.links += [value or "" for key, value in attributes if key in ("src", "href")]
        if name not in self.EMPTY:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def parsed(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


def test_the_page_stands_alone(page: Path) -> None:
    text = page.read_text()
    found = parsed(text)
    assert found.links == ["data:,"]
    assert "script" not in found.seen
    assert not re.search(r"url\(|@import|https?://", text)
    assert found.seen.count("svg") == 5, "size, depth, time, and a chain twice"
    assert "2 of &lt;486&gt;" in text


def test_two_trees(tmp_path: Path) -> None:
    old, new = results("baseline"), results("candidate", slower=1.3)
    pairs = [compare(a, b, in_turns=True) for a, b in zip(old, new, strict=True)]
    html.comparison_page(tmp_path / "page.html", run_of(old + new), pairs, 0.05, {})
    text = (tmp_path / "page.html").read_text()
    parsed(text)
    assert "5 regressions" in text
    assert "1.30 (1.30-1.30)" in text


@given(st.text(), st.text())
def test_no_text_is_taken_for_an_element(content: str, value: str) -> None:
    clean = {ord(character): None for character in "\0\r"}
    text = plain(tag("p", content.translate(clean), title=value.translate(clean)))
    assert parsed(text).seen == ["p"]


def test_a_chain_whose_base_is_missing_is_drawn_all_the_same() -> None:
    lost = Node("dddd", "disk", "gone", "0 B")
    assert plain(picture([*CHAIN, lost], "chain")).count("<rect") == 4


@pytest.mark.skipif(BROWSER is None, reason="no chromium-headless-shell")
@pytest.mark.parametrize("width", [375, 1200])
def test_a_browser_shows_it_without_complaint(page: Path, tmp_path: Path, width: int) -> None:
    shown = tmp_path / "page.png"
    done = subprocess.run(
        [
            str(BROWSER),
            *("--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(f"--window-size={width},2000", f"--screenshot={shown}", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "CONSOLE" not in done.stderr
    assert shown.read_bytes()[:4] == b"\x89PNG"
    assert shown.stat().st_size > 20_000, "more than an empty page"


def command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_page_of_scenarios(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    done = command("run", "faults", "-k", "garbled", "--sr", "file", "-n", "1", "--html", path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text()
    assert parsed(text).links == ["data:,"]
    assert "Every scenario passed" in text
    assert "garbled request" in text


def test_the_page_of_a_failure(tmp_path: Path) -> None:
    found = Outcomes()
    report = pytest.TestReport(
        "scenarios/faults/test_x.py::test_y",
        ("test_x.py", 1, "test_y"),
        {},
        "failed",
        "1 < 2 & more",
        "call",
        sections=[("last lines of host", "panic")],
        user_properties=[("group", "faults"), ("title", "y"), ("sr", "ext")],
    )
    found.add(report)
    runpage.page(tmp_path / "run.html", found, 1.0, "uml", ["testbed run --keep y"], [])
    text = (tmp_path / "run.html").read_text()
    parsed(text)
    for expected in ("Scenarios failed", "1 &lt; 2 &amp; more", "panic", "testbed run --keep y"):
        assert expected in text


@pytest.mark.parametrize(
    ("profile", "words"), [("quick", []), ("deep", ["--examples", "/kept", "--profile", "deep"])]
)
def test_what_repeats_a_failure_tries_the_same_programs(profile: str, words: list[str]) -> None:
    given = {"--profile": profile, "--kernel": "uml", "--pool": 0}
    given |= {"--driver": None, "--examples": "/kept" if profile == "deep" else None}
    file = str(Path(runpage.__file__).parent / "property/test_programs.py")
    failure = pytest.TestReport(
        "scenarios/property/test_programs.py::test_random_programs[ext]",
        ("test_programs.py", 1, "test_random_programs"),
        {},
        "failed",
        "Wrong",
        "call",
        user_properties=[("group", "property"), ("title", "x"), ("sr", "ext"), ("file", file)],
    )
    found = shlex.split(repeat(failure, given.__getitem__))
    test = "property/test_programs.py::test_random_programs[ext]"
    assert found == ["testbed", "run", "--sr", "ext", *words, "--kernel", "uml", "--keep", test]


def title(path: Path) -> str:
    text = path.read_text()
    parsed(text)
    return text.partition("<h1>")[2].partition("</h1>")[0]


@pytest.mark.parametrize(
    ("problems", "expected"),
    [([], "No scenario ran"), (["SyntaxError in <x>"], "Not every scenario could run")],
)
def test_a_run_of_nothing_is_no_success(tmp_path: Path, problems: list[str], expected: str) -> None:
    path = tmp_path / "run.html"
    runpage.page(path, Outcomes(counts={"skipped": 3}), 1.0, "uml", [], problems)
    assert title(path) == expected
    for problem in problems:
        assert problem.replace("<", "&lt;").replace(">", "&gt;") in path.read_text()


def test_what_could_not_be_measured_is_on_the_page(tmp_path: Path) -> None:
    path, broken = tmp_path / "page.html", {"ext": OSError("no room")}
    old, new = results("baseline"), results("candidate")
    pairs = [compare(a, b, in_turns=True) for a, b in zip(old, new, strict=True)]
    html.comparison_page(path, run_of(old + new), pairs, 0.05, broken)
    assert title(path) == "Not everything could be compared"
    assert "ext: no room" in path.read_text()
    html.comparison_page(path, run_of([]), [], 0.05, {})
    assert title(path) == "Not everything could be compared"
    html.page(path, run_of([]), broken)
    assert "ext: no room" in path.read_text()


def test_no_power_cut_is_none_survived(tmp_path: Path) -> None:
    path = tmp_path / "crash.html"
    crashpage.page(path, {}, {}, "0 states")
    assert title(path) == "No power was cut"
    crashpage.page(path, {}, {("ext", "revert"): OSError("no room")}, "0 states")
    assert title(path) == "Not every operation could be explored"


def test_the_page_of_power_cuts(tmp_path: Path) -> None:
    path = tmp_path / "crash.html"
    chosen = ("--sr", "file", "--operation", "revert", "--states", "8", "--jobs", "1")
    done = command("crash", *chosen, "--keep", tmp_path, "--html", path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text()
    assert parsed(text).links == ["data:,"]
    assert "Every power cut is survived" in text
