"""FIST points: every name is known, every point has a name, and what a file's content does."""

import re
import time
from pathlib import Path
from typing import NoReturn

import pytest

import srs
from srs import fist, paths
from srs.errors import FistPoint, SRNoSpace

_POINT = re.compile(r'fist\.point\(\s*f?"([^"]+)"')


def placed() -> set[str]:
    """Names of points in the drivers; `{...}` in one stands for anything."""
    root = Path(srs.__file__).parent
    return {name for path in root.rglob("*.py") for name in _POINT.findall(path.read_text())}


def test_every_point_has_a_name() -> None:
    assert placed()
    for name in placed():
        pattern = re.sub(r"{.*?}", r"\\w+", name)
        assert any(re.fullmatch(pattern, known) for known in fist.NAMES), name


@pytest.fixture
def switched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "FIST", f"{tmp_path}/fist_")
    return tmp_path / "fist_FileSR_fail_snap1"


def full() -> NoReturn:
    raise SRNoSpace("full")


def test_what_a_file_says(switched: Path) -> None:
    fist.point("FileSR_fail_snap1")
    switched.write_text("error")
    with pytest.raises(FistPoint):
        fist.point("FileSR_fail_snap1")
    fist.point("FileSR_fail_snap2")
    switched.write_text("")
    with pytest.raises(SRNoSpace):
        fist.point("FileSR_fail_snap1", full)
    (switched.parent / "fist_LVHDRT_exit").touch()
    with pytest.raises(FistPoint):
        fist.point("FileSR_fail_snap1")


def test_waiting(switched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    switched.write_text("")
    fist.point("FileSR_fail_snap1")
    switched.write_text("sleep 2.5")
    fist.point("FileSR_fail_snap1", full)
    assert slept == [30.0, 2.5]


def test_a_point_is_no_failure_to_be_undone() -> None:
    undone: list[int] = []
    with pytest.raises(FistPoint), fist.undone_by(lambda: undone.append(1)):
        raise FistPoint("x")
    assert undone == []
    with pytest.raises(OSError), fist.undone_by(lambda: undone.append(1)):  # noqa: PT011
        raise OSError
    assert undone == [1]
