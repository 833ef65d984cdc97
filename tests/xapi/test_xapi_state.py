"""A server that ends, or is killed, and starts again on its state file."""

from __future__ import annotations

import gc
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import pytest
import XenAPI

from xapi.database import Database
from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, Ref
from xapi.server import XapiServer
from xapi.testing import CAPABILITIES, MemoryHost

#: Serves on the state file and tells where, until it is killed.
SERVER = """
import signal, sys
from pathlib import Path
from xapi.server import XapiServer
from xapi.testing import CAPABILITIES, MemoryHost
directory = Path(sys.argv[1])
host = MemoryHost({"mem": (*CAPABILITIES, "VDI_REVERT")}, directory / "xapi")
server = XapiServer(host, unix_socket=host.socket, state=directory / "state")
server.start()
print(server.url, flush=True)
signal.pause()
"""


@contextmanager
def session(url: str) -> Iterator[Any]:
    session = XenAPI.Session(url)
    session.login_with_password("root", "testbed")
    try:
        yield session.xenapi
    finally:
        session("close")()


@contextmanager
def server(host: MemoryHost, directory: Path) -> Iterator[XapiServer]:
    server = XapiServer(host, unix_socket=host.socket, state=directory / "state")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.filterwarnings("error")
def test_a_server_that_cannot_listen_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither sockets nor threads, and the state file is another server's to use."""
    host = MemoryHost({"mem": CAPABILITIES}, tmp_path / "xapi")
    threads = threading.active_count()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        late = XapiServer(host, port=port, unix_socket=host.socket, state=tmp_path / "state")
        with pytest.raises(OSError, match="in use"):
            late.start()
        blocked = XapiServer(host, unix_socket=tmp_path / "no" / "path", state=tmp_path / "state")
        with pytest.raises(OSError, match="No such file"):
            blocked.start()
    gc.collect()
    assert threading.active_count() == threads
    with server(host, tmp_path) as other, session(other.url) as api:
        assert api.pool.get_all()


def test_restart(tmp_path: Path) -> None:
    """The same objects; what was plugged in is not any more, and who was logged in must again."""
    host = MemoryHost({"mem": CAPABILITIES}, tmp_path / "xapi")
    with server(host, tmp_path) as first, session(first.url) as api:
        [this_host] = api.host.get_all()
        sr = api.SR.create(this_host, {"device": "x"}, "0", "an SR", "", "mem", "", False, {})
        record = {"SR": sr, "virtual_size": "512", "type": "user", "name_label": "disk"}
        vdi = api.VDI.create(record | {"sharable": False, "read_only": False, "other_config": {}})
        ended = api.task.create("ended", "")
        api.task.set_status(ended, "success")
        api.task.create("running", "")
        old_session = api.session
        api.pool.set_name_label(api.pool.get_all()[0], "kept")
        before = api.VDI.get_all_records(), api.SM.get_all(), api.network.get_all_records()
        [pbd] = api.SR.get_PBDs(sr)
    with server(host, tmp_path) as second, session(second.url) as api:
        assert (api.SM.get_all(), api.network.get_all_records()) == before[1:]
        assert api.host.get_all() == [this_host]
        assert [pool["name_label"] for pool in api.pool.get_all_records().values()] == ["kept"]
        assert api.task.get_all() == [ended]
        assert api.PBD.get_currently_attached(pbd) is False
        api.PBD.plug(pbd)
        assert api.VDI.get_record(vdi) == before[0][vdi]
        with xmlrpc.client.ServerProxy(second.url) as proxy:
            reply: Any = proxy.pool.get_all(str(old_session))
        assert reply["ErrorDescription"][0] == "SESSION_INVALID"


def test_a_full_disk_keeps_no_marks(tmp_path: Path) -> None:
    """The call fails and says so; the objects are free again, and work when there is room."""
    host = MemoryHost({"mem": CAPABILITIES}, tmp_path / "xapi")
    with server(host, tmp_path) as serving, session(serving.url) as api:
        [this_host] = api.host.get_all()
        sr = api.SR.create(this_host, {"device": "x"}, "0", "an SR", "", "mem", "", False, {})
        record = {"SR": sr, "virtual_size": "512", "type": "user", "name_label": "disk"}
        vdi = api.VDI.create(record | {"sharable": False, "read_only": False, "other_config": {}})
        gate = host.gates["vdi_snapshot"] = threading.Event()
        host.reached.clear()
        task = api.Async.VDI.snapshot(vdi)
        assert host.reached.wait(10)
        db = serving.xapi.db
        with no_room(tmp_path / "state-wal"):
            gate.set()
            with db.changed:
                assert db.changed.wait_for(lambda: db.get("task", task, "status") != "pending", 10)
            assert api.task.get_error_info(task)[0] == "SR_BACKEND_FAILURE_202"
            assert api.task.get_all() == [task]
            assert api.SR.get_current_operations(sr) == {}
            assert api.VDI.get_current_operations(vdi) == {}
        snapshot = api.VDI.snapshot(vdi)
        assert api.VDI.get_VBDs(snapshot) == []


