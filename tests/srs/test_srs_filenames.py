"""Changes of names that a server carried out, and answered as if it had not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srs import filenames, hardlinks


def answer_is_lost(change: Callable[..., None]) -> Callable[..., None]:
    """A request that is sent, and sent again to a server that does not know it."""

    def twice(*arguments: Any) -> None:
        change(*arguments)
        change(*arguments)

    return twice


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rename", "link", "unlink"):
        monkeypatch.setattr(os, name, answer_is_lost(getattr(os, name)))


@pytest.mark.usefixtures("lossy")
def test_what_has_happened_is_no_failure(tmp_path: Path) -> None:
    source, target, third = (str(tmp_path / name) for name in ("source", "target", "third"))
    Path(source).write_text("here")
    filenames.rename(source, target)
    assert (os.path.exists(source), Path(target).read_text()) == (False, "here")
    filenames.link(target, third)
    assert os.path.samefile(target, third)
    assert filenames.remove(third)
    assert os.listdir(tmp_path) == ["target"]


def test_what_has_not_happened_is_one(tmp_path: Path) -> None:
    """A rename without a source, or whose target is another file; a link over a file."""
    source, target = (str(tmp_path / name) for name in ("source", "target"))
    Path(target).write_text("another")
    with pytest.raises(FileNotFoundError):
        filenames.rename(source, target)
    Path(source).write_text("here")
    with pytest.raises(FileExistsError):
        filenames.link(source, target)
    assert Path(target).read_text() == "another"
    assert not filenames.remove(str(tmp_path / "nowhere"))


def test_a_server_that_is_gone_does_not_say_that_a_file_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "file")
    assert not filenames.exists(path)
    Path(path).touch()
    assert filenames.exists(path)

    def gone(*_arguments: Any, **_keywords: Any) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lstat", gone)
    with pytest.raises(OSError, match="Input/output error"):
        filenames.exists(path)


@pytest.mark.parametrize("able", [True, False])
def test_hard_links_are_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    directory = str(tmp_path)
    assert hardlinks.has_links(directory)
    if not able:
        monkeypatch.setattr(os, "link", refuse)
    assert hardlinks.detect(directory, "probe.new") is able
    assert hardlinks.detect(directory, "probe.new") is None
    assert os.listdir(directory) == ["sm-hardlink.conf"]
    assert hardlinks.has_links(directory) is able


@pytest.mark.parametrize("able", [True, False])
def test_a_file_is_given_away_and_taken_back(tmp_path: Path, able: bool) -> None:
    (tmp_path / "sm-hardlink.conf").write_text(str(int(able)))
    disk, base = (str(tmp_path / name) for name in ("disk.vhd", "base.vhd"))
    Path(disk).write_text("data")
    hardlinks.give_away(disk, base)
    assert Path(base).read_text() == "data"
    assert os.path.exists(disk) is able
    assert not hardlinks.is_split(disk, base)
    hardlinks.take_back(disk, base)
    assert (Path(disk).read_text(), os.path.exists(base)) == ("data", False)
    hardlinks.take_back(disk, base)
    assert Path(disk).read_text() == "data"

    hardlinks.give_away(disk, base)
    (tmp_path / "leaf").write_text("leaf")
    (tmp_path / "leaf").rename(disk)
    assert hardlinks.is_split(disk, base)
