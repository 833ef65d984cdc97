"""docs/tutorial.md, run from its own text: what it shows is what happens, on lvhd and on ext."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_END = "-- end of output --"


@dataclass
class Step:
    """A command of the page, and what the page says that it prints."""

    command: str
    shown: str


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for block in _BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], ""))
            else:
                found[-1].shown += f"{line}\n"
    return found


class Uuids:
    """Those of the page stand for those of the run: one for one, from beginning to end.

    Args:
        known: what stands for what already.
    """

    def __init__(self, known: Uuids | None = None) -> None:
        self._real: dict[str, str] = dict(known._real) if known else {}

    def check(self, step: Step, printed: str) -> None:
        for shown, real in zip(_UUID.findall(step.shown), _UUID.findall(printed), strict=False):
            assert self._real.setdefault(shown, real) == real, step.command
        assert len(set(self._real.values())) == len(self._real)
        told = _UUID.sub(lambda uuid: self._real.get(uuid[0], uuid[0]), step.shown)
        assert printed == told, f"$ {step.command}"


class Terminal:
    """A bash that runs one command after the other, and says what each one printed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        assert self.bash.stdin is not None
        assert self.bash.stdout is not None
        # Commands that ask for the status of the one before must see it.
        self.bash.stdin.write(f"{command}\nSTATUS=$?; echo '{_END}'; (exit $STATUS)\n")
        self.bash.stdin.flush()
        printed = ""
        for line in self.bash.stdout:
            if line == f"{_END}\n":
                return printed
            printed += line
        raise AssertionError(f"the shell ended under: {command}")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="tb") as directory:
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SR_TESTBED_STATE": f"{directory}/s",
        }
        assert os.listdir(directory) == []


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def test_the_tutorial(environment: dict[str, str]) -> None:
    first, *others = steps(PAGE.read_text().replace("8080", free_port()))
    up = subprocess.Popen(
        first.command.split(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert up.stdout is not None
    try:
        host = Uuids()
        host.check(first, "".join(up.stdout.readline() for _ in first.shown.splitlines()))
        for kind in ("lvhd", "ext"):
            uuids, terminal = Uuids(host), Terminal(environment)
            with terminal.bash:
                for step in others:
                    command = step.command.replace("KIND=lvhd", f"KIND={kind}")
                    uuids.check(step, terminal.run(command))
    finally:
        os.killpg(up.pid, signal.SIGINT)
        rest = up.stdout.read()
        up.stdout.close()
        status = up.wait(60)
    assert (status, rest) == (0, "")


def test_a_step_is_a_command_and_what_it_prints() -> None:
    page = "text\n```console\n$ one\n$ two\na\nb\n```\n```python\n$ none\n```\n"
    assert steps(page) == [Step("one", ""), Step("two", "a\nb\n")]
