"""`xe vdi-export`, `xe vdi-import` and `xe event-wait`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xapi.testing import CAPABILITIES, Rig, Xe, serve

MIB = 1 << 20
CONTENT = b"front" + bytes(3 * MIB) + b"middle" + bytes(MIB - 16) + b"rear!"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(tmp_path_factory.mktemp("xe"), {"mem": CAPABILITIES}) as rig:
        yield rig


@pytest.fixture
def xe(server: Rig) -> Xe:
    return Xe(server)


@pytest.fixture
def vdi(server: Rig, xe: Xe) -> str:
    ref = server.vdi(server.sr("mem"), virtual_size=str(4 * MIB))
    return str(server.api.VDI.get_uuid(ref))


def no_task(xe: Xe) -> bool:
    return "xe " not in xe.ok("task-list")


def test_there_and_back(xe: Xe, vdi: str, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(CONTENT)
    assert len(CONTENT) == 4 * MIB
    assert xe.ok("vdi-import", f"uuid={vdi}", f"filename={there}") == ""
    assert xe.ok("vdi-export", f"uuid={vdi}", f"filename={back}") == ""
    assert back.read_bytes() == CONTENT
    assert back.stat().st_blocks * 512 < MIB
    assert sorted(tmp_path.iterdir()) == [back, there]
    assert no_task(xe)


def test_as_vhd(server: Rig, xe: Xe, vdi: str, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "vhd"
    raw.write_bytes(CONTENT)
    xe.ok("vdi-import", f"uuid={vdi}", f"filename={raw}")
    xe.ok("vdi-export", f"uuid={vdi}", f"filename={image}", "format=vhd")
    assert image.read_bytes()[:8] == b"conectix"
    sr = xe.ok("vdi-param-get", f"uuid={vdi}", "param-name=sr-uuid")
    other = xe.ok("vdi-create", f"sr-uuid={sr}", "name-label=other", "virtual-size=4MiB")
    xe.ok("vdi-import", f"uuid={other}", f"filename={image}", "format=vhd")
    again = tmp_path / "again"
    xe.ok("vdi-export", f"uuid={other}", f"filename={again}")
    assert again.read_bytes() == CONTENT
    delta = tmp_path / "delta"
    base = f"base={vdi}"
    xe.ok("vdi-export", f"uuid={other}", f"filename={delta}", "format=vhd", base)
    assert delta.stat().st_size < image.stat().st_size


def test_progress(xe: Xe, vdi: str, tmp_path: Path) -> None:
    ended = xe("vdi-export", f"uuid={vdi}", f"filename={tmp_path / 'f'}", "--progress")
    assert (ended.status, ended.stdout) == (0, "")
    assert ended.stderr.endswith("\r100 %\n")


def test_a_disk_that_is_in_use(server: Rig, xe: Xe, vdi: str, tmp_path: Path) -> None:
    """The task says why, and the error is the one of any other command."""
    vbd = server.vbd(server.api.VDI.get_by_uuid(vdi))
    server.api.VBD.plug(vbd)
    ended = xe("vdi-export", f"uuid={vdi}", f"filename={tmp_path / 'f'}")
    assert (ended.status, ended.stderr.splitlines()[0]) == (1, "The VDI is in use.")
    (tmp_path / "in").write_bytes(CONTENT)
    ended = xe("vdi-import", f"uuid={vdi}", f"filename={tmp_path / 'in'}")
    assert (ended.status, ended.stderr.splitlines()[0]) == (1, "The VDI is in use.")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert no_task(xe)


def test_files_that_cannot_be_used(xe: Xe, vdi: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"")
    ended = xe("vdi-export", f"uuid={vdi}", f"filename={there}")
    assert ended.stderr == f"Error: The file {there} exists already\n"
    ended = xe("vdi-import", f"uuid={vdi}", f"filename={there}")
    assert ended.stderr == "Error: The file is empty\n"
    for command in ("vdi-import", "vdi-export"):
        ended = xe(command, f"uuid={vdi}", f"filename={tmp_path}/none/f")
        assert "No such file or directory" in ended.stderr
    ended = xe("vdi-export", f"uuid={vdi}", f"filename={tmp_path / 'f'}", "format=gif")
    assert ended.status == 1
    assert "format=gif" in ended.stderr
    assert no_task(xe)


def test_waiting_for_an_object(server: Rig, xe: Xe, vdi: str) -> None:
    api = server.login()
    waits = threading.Thread(
        target=xe.ok,
        args=("event-wait", "class=vdi", f"uuid={vdi}", "name-label=done", "sharable=/=true"),
    )
    waits.start()
    ref = api.VDI.get_by_uuid(vdi)
    api.VDI.set_name_label(ref, "not yet")
    assert waits.is_alive()
    api.VDI.set_name_label(ref, "done")
    waits.join(30)
    assert not waits.is_alive()
    xe.ok("event-wait", "class=VDI", f"uuid={vdi}", "name-label=/=not yet")
    assert xe("event-wait", "class=car").stderr == "Error: There is no class car\n"
    assert xe("event-wait", "class=vdi", "colour=red").status == 1
