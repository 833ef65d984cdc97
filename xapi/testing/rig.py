"""A running server with clients logged in, and the objects that tests need again and again."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import XenAPI

from xapi.server import XapiServer
from xapi.testing.memory import CAPABILITIES, MemoryHost, Plugin, UnixTransport

#: The SR types of a rig that was not told otherwise.
TYPES: Mapping[str, tuple[str, ...]] = {
    "mem": (*CAPABILITIES, "VDI_REVERT"),
    "old": CAPABILITIES,
}
MIB = 1 << 20


def failure(call: Callable[..., object], *params: object) -> list[str]:
    """The ErrorDescription of a XenAPI call that must fail.

    Raises:
        AssertionError: it succeeded.
    """
    try:
        call(*params)
    except XenAPI.Failure as refused:
        return list(refused.details)
    raise AssertionError(f"a call that must fail succeeded: {params}")


@dataclass(slots=True)
class Rig:
    """`api` is root's session over TCP, `local` one over the unix socket: both `xenapi` proxies.

    `host` is the master to begin with.
    """

    server: XapiServer
    host: MemoryHost
    api: Any
    local: Any
    slaves: Sequence[MemoryHost] = ()
    _sessions: list[Any] = field(default_factory=list)

    @property
    def hosts(self) -> tuple[MemoryHost, ...]:
        """All hosts of the pool."""
        return self.host, *self.slaves

    def login(self, *, local: bool = False) -> Any:
        """One more session, closed with the rig. Threads must not share one."""
        transport = UnixTransport(self.host.socket) if local else None
        session = XenAPI.Session("http://localhost/" if local else self.server.url, transport)
        session.login_with_password("root", "testbed")
        self._sessions.append(session)
        return session.xenapi

    def session(self) -> str:
        """The reference of one more session, for requests that are no XML-RPC."""
        self.login()
        return str(self._sessions[-1].handle)

    def until_ended(self, task: str) -> dict[str, Any]:
        """The record of a task, once it has ended.

        Raises:
            TimeoutError: it has not within 10 seconds.
        """
        db = self.server.xapi.db
        with db.changed:
            if not db.changed.wait_for(
                lambda: db.get("task", task, "status") not in ("pending", "cancelling"), 10
            ):
                raise TimeoutError(f"{task} has not ended")
        record: dict[str, Any] = self.api.task.get_record(task)
        return record

    def sr(self, type_: str = "mem", *, shared: bool = False, host: str = "") -> str:
        """A plugged SR, of the first host or of all."""
        host = host or self.api.host.get_all()[0]
        config = {"device": "/dev/any"}
        label = f"the {type_} SR"
        sr = self.api.SR.create(host, config, "0", label, "", type_, "user", shared, {})
        return str(sr)

    def vdi(self, sr: str, content: bytes = b"", **fields: object) -> str:
        """A VDI of 1 MiB that begins with `content`."""
        record = {
            "SR": sr,
            "name_label": "disk",
            "virtual_size": str(MIB),
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {},
        }
        vdi = str(self.api.VDI.create(record | fields))
        self.write(vdi, content)
        return vdi

    def vbd(self, vdi: str, mode: str = "RW", **fields: object) -> str:
        """A VBD of dom0, not plugged in."""
        return str(self.api.VBD.create(self.vbd_record(vdi, mode) | fields))

    def vbd_record(self, vdi: str, mode: str = "RW") -> dict[str, object]:
        """What VBD.create wants to know."""
        return {
            "VM": self.api.host.get_control_domain(self.api.host.get_all()[0]),
            "VDI": vdi,
            "userdevice": "autodetect",
            "bootable": False,
            "mode": mode,
            "type": "Disk",
            "empty": False,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }

    def vm(self, *vdis: str, **fields: object) -> str:
        """A halted VM with these disks, on userdevice 0, 1, ..."""
        vm = str(self.api.VM.create({"name_label": "vm"} | fields))
        for number, vdi in enumerate(vdis):
            self.vbd(vdi, VM=vm, userdevice=str(number))
        return vm

    def disks(self, vm: str) -> dict[str, str]:
        """Userdevice -> VDI of a VM's disks."""
        records = [self.api.VBD.get_record(vbd) for vbd in self.api.VM.get_VBDs(vm)]
        disks = {vbd["userdevice"]: vbd["VDI"] for vbd in records if vbd["type"] == "Disk"}
        return dict(sorted(disks.items()))

    def write(self, vdi: str, content: bytes) -> None:
        """Overwrite the beginning of a VDI's content."""
        self.host.disk(self.api.VDI.get_uuid(vdi)).content[: len(content)] = content

    def read(self, vdi: str, length: int = 5) -> bytes:
        """The beginning of a VDI's content."""
        return bytes(self.host.disk(self.api.VDI.get_uuid(vdi)).content[:length])

    def records(self) -> dict[str, Any]:
        """All that clients can see of storage, to be compared with a later state."""
        return {
            cls: getattr(self.api, cls).get_all_records()
            for cls in ("SR", "PBD", "VDI", "VBD", "VM", "task")
        }

    def close(self) -> None:
        """Close the clients' connections."""
        for session in self._sessions:
            session("close")()


@contextmanager
def serve(
    directory: Path,
    types: Mapping[str, tuple[str, ...]] = TYPES,
    *,
    hosts: int = 1,
    patience: float = 10.0,
    plugins: Mapping[str, Plugin] | None = None,
) -> Iterator[Rig]:
    """A server for the time of the block; its uuids are the same in every run."""
    host = MemoryHost(dict(types), directory / "xapi", plugins=plugins or {})
    slaves = [host.neighbour(f"{host.hostname}{number}") for number in range(1, hosts)]
    numbers = random.Random(2026)
    server = XapiServer(
        host,
        *slaves,
        unix_socket=host.socket,
        uuid_source=lambda: str(uuid.UUID(int=numbers.getrandbits(128), version=4)),
        patience=patience,
    )
    server.start()
    rig = Rig(server, host, None, None, slaves)
    try:
        rig.api, rig.local = rig.login(), rig.login(local=True)
        yield rig
    finally:
        rig.close()
        server.stop()
