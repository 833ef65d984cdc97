"""Completion of `xe`, in a real bash that sources what `xe completion` prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xapi.testing import CAPABILITIES, Rig, serve

Complete = Callable[[str], list[str]]

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
def complete(server: Rig, tmp_path_factory: pytest.TempPathFactory) -> Complete:
    programs = tmp_path_factory.mktemp("bin")
    program = programs / "xe"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m xapi.xe "$@"\n')
    program.chmod(0o755)
    host, _, port = server.server.url.removeprefix("http://").partition(":")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XE_EXTRA_ARGS": f"server={host},port={port}",
    }

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", _ASK, "bash", line],
            env=environment,
            cwd=Path(__file__).parents[2],
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
