"""Completion of `xe`, in a real bash that sources what `xe completion` prints."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xapi.testing import CAPABILITIES, Rig, Xe, serve
from xapi.xe import commands
from xapi.xe_command import parameters

Complete = Callable[[str], list[str]]

_ROOT = Path(__file__).parents[2]

#: Says what bash would offer for a line with the cursor at its end.
_ASK = """
source <(xe completion)
COMP_LINE=$1 COMP_POINT=${#1}
_xe
for each in "${COMPREPLY[@]}"; do echo "$each|"; done
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(tmp_path_factory.mktemp("xe"), {"mem": CAPABILITIES}) as rig:
        yield rig


@pytest.fixture(scope="module")
def environment(server: Rig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """In which `xe` is a program, and knows the server."""
    programs = tmp_path_factory.mktemp("bin")
    program = programs / "xe"
    program.write_text(f'#!/bin/sh\ncd {_ROOT}; exec {sys.executable} -m xapi.xe "$@"\n')
    program.chmod(0o755)
    host, _, port = server.server.url.removeprefix("http://").partition(":")
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XE_EXTRA_ARGS": f"server={host},port={port}",
        "TERM": "dumb",
    }


@pytest.fixture(scope="module")
def complete(environment: dict[str, str]) -> Complete:
    def complete(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", _ASK, "bash", line],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return [line.removesuffix("|") for line in done.stdout.splitlines()]

    return complete


def test_commands(complete: Complete) -> None:
    assert complete("xe vdi-rev") == ["vdi-revert "]
    assert complete("xe help vdi-sn") == ["vdi-snapshot "]
    assert "sr-create " in complete("xe ")
    assert complete("xe -s ") == []


def test_keys(complete: Complete) -> None:
    assert complete("xe vdi-revert ") == ["driver-params-", "uuid="]
    assert complete("xe vdi-revert uuid=x ") == ["driver-params-"]
    assert complete("xe vdi-list name-l") == ["name-label="]
    assert complete("xe vdi-list other-c") == ["other-config:", "other-config="]
    assert complete("xe vdi-list --min") == ["--minimal "]
    assert complete("xe no-such-command ") == []


def test_values(complete: Complete, server: Rig) -> None:
    sr = server.sr("mem")
    vdi = server.vdi(sr)
    api = server.api
    api.VDI.set_name_label(vdi, "my disk")
    uuid = api.VDI.get_uuid(vdi)
    assert complete("xe vdi-revert uuid=") == [f"{uuid} "]
    assert complete(f"xe vdi-revert uuid={uuid[:-2]}") == [f"{uuid} "]
    assert complete("xe vdi-revert uuid=nothing") == []
    assert complete("xe vdi-list name-label=") == [r"my\ disk "]
    assert complete(r"xe vdi-list name-label=my\ d") == [r"my\ disk "]
    assert complete("xe vdi-list name-label='my d") == []
    assert complete("xe vdi-list params=uuid,sha") == ["uuid,sharable"]
    assert complete("xe vdi-list is-a-snapshot=") == ["false ", "true "]
    assert complete("xe sr-create type=") == ["mem "]
    assert complete("xe vdi-create type=cbt") == ["cbt_metadata "]
    assert complete("xe vdi-param-get param-name=virt") == ["virtual-size "]
    api.VDI.add_to_other_config(vdi, "owner", "me")
    assert complete(f"xe vdi-param-get uuid={uuid} param-name=other-config param-key=ow") == [
        "owner "
    ]


def test_without_a_server(complete: Complete) -> None:
    assert complete("xe -s 127.0.0.1 -p 1 vdi-revert uuid=") == []


def test_no_line_makes_it_stumble(
    server: Rig, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key of every command, with nothing typed of its value."""
    monkeypatch.setenv("XE_EXTRA_ARGS", environment["XE_EXTRA_ARGS"])
    server.vbd(server.vdi(server.sr("mem")))
    xe, lines = Xe(server), 0
    for command in commands().values():
        keys = [parameter.key for parameter in parameters(command.spec)]
        for key in (*keys, "params", "param-key", "uuid", "no-such-key"):
            xe.ok("completion", f"line=xe {command.name} param-name=name-label {key}=")
            lines += 1
    assert lines > 900
    assert xe.ok("completion", "line=xe event-wait class=v") == "vbd \nvdi \nvif \nvm \n" + (
        "vm_guest_metrics \nvm_metrics "
    )


def test_at_the_keyboard(server: Rig, environment: dict[str, str]) -> None:
    """What bash makes of it depends on where it breaks words: at `=` and `:`, for one."""
    for other in server.api.VDI.get_all():
        server.api.VDI.destroy(other)
    vdi = server.vdi(server.sr("mem"), name_label="a name: with blanks")
    uuid = server.api.VDI.get_uuid(vdi)
    near, far = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--norc", "-i"], env=environment, stdin=far, stdout=far, stderr=far, close_fds=True
    )
    os.close(far)
    # Each line is completed, and then becomes an argument of printf: with what it has become.
    os.write(near, b"source <(xe completion)\n")
    for typed, whole in (
        (f"vdi-rev\tuuid={uuid[:7]}\t", f"<xe><vdi-revert><uuid={uuid}>"),
        ("vdi-list name-label=a\t", "<xe><vdi-list><name-label=a name: with blanks>"),
        ("vdi-list other-con\t", "<xe><vdi-list><other-config>"),
    ):
        os.write(near, f"xe {typed}\x01printf '<%s>' \n".encode())
        said = b""
        while whole.encode() not in said:
            assert select.select([near], [], [], 30)[0], said
            said += os.read(near, 4096)
    os.write(near, b"exit\n")
    assert bash.wait(30) == 0
    os.close(near)
