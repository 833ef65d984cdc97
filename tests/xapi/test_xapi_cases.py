"""docs/reference/xapi-tests.md: every case has a row, and what a row names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/xapi-tests.md").read_text()
SOURCES = [path.read_text() for path in sorted((ROOT / "tests/xapi").glob("test_*.py"))]
SCENARIOS = [path.read_text() for path in (ROOT / "scenarios").glob("*/test_*.py")]
TESTS = set(re.findall(r"^def (test_\w+)", "\n".join(SOURCES), re.MULTILINE))


def numbers(letter: str) -> set[int]:
    """The cases of a letter that have a row: Q10-Q13 are four."""
    found: set[int] = set()
    for row in re.findall(r"^\| ([^|]*) \|", PAGE, re.MULTILINE):
        for first, last in re.findall(rf"\b{letter}(\d+)(?:-{letter}(\d+))?", row):
            found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize(
    ("letter", "wanted"),
    [
        ("R", range(1, 12)),
        ("U", range(1, 13)),
        ("Q", [*range(1, 8), *range(10, 44)]),
        ("S", range(1, 16)),
    ],
)
def test_every_case_has_a_row(letter: str, wanted: list[int]) -> None:
    assert numbers(letter) == set(wanted)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:\S+::)?(test_\w+)(?=[.`])", PAGE))))
def test_what_a_row_names_is_there(name: str) -> None:
    files = {path.stem for path in (ROOT / "tests/xapi").glob("test_*.py")}
    assert name in files or any(test.startswith(name) for test in TESTS)


@pytest.mark.parametrize(
    "title", sorted(set(re.findall(r"`(?:vm|revert|clients): ([^`]+)`", PAGE)))
)
def test_scenarios_that_are_named_are_there(title: str) -> None:
    name = "def test_" + title.replace(" ", "_")
    assert any(name in source for source in SCENARIOS)
