"""`ci/run` as somebody who is not root, from a checkout of their own."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: On all six kinds of SR; every other group asks the same of the machine.
_GROUPS = ("revert", "faults")
#: An ordinary user id that nobody has here; it needs no entry in any file.
_UID = 54321


def checkout(target: Path) -> None:
    """A copy of what git tracks or would track, as a clone would have it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory that an ordinary user can reach.

    Not one of pytest's: any pytest that starts beside this one closes those to other users.
    """
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        Path(home).chmod(0o711)
        yield Path(home)


def test_ci_run_needs_no_root(home: Path) -> None:
    """The scenarios pass for an ordinary user, and their host leaves no file behind."""
    code = home / "sr-testbed"
    checkout(code)
    user = _UID if os.getuid() == 0 else None
    if user is not None:
        for path in (home, *home.rglob("*")):
            os.chown(path, _UID, _UID)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "HOME": str(home),
        "TMPDIR": str(home),
        "COLUMNS": "120",
    }
    done = subprocess.run(
        [code / "ci/run", *_GROUPS],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=user,
        group=user,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout
    # What ci/setup installs is there: only what needs a device of the host's own is left out.
    assert re.findall(r"(\d+) skipped", done.stdout) == ["6"]
    left = [path.name for path in home.iterdir() if path.name.startswith("sr-testbed-")]
    assert left == []
