"""The house rules that a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("testbed", "srs", "xapi", "scenarios")


def tool(*argv: str) -> None:
    """Run a linter of this environment; its findings are the failure's text."""
    program = Path(sys.executable).with_name(argv[0])
    done = subprocess.run(
        [program, *argv[1:]],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    tool("ruff", "check", "--no-fix")


def test_everything_is_formatted() -> None:
    tool("ruff", "format", "--check")


def test_mypy_strict_finds_nothing() -> None:
    tool("mypy")


def test_rooms_keep_to_their_arrows() -> None:
    tool("lint-imports")


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_is_over_500_lines(room: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / room).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


@pytest.mark.parametrize("part", ["srs", "testbed/guest"])
def test_what_runs_in_the_guest_stands_on_the_standard_library(part: str) -> None:
    """Every other package would have to be found, and paid for, inside the guest."""
    allowed = sys.stdlib_module_names | {"srs", "testbed"}
    imported: set[str] = set()
    for path in (ROOT / part).rglob("*.py"):
        if path.name == "netlink.py":
            continue  # see there: a process of its own, which ends afterwards
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert "os" in imported
    assert imported <= allowed