@contextmanager
def no_room(file: Path) -> Iterator[None]:
    """No file may grow beyond what this one has now."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Client(threading.Thread):
    """Makes objects until the server dies, and remembers what it was promised."""

    def __init__(self, url: str, number: int, wanted: int) -> None:
        super().__init__()
        self.url = url
        self.number = number
        self.wanted = wanted
        self.promised: list[tuple[str, str]] = []
        self.has_enough = threading.Event()

    def run(self) -> None:
        with suppress(OSError, ExpatError, xmlrpc.client.Error), session(self.url) as api:
            self.work(api)
        self.has_enough.set()

    def promise(self, ref: str, name: str) -> None:
        """A call has said that this object is there."""
        self.promised.append((ref, name))
        if len(self.promised) == self.wanted:
            self.has_enough.set()

    def work(self, api: Any) -> None:
        [pool] = api.pool.get_all()
        while True:
            name = f"{self.number}.{len(self.promised)}"
            self.promise(api.network.create({"name_label": name}), name)
            api.pool.remove_from_other_config(pool, f"{self.number}")
            api.pool.add_to_other_config(pool, f"{self.number}", name)


class Machinist(Client):
    """Makes, snapshots, reverts, copies and destroys VMs until the server dies."""

    def work(self, api: Any) -> None:
        [host] = api.host.get_all()
        sr = api.SR.create(host, {"device": "x"}, "0", "an SR", "", "mem", "", False, {})
        while True:
            self.life(api, sr)

    def life(self, api: Any, sr: str) -> None:
        """Of one VM with a disk."""
        disk = {"SR": sr, "virtual_size": "512", "type": "user"}
        vdi = api.VDI.create(disk | {"sharable": False, "read_only": False, "other_config": {}})
        name = f"{len(self.promised)}"
        vm = api.VM.create({"name_label": name})
        vbd = {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW"}
        vbd |= {"type": "Disk", "empty": False, "other_config": {}}
        api.VBD.create(vbd | {"qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.promise(vm, name)
        api.VM.start(vm, False, False)
        snapshot = api.VM.snapshot(vm, "a snapshot")
        api.VM.revert(snapshot)
        api.VM.destroy(api.VM.clone(vm, "a clone"))


def killed(directory: Path, wanted: int, seconds: float, *kinds: type[Client]) -> list[Client]:
    """Clients of a server that was killed in the midst of their calls.

    That was some seconds after the first client had been promised as many objects as wanted.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        clients = [kind(url, number, wanted) for number, kind in enumerate(kinds)]
        for client in clients:
            client.start()
        assert clients[0].has_enough.wait(30)
        assert len(clients[0].promised) >= wanted
        clients[0].join(seconds)
        process.send_signal(signal.SIGKILL)
        for client in clients:
            client.join()
    return clients


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_server_has_kept_what_it_promised(tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed)
    promised: dict[str, str] = {}
    for _ in range(2):
        moment = numbers.randint(1, 20), numbers.uniform(0, 0.02)
        for client in killed(tmp_path, *moment, Client, Client, Client):
            promised.update(client.promised)
    assert promised
    host = MemoryHost({}, tmp_path / "xapi")
    with server(host, tmp_path) as restarted, session(restarted.url) as api:
        networks = api.network.get_all_records()
        assert {ref: networks[ref]["name_label"] for ref in promised} == promised
        assert len(api.pool.get_all()) == 1
        assert len(networks) >= len(promised) + 2


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_server_leaves_no_dangling_reference(tmp_path: Path, seed: int) -> None:
    """Calls of many steps die at some step; the objects fit together all the same."""
    numbers = random.Random(seed)
    [client] = killed(tmp_path, numbers.randint(1, 3), numbers.uniform(0, 0.1), Machinist)
    promised = dict(client.promised)
    assert promised
    host = MemoryHost({"mem": CAPABILITIES}, tmp_path / "xapi")
    with server(host, tmp_path) as restarted, session(restarted.url) as api:
        vms = api.VM.get_all_records()
        assert promised.items() <= {ref: vm["name_label"] for ref, vm in vms.items()}.items()
        assert dangling(restarted.xapi.db) == []
        for cls in ("PBD", "VBD", "VIF"):
            records = getattr(api, cls).get_all_records().values()
            assert not any(record["currently_attached"] for record in records)
        states = {vm["power_state"] for vm in vms.values() if not vm["is_control_domain"]}
        assert states == {"Halted"}


#: What may name an object that is gone: where something came from, and where it would run.
_HISTORICAL = {"snapshot_of", "parent", "affinity", "suspend_VDI"}


def dangling(db: Database) -> list[tuple[str, str, str]]:
    """Every reference to an object that is not there."""
    return [
        (cls.name, field.name, value)
        for cls in CLASSES.values()
        for ref in db.refs(cls.name)
        for field in cls.fields
        if isinstance(field.type, Ref) and field.name not in _HISTORICAL
        for value in [db.get(cls.name, ref, field.name)]
        if value != NULL and not (field.type.cls in CLASSES and db.exists(field.type.cls, value))
    ]
