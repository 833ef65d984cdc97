"""`testbed tools DIR`: what it writes, that this starts anywhere, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import cli, tools
from testbed.errors import ToolsRefused


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "tools"
    tools.write_tools(directory)
    return directory


def run(
    *argv: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_names_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "deep" / "new dir"
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["tools", str(new)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:-1] == [str(new / name) for name in tools.TOOLS]
    assert out[-1] == f"try: PATH='{new}':$PATH vhd-util -h"
    assert sorted(os.listdir(new)) == sorted(tools.TOOLS)


def test_another_of_the_same_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "system" / "td-util"
    tools.write_tools(other.parent)
    monkeypatch.setenv("PATH", str(other.parent))
    assert cli.main(["tools", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[3] == f"note: there is {other}, too; the one that comes first in PATH is used"


@pytest.mark.parametrize("name", tools.TOOLS)
def test_each_starts_without_any_environment(directory: Path, tmp_path: Path, name: str) -> None:
    done = run(directory / name, "-h", cwd=tmp_path, env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name} COMMAND")


def test_found_in_path_and_called_as_drivers_do(directory: Path, tmp_path: Path) -> None:
    env = {"PATH": f"{directory}:{os.environ['PATH']}"}
    script = (
        "td-util create vhd 20 a.vhd && td-util snapshot vhd b.vhd a.vhd &&"
        " vhd-util query --debug -vsfp -n b.vhd; vhd-util query -n gone -v"
    )
    done = run("/bin/sh", "-c", script, cwd=tmp_path, env=env)
    assert done.returncode == 2
    lines = ["20", "5120", str(tmp_path / "a.vhd"), "hidden: 0", "error opening gone: -2"]
    assert done.stdout.splitlines() == lines


def test_nothing_is_imported_from_where_it_is_called(directory: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    for module in ("os", "srs", "errno", "typing", "sitecustomize"):
        (evil / module).mkdir(parents=True)
        (evil / module / "__init__.py").write_text("raise SystemExit('taken over')")
    env = {"PYTHONPATH": str(evil), "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere"}
    done = run(directory / "vhd-util", "create", "-n", "a.vhd", "-s", "2", cwd=evil, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_that_are_no_text(directory: Path, tmp_path: Path) -> None:
    """File names are bytes, and come out as they went in, whatever the locale."""
    name = b"disk\xff\xe4.vhd"
    for env in ({}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}):
        done = subprocess.run(
            [directory / "vhd-util", "query", "-n", name, "-v"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, b"error opening " + name + b": -2\n")


def test_reader_that_goes_away(directory: Path, tmp_path: Path) -> None:
    run(directory / "vhd-util", "create", "-n", "a.vhd", "-s", "20", cwd=tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [directory / "vhd-util", "read", "-n", "a.vhd", "-r", "0", "-c", "40960"],
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (32, b"")


def test_output_that_finds_no_room(directory: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [directory / "vhd-util", "-h"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (28, b"[Errno 28] No space left on device\n")


def test_written_again(directory: Path, tmp_path: Path) -> None:
    """A newer tree takes over its own files, and only those."""
    tool = directory / "vhd-util"
    tool.write_text(tool.read_text().replace("-IS", "-ISv"))
    (directory / "notes").write_text("mine")
    tools.write_tools(directory)
    assert "-ISv" not in tool.read_text()
    assert (directory / "notes").read_text() == "mine"


def test_interpreter_whose_path_no_first_line_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "with space" / "python", tmp_path / ("x" * 150) / "python"):
        place.parent.mkdir()
        place.symlink_to(os.path.realpath(sys.executable))
        monkeypatch.setattr(sys, "executable", str(place))
        tools.write_tools(tmp_path / "out")
        done = run(tmp_path / "out" / "vhd-util", "query", "-n", "a b", "-v", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "error opening a b: -2\n")


@pytest.mark.parametrize("name", tools.TOOLS)
@pytest.mark.parametrize("kind", ["file", "link", "broken link", "directory"])
def test_foreign_files_stay(tmp_path: Path, name: str, kind: str) -> None:
    """A link is foreign, too, even one to a file of ours: its target would be elsewhere."""
    there = tmp_path / "bin" / name
    there.parent.mkdir()
    if kind == "file":
        there.write_text("#!/bin/sh\n")
    elif kind == "directory":
        there.mkdir()
    else:
        if kind == "link":
            tools.write_tools(tmp_path / "other")
        there.symlink_to(tmp_path / "other" / name)
    with pytest.raises(ToolsRefused, match="is not ours"):
        tools.write_tools(there.parent)
    assert os.listdir(there.parent) == [name]


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/../bin", "link"])
def test_directory_in_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (tmp_path / "link").symlink_to(bin_directory)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"/nowhere:{spelling.format(bin_directory)}:/usr/bin")
    with pytest.raises(ToolsRefused, match="is in PATH"):
        tools.write_tools(bin_directory)
    assert os.listdir(bin_directory) == []


def test_current_directory_in_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty entry of PATH means the directory in which somebody stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:")
    assert cli.main(["tools", "."]) == 2
    assert "hint: " in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_no_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert cli.main(["tools", str(place)]) == 2
        assert capsys.readouterr().err.startswith(f"testbed: cannot write to {place}: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Neither root nor anybody else can make files in /proc."""
    for place in (Path("/proc"), Path("/proc/new")):
        with pytest.raises(ToolsRefused, match="cannot write to /proc"):
            tools.write_tools(place)
