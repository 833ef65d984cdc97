"""`xe`: what it prints, where, and how it ends."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from xapi import xe, xe_output
from xapi.testing import CAPABILITIES, Ended, Fault, Rig, Xe, serve
from xapi.xe_args import boolean, parse, size
from xapi.xe_client import XeError

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    types = {"mem": (*CAPABILITIES, "VDI_REVERT"), "old": CAPABILITIES}
    with serve(tmp_path_factory.mktemp("xe"), types) as rig:
        yield rig


@pytest.fixture
def run(server: Rig) -> Iterator[Xe]:
    yield Xe(server)
    server.host.faults.clear()


def ok(ended: Ended) -> str:
    assert (ended.status, ended.stderr) == (0, "")
    return ended.stdout.removesuffix("\n")


@pytest.fixture
def sr(run: Xe) -> str:
    uuid = ok(run("sr-create", "name-label=an SR", "type=mem", "device-config:device=/dev/x"))
    assert UUID.fullmatch(uuid)
    return uuid


@pytest.fixture
def vdi(run: Xe, sr: str) -> str:
    uuid = ok(run("vdi-create", f"sr-uuid={sr}", "name-label=disk", "virtual-size=1MiB"))
    assert UUID.fullmatch(uuid)
    return uuid


def test_a_list_without_columns(run: Xe, vdi: str) -> None:
    for params in ("params=", "params=,"):
        for more in ((), ("--minimal",)):
            ended = run("vdi-list", f"uuid={vdi}", params, *more)
            assert (ended.status, ended.stdout) == (1, "")
            assert ended.stderr == "Error: params= names no field of VDI\n"


# -- storage commands


def test_revert_prints_the_disk(run: Xe, server: Rig, vdi: str) -> None:
    snapshot = ok(run("vdi-snapshot", f"uuid={vdi}"))
    assert ok(run("vdi-revert", f"uuid={snapshot}", "driver-params-speed=high")) == vdi
    assert server.host.calls[-1][1]["driver_params"] == {"speed": "high"}


def test_revert_by_clone_prints_the_fresh_disk(run: Xe) -> None:
    sr = ok(run("sr-create", "name-label=s", "type=old", "device-config:device=x"))
    vdi = ok(run("vdi-create", f"sr-uuid={sr}", "name-label=disk", "virtual-size=1MiB"))
    snapshot = ok(run("vdi-snapshot", f"uuid={vdi}"))
    fresh = ok(run("vdi-revert", f"uuid={snapshot}"))
    assert UUID.fullmatch(fresh)
    assert fresh != vdi
    of = ("vdi-param-get", f"uuid={snapshot}", "param-name=snapshot-of")
    assert ok(run(*of)) == fresh


def test_clone_copy_resize_destroy(run: Xe, sr: str, vdi: str) -> None:
    clone = ok(run("vdi-clone", f"uuid={vdi}", "new-name-label=twin"))
    assert ok(run("vdi-param-get", f"uuid={clone}", "param-name=name-label")) == "twin"
    copy = ok(run("vdi-copy", f"uuid={vdi}", f"sr-uuid={sr}"))
    assert ok(run("vdi-copy", f"uuid={vdi}", f"into-vdi-uuid={copy}")) == copy
    assert ok(run("vdi-resize", f"uuid={vdi}", "disk-size=2MiB")) == ""
    assert ok(run("vdi-param-get", f"uuid={vdi}", "param-name=virtual-size")) == "2097152"
    for uuid in (clone, copy, vdi):
        assert ok(run("vdi-destroy", f"uuid={uuid}")) == ""
    assert ok(run("vdi-list", f"sr-uuid={sr}", "--minimal")) == ""


def test_vbds(run: Xe, server: Rig, vdi: str) -> None:
    vm = ok(run("vm-list", "is-control-domain=true", "--minimal"))
    vbd = ok(run("vbd-create", f"vm-uuid={vm}", f"vdi-uuid={vdi}", "device=autodetect", "mode=RO"))
    assert ok(run("vbd-plug", f"uuid={vbd}")) == ""
    device = ok(run("vbd-param-get", f"uuid={vbd}", "param-name=device"))
    assert f"/dev/{device}" in server.host.devices
    ended = run("vdi-destroy", f"uuid={vdi}")
    assert ended.status == 1
    assert ended.stderr == (
        "The VDI is in use.\n"
        f"vdi: {vdi} (disk)\n"
        "operation: destroy\n"
        "hint: Unplug the VBDs that use the VDI.\n"
    )
    assert ok(run("vbd-unplug", f"uuid={vbd}")) == ""
    assert ok(run("vbd-destroy", f"uuid={vbd}")) == ""


def test_sr_life_cycle(run: Xe, sr: str) -> None:
    ok(run("sr-scan", f"uuid={sr}"))
    assert f"<UUID>{sr}</UUID>" in ok(run("sr-probe", "type=mem", "device-config:device=x"))
    pbd = ok(run("pbd-list", f"sr-uuid={sr}", "--minimal"))
    host = ok(run("pbd-param-get", f"uuid={pbd}", "param-name=host-uuid"))
    ok(run("pbd-unplug", f"uuid={pbd}"))
    ok(run("sr-forget", f"uuid={sr}"))
    assert ok(run("sr-introduce", f"uuid={sr}", "name-label=back", "type=mem")) == sr
    pbd = ok(run("pbd-create", f"host-uuid={host}", f"sr-uuid={sr}", "device-config:device=x"))
    ok(run("pbd-plug", f"uuid={pbd}"))
    ok(run("pbd-unplug", f"uuid={pbd}"))
    ok(run("sr-destroy", f"uuid={sr}"))
    assert run("sr-scan", f"uuid={sr}").status == 1


# -- generic commands


def test_list(run: Xe, sr: str, vdi: str) -> None:
    assert run("vdi-list", f"uuid={vdi}").stdout == (
        f"uuid ( RO)            : {vdi}\n"
        "      name-label ( RW): disk\n"
        "name-description ( RW): \n"
        f"         sr-uuid ( RO): {sr}\n"
        "    virtual-size ( RO): 1048576\n"
        "        sharable ( RO): false\n"
        "       read-only ( RO): false\n"
    )


def test_lists_with_chosen_columns(run: Xe, sr: str, vdi: str) -> None:
    ended = run("vdi-list", f"sr-uuid={sr}", "params=sr-name-label,tags,other-config,snapshot-of")
    assert ok(ended) == (
        "sr-name-label ( RO): an SR\n"
        " other-config (MRW): \n"
        "  snapshot-of ( RO): <not in database>\n"
        "         tags (SRW): "
    )
    assert ok(run("vdi-list", f"uuid={vdi}", "params=name-label,uuid", "--minimal")) == "disk"
    assert "allowed-operations (SRO): clone; copy;" in ok(
        run("vdi-list", f"uuid={vdi}", "params=all")
    )


def test_lists_of_several(run: Xe, sr: str) -> None:
    make = ("vdi-create", f"sr-uuid={sr}", "virtual-size=1")
    first = ok(run(*make, "name-label=a,b"))
    second = ok(run(*make, "name-label=c\\d"))
    assert ok(run("vdi-list", f"sr-uuid={sr}", "--minimal")) == f"{first},{second}"
    ended = run("vdi-list", f"sr-uuid={sr}", "params=name-label", "--minimal")
    assert ok(ended) == "a\\,b,c\\\\d"
    assert ok(run("vdi-list", f"sr-uuid={sr}", "params=name-label")).split("\n\n\n") == [
        "name-label ( RW): a,b",
        "name-label ( RW): c\\d",
    ]
    assert run("vdi-list", "uuid=none").stdout == ""
    assert run("vdi-list", "uuid=none", "--minimal").stdout == "\n"


def test_filters(run: Xe, vdi: str) -> None:
    ok(run("vdi-param-set", f"uuid={vdi}", "other-config:owner=me"))
    ok(run("vdi-param-add", f"uuid={vdi}", "param-name=tags", "param-key=gold"))
    assert ok(run("vdi-list", "other-config:owner=me", "--minimal")) == vdi
    assert ok(run("vdi-list", "tags:contains=gold", "--minimal")) == vdi
    assert ok(run("vdi-list", "tags:contains=silver", "--minimal")) == ""
    ended = run("vdi-list", "colour=red")
    assert ended.status == 1
    assert ended.stderr.startswith("Unknown field colour of VDI\n")


def test_params(run: Xe, vdi: str) -> None:
    uuid = f"uuid={vdi}"
    ok(run("vdi-param-set", uuid, "name-label=new name", "other-config:b=2", "other-config:a=1"))
    assert ok(run("vdi-param-get", uuid, "param-name=name-label")) == "new name"
    ok(run("vdi-param-set", uuid, "other-config:a=3"))
    assert ok(run("vdi-param-get", uuid, "param-name=other-config")) == "a: 3; b: 2"
    assert ok(run("vdi-param-get", uuid, "param-name=other-config", "param-key=a")) == "3"
    ended = run("vdi-param-get", uuid, "param-name=other-config", "param-key=z")
    assert (ended.status, ended.stderr) == (1, "Error: Key z not found in map\n")
    ok(run("vdi-param-remove", uuid, "param-name=other-config", "param-key=a"))
    ok(run("vdi-param-add", uuid, "param-name=other-config", "c=4"))
    assert ok(run("vdi-param-get", uuid, "param-name=other-config")) == "b: 2; c: 4"
    ok(run("vdi-param-clear", uuid, "param-name=other-config"))
    assert ok(run("vdi-param-get", uuid, "param-name=other-config")) == ""
    assert "new name" in ok(run("vdi-param-list", uuid))


def test_params_that_cannot_be_set(run: Xe, sr: str, vdi: str) -> None:
    ended = run("vdi-param-set", f"uuid={vdi}", "virtual-size=5")
    assert (ended.status, ended.stderr) == (1, "Field virtual-size of VDI is read-only\n")
    pool = ok(run("pool-list", "--minimal"))
    ok(run("pool-param-set", f"uuid={pool}", f"default-SR={sr}", "ha-allow-overcommit=yes"))
    assert ok(run("pool-param-get", f"uuid={pool}", "param-name=default-SR")) == sr
    assert ok(run("pool-param-get", f"uuid={pool}", "param-name=ha-allow-overcommit")) == "true"
    pbd = ok(run("pbd-list", f"sr-uuid={sr}", "--minimal"))
    ok(run("pbd-param-set", f"uuid={pbd}", "device-config:device=y"))
    assert ok(run("pbd-param-get", f"uuid={pbd}", "param-name=device-config")) == "device: y"


def test_a_reference_to_what_is_gone(run: Xe, vdi: str) -> None:
    snapshot = ok(run("vdi-snapshot", f"uuid={vdi}"))
    ok(run("vdi-destroy", f"uuid={vdi}"))
    of = ("vdi-param-get", f"uuid={snapshot}", "param-name=snapshot-of")
    assert ok(run(*of)) == "<invalid reference>"


# -- errors


def test_errors_of_drivers_have_no_text(run: Xe, server: Rig, sr: str) -> None:
    server.host.faults["sr_scan"] = Fault(40, "The SR scan failed")
    ended = run("sr-scan", f"uuid={sr}")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == (
        "Error code: SR_BACKEND_FAILURE_40\n"
        "Error parameters: , The SR scan failed, words on stderr\n"
    )


def test_an_unknown_uuid(run: Xe) -> None:
    ended = run("vdi-destroy", "uuid=none")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == "No object of that class has the uuid.\ntype: VDI\nuuid: none\n"
    assert run("vdi-revert", "uuid=").stderr.startswith("No object of that class has the uuid.\n")


def test_missing_and_unknown_parameters(run: Xe) -> None:
    ended = run("vdi-revert")
    assert (ended.status, ended.stdout) == (1, "")
    expected = "Required parameter not found: uuid\nFor help, run: xe help\n"
    assert ended.stderr == expected
    ended = run("vdi-revert", "uuid=x", "driver-parms-a=b")
    assert ended.status == 1
    assert ended.stderr.startswith("Unknown parameter: driver-parms-a\nUsage: xe vdi-revert uuid=")
    ended = run("vdi-fly")
    assert (ended.status, ended.stderr) == (
        1,
        "Unknown command: vdi-fly\nFor help, run: xe help\n",
    )


def test_wrong_credentials(run: Xe) -> None:
    ended = run("-u", "root", "-pw", "wrong", "vdi-list")
    assert (ended.status, ended.stdout, ended.stderr) == (3, "", "Authentication failed\n")


def test_no_server(run: Xe) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ended = run("-s", "127.0.0.1", "-p", str(unused.getsockname()[1]), "vdi-list")
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Cannot reach the server at 127.0.0.1:")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"error": 1}',
    ],
)
def test_another_server(run: Xe, answer: bytes) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        ended = run("-p", str(listener.getsockname()[1]), "vdi-list")
        server.join()
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Cannot reach the server at 127.0.0.1:")


def test_help(run: Xe) -> None:
    text = ok(run("help")) + "\n"
    for command in ("vdi-revert", "sr-create", "vbd-plug", "message-list"):
        assert f"    {command}\n" in text
    assert "-param-get\n" not in text
    assert "    vbd-param-get\n" in ok(run("help", "--all"))
    assert ok(run()) + "\n" == text
    assert ok(run("help", "vdi-revert")).splitlines()[0] == (
        "xe vdi-revert uuid=<...> [driver-params-<key>=<...>]"
    )
    assert run("help", "nothing").status == 1


def test_every_command_sends_messages_that_there_are(server: Rig) -> None:
    with xmlrpc.client.ServerProxy(server.server.url) as proxy:
        known = proxy.system.listMethods()
    assert isinstance(known, list)
    sent = {method for command in xe.commands().values() for method in command.methods}
    assert sent <= set(known)


def test_a_trace_shows_messages_and_no_password(run: Xe) -> None:
    ended = run("--trace", "pool-list", "--minimal")
    assert "pool.get_all_records(): {'OpaqueRef:" in ended.stderr
    assert "session.login_with_password(...)" in ended.stderr


def test_it_starts_without_third_party_packages() -> None:
    """-I and -S leave only the standard library; the package itself is put back by hand."""
    root = xe.__file__.rpartition("/xapi/")[0]
    program = f"import sys; sys.path.append({root!r}); from xapi.xe import main; main(['help'])"
    done = subprocess.run(
        [sys.executable, "-ISc", program], capture_output=True, text=True, check=True
    )
    assert "vdi-revert" in done.stdout


def test_a_reader_that_has_enough() -> None:
    argv = [sys.executable, "-m", "xapi.xe", "help", "--all"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(argv, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


# -- arguments


def test_arguments() -> None:
    args = parse(["-s", "h", "c", "a=b=c", "--minimal", "-p", "99", "m:k=v", "word"], {})
    assert (args.server, args.command, args.words) == ("h:99", "c", ("word",))
    assert args.keys == {"a": "b=c", "minimal": "true", "m:k": "v"}
    assert args.mapping("m:") == {"k": "v"}
    assert parse([], {}).command == "help"


def test_where_the_server_is_told(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XE_EXTRA_ARGS": "server=e,username=u,password=a\\,b"}
    (tmp_path / ".xe").write_text("server=f\nport=8080\n")
    args = parse(["c"], environment)
    assert (args.server, args.user, args.password) == ("e:8080", "u", "a,b")
    assert parse(["-s", "o", "c"], environment).server == "o:8080"
    assert parse(["c"], {}).server == "127.0.0.1:80"


def test_password_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("pw") / "file"
    path.write_text("root\nsecret\n")
    assert parse(["-pwf", str(path), "c"], {}).password == "secret"
    with pytest.raises(XeError):
        parse(["-pwf", "/nowhere", "c"], {})
    with pytest.raises(XeError):
        parse(["-s"], {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("5", 5), ("1KiB", 1024), ("2 MiB", 2 << 20), ("3GiB", 3 << 30), ("1TiB", 1 << 40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert size("k", text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1MB", "GiB", "1.5GiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(XeError):
        size("k", text)


def test_booleans() -> None:
    assert boolean("k", "True") is True
    assert boolean("k", "0") is False
    with pytest.raises(XeError):
        boolean("k", "maybe")


def test_minimal_escapes() -> None:
    assert xe_output.minimal(["a,b", "c\\"]) == "a\\,b,c\\\\"
