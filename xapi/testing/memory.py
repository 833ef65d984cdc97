"""A host in memory, for tests of the toolstack and of its clients.

Its storage drivers are small, but what travels is real: an XML-RPC document in and one out,
and calls back into the XenAPI through the unix socket, in the session of the request, as
drivers do. VDIs are byte strings, devices are names.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import socket
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xapi.backend import BackendUnavailable, DeviceBusy, HostError, PluginFailed, PluginReply

#: A host plugin: called with (function, arguments), it returns text.
Plugin = Callable[[str, Mapping[str, str]], str]

_NULL = "OpaqueRef:NULL"
_EPOCH = xmlrpc.client.DateTime("19700101T00:00:00Z")

#: What the driver of every type can do; whether it can revert is up to the test.
CAPABILITIES = (
    "SR_PROBE",
    "SR_UPDATE",
    "VDI_CREATE",
    "VDI_DELETE",
    "VDI_ATTACH",
    "VDI_DETACH",
    "VDI_ACTIVATE",
    "VDI_DEACTIVATE",
    "VDI_CLONE",
    "VDI_SNAPSHOT",
    "VDI_RESIZE",
    "VDI_UPDATE",
    "VDI_GENERATE_CONFIG",
    "VDI_RESET_ON_BOOT/2",
    "ATOMIC_PAUSE",
)
#: And what one can do that tracks changed blocks.
CBT = ("VDI_CONFIG_CBT", "VDI_RESIZE_ONLINE")


#: What only an SR's master may do.
_MASTER_ONLY = frozenset(
    {
        *("sr_create", "sr_delete", "sr_scan", "sr_update", "vdi_create", "vdi_delete"),
        *("vdi_snapshot", "vdi_clone", "vdi_revert", "vdi_update"),
        *("vdi_resize", "vdi_resize_online", "vdi_data_destroy"),
        *("vdi_enable_cbt", "vdi_disable_cbt", "vdi_list_changed_blocks"),
    }
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket, for :class:`xmlrpc.client.ServerProxy` or XenAPI.Session."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._unix = _UnixConnection(str(path))

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """The connection of this transport, which stays open between calls."""
        # Where xmlrpc.client looks for it, and closes it.
        self._connection = host, self._unix
        return self._unix


class Fault(Exception):
    """What a driver answers instead of a result: a SMAPIv1 error number and its text."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text


UNIMPLEMENTED = Fault(38, "The requested method is not supported/implemented")


@dataclass(slots=True)
class Disk:
    """A VDI on disk, and the names of the hosts that have it attached and active."""

    content: bytearray
    raw: bool = False
    tracked: bool = False
    born: bytes = b""
    #: Host -> whether for writing.
    attached: dict[str, bool] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)


@dataclass(slots=True)
class MemoryHost:
    """A :class:`~xapi.backend.HostBackend` whose storage is this object.

    `capabilities` are those of each SR type; `faults` makes commands fail, with
    `once_after` only one of them, after so many that succeed; `replies` answer
    with anything at all; `gates` holds commands back until the event is set; `calls` are the
    requests so far; `plugins` are its host plugins by name; `numbers` make locations, no two alike.
    """

    capabilities: dict[str, tuple[str, ...]]
    socket: Path
    hostname: str = "testhost"
    up: bool = True
    busy: bool = False
    faults: dict[str, Fault] = field(default_factory=dict)
    once_after: dict[str, int] = field(default_factory=dict)
    replies: dict[str, PluginReply] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    srs: dict[str, dict[str, Disk]] = field(default_factory=dict)
    attached_srs: set[str] = field(default_factory=set)
    devices: dict[str, Disk] = field(default_factory=dict)
    reached: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def neighbour(self, hostname: str) -> MemoryHost:
        """Another host, which reaches the same storage."""
        return MemoryHost(
            dict(self.capabilities), self.socket, hostname, srs=self.srs, numbers=self.numbers
        )

    def lose_power(self) -> None:
        """Nothing is attached any more; what was written stays."""
        self.attached_srs.clear()
        self.devices.clear()
        for disks in self.srs.values():
            for disk in disks.values():
                disk.attached.pop(self.hostname, None)
                disk.active.discard(self.hostname)

    def driver_types(self) -> list[str]:
        """The SR types that this host was given."""
        return list(self.capabilities)

    def sm_call(self, driver: str, document: str) -> PluginReply:
        """Run one command of a driver."""
        params, command = xmlrpc.client.loads(document)
        request: dict[str, Any] = params[0]  # type: ignore[assignment]
        self.calls.append((str(command), request))
        if str(command) in self.gates:
            self.reached.set()
            self.gates[str(command)].wait(10)
        if not self.up:
            raise BackendUnavailable("the host is down")
        if str(command) in self.replies:
            return self.replies[str(command)]
        try:
            self._fail(str(command))
            result: Any = _Driver(self, driver, request).run(str(command))
        except Fault as fault:
            answer: Any = xmlrpc.client.Fault(fault.number, fault.text)
            return PluginReply(xmlrpc.client.dumps(answer), "words on stderr", 0)
        document = xmlrpc.client.dumps((result,), methodresponse=True, allow_none=True)
        return PluginReply(document, "", 0)

    def _fail(self, command: str) -> None:
        if command not in self.faults:
            return
        if command in self.once_after:
            self.once_after[command] -= 1
        if self.once_after.get(command, -1) == -1:
            raise self.faults[command]

    def plugin_call(self, plugin: str, fn: str, args: Mapping[str, str]) -> str:
        """Call a function of the test's."""
        if plugin not in self.plugins:
            raise PluginFailed(plugin, code="XENAPI_MISSING_PLUGIN")
        return self.plugins[plugin](fn, args)

    def plug(self, attached: Mapping[str, object], *, writable: bool) -> str:
        """A device for what vdi_attach said."""
        disk = self.srs[str(attached["sr"])][str(attached["vdi"])]
        device = f"/dev/mem{next(n for n in range(99) if f'/dev/mem{n}' not in self.devices)}"
        self.devices[device] = disk
        return device

    def unplug(self, device: str, *, force: bool = False) -> None:
        """Take it away, unless the test said that it is busy, or cannot be flushed."""
        if self.busy:
            raise DeviceBusy(f"{device} is open")
        if "flush" in self.faults and not force:
            raise HostError(self.faults["flush"].text)
        self._device(device)
        del self.devices[device]

    def copy(self, source: str, destination: str, size: int) -> None:
        """Copy content between two devices."""
        if "copy" in self.faults:
            raise DeviceBusy(self.faults["copy"].text)
        self._device(destination)[:size] = self._device(source)[:size]

    def used_blocks(self, device: str, size: int, *, base: str = "") -> list[int]:
        """Numbers of the blocks that differ from zeros, or from another device."""
        content = self._device(device)
        below = self._device(base) if base else b""
        return [
            block
            for block in range(-(-max(len(content), len(below)) // size))
            if _piece(content, block * size, size) != _piece(below, block * size, size)
        ]

    def read_blocks(self, device: str, offset: int, length: int) -> bytes:
        """Bytes of a device; past what is kept there are zeros."""
        if "read" in self.faults:
            raise BackendUnavailable(self.faults["read"].text)
        return _piece(self._device(device), offset, length)

    def write_blocks(self, device: str, offset: int, data: bytes) -> None:
        """Write to a device, and keep it."""
        if "write" in self.faults:
            raise BackendUnavailable(self.faults["write"].text)
        content = self._device(device)
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def clear_blocks(self, device: str, offset: int, length: int) -> None:
        """Zeros, as far as something is kept."""
        content = self._device(device)
        end = min(offset + length, len(content))
        content[offset:end] = bytes(max(0, end - offset))

    def _device(self, path: str) -> bytearray:
        if path not in self.devices:
            raise HostError(f"{path}: no such device")
        return self.devices[path].content

    def disk(self, vdi: str) -> Disk:
        """The disk of a VDI's uuid, wherever it is."""
        return next(disks[vdi] for disks in self.srs.values() if vdi in disks)

    def stored(self) -> dict[str, bytes]:
        """All that is on disk: uuid -> content, whether there is a record or not."""
        disks = (disks for disks in self.srs.values())
        return {vdi: bytes(disk.content) for sr in disks for vdi, disk in sr.items()}

    def commands(self) -> list[str]:
        """The names of the commands so far."""
        return [command for command, _ in self.calls]


def _piece(content: bytes | bytearray, offset: int, length: int) -> bytes:
    """Bytes of a disk that ends in zeros which are not kept."""
    return bytes(content[offset : offset + length]).ljust(length, b"\0")


class _Driver:
    """One run of a driver: one command, one request."""

    def __init__(self, host: MemoryHost, type_: str, request: dict[str, Any]) -> None:
        self._host = host
        self._type = type_
        self._request = request
        self._args: list[str] = request["args"]
        self._sr = str(request.get("sr_uuid", ""))
        self._vdi = str(request.get("vdi_location", ""))

    def run(self, command: str) -> object:
        """Find the method of the command and call it."""
        if command.startswith("vdi_") and self._sr not in self._host.attached_srs:
            raise Fault(47, "The SR is not available")
        if command in _MASTER_ONLY and self._request["device_config"]["SRmaster"] != "true":
            raise Fault(58, "This operation can be performed only on the master")
        method: Callable[[], object] = getattr(self, command)
        return method()

    def api(self, method: str, *params: object) -> Any:
        """Call back into the XenAPI, as a driver does."""
        transport = UnixTransport(self._host.socket)
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport)
        reply: Any = getattr(proxy, method)(self._request["session_ref"], *params)
        transport.close()
        if reply["Status"] != "Success":
            raise Fault(202, f"General backend error [opterr={reply['ErrorDescription']}]")
        return reply["Value"]

    @property
    def disks(self) -> dict[str, Disk]:
        """The disks of the request's SR."""
        return self._host.srs[self._sr]

    @property
    def disk(self) -> Disk:
        """The disk of the request's VDI."""
        if self._vdi not in self.disks:
            raise Fault(46, "The VDI is not available [opterr=no such file]")
        return self.disks[self._vdi]

    # -- SR

    def sr_get_driver_info(self) -> object:
        """What the driver can do."""
        return {
            "name": f"Memory ({self._type})",
            "description": "VDIs that are byte strings",
            "vendor": "Test",
            "copyright": "none",
            "driver_version": "1.0",
            "required_api_version": "1.0",
            "capabilities": list(self._host.capabilities[self._type]),
            "configuration": [{"key": "device", "description": "any text"}],
        }

    def sr_create(self) -> None:
        """An SR without VDIs."""
        if "device" not in self._request["device_config"]:
            raise Fault(90, "The request is missing the device parameter")
        self._host.srs[self._sr] = {}

    def sr_attach(self) -> None:
        """Only an SR that was created can be attached."""
        if self._sr not in self._host.srs:
            raise Fault(47, "The SR is not available")
        self._host.attached_srs.add(self._sr)

    def sr_detach(self) -> None:
        """The contrary."""
        self._host.attached_srs.discard(self._sr)

    def sr_delete(self) -> None:
        """All of it."""
        self.sr_detach()
        del self._host.srs[self._sr]

    def sr_update(self) -> None:
        """Sizes, in bytes."""
        total = sum(len(disk.content) for disk in self.disks.values())
        self.api("SR.set_virtual_allocation", self._request["sr_ref"], str(total))
        self.api("SR.set_physical_size", self._request["sr_ref"], str(1 << 40))
        self.api("SR.set_physical_utilisation", self._request["sr_ref"], str(total))

    def sr_scan(self) -> None:
        """Records for what is there, none for what is not."""
        known = {}
        for ref in self.api("SR.get_VDIs", self._request["sr_ref"]):
            known[self.api("VDI.get_location", ref)] = ref
        for location in self.disks.keys() - known.keys():
            self._introduce(location)
        for location in known.keys() - self.disks.keys():
            self.api("VDI.db_forget", known[location])
        self.sr_update()

    def sr_probe(self) -> str:
        """All SRs of the host."""
        found = "".join(f"<SR><UUID>{sr}</UUID></SR>" for sr in self._host.srs)
        return f"<?xml version='1.0'?><SRlist>{found}</SRlist>"

    # -- VDI

    def vdi_create(self) -> object:
        """A VDI of zeros, its size rounded up to 512 bytes."""
        size = -(-int(self._args[0]) // 512) * 512
        if not 0 < size < 1 << 41:
            raise Fault(79, "VDI Invalid size")
        raw = self._request["vdi_sm_config"].get("type") == "raw"
        return self._add(Disk(bytearray(min(size, 1 << 20)), raw=raw), size)

    def vdi_delete(self) -> None:
        """Unless it is in use."""
        if self.disk.attached:
            raise Fault(24, "The VDI is currently in use")
        del self.disks[self._vdi]
        self.api("VDI.db_forget", self._request["vdi_ref"])

    def vdi_snapshot(self) -> object:
        """A new VDI with the content of this one."""
        if self.disk.raw:
            raise UNIMPLEMENTED
        return self._twin(tracked=self.disk.tracked)

    def vdi_clone(self) -> object:
        """The same, but the changes of a clone are not tracked."""
        if self.disk.raw:
            raise UNIMPLEMENTED
        return self._twin(tracked=False)

    def _twin(self, *, tracked: bool) -> object:
        size = int(self.api("VDI.get_record", self._request["vdi_ref"])["virtual_size"])
        return self._add(Disk(bytearray(self.disk.content), tracked=tracked), size)

    def vdi_generate_config(self) -> str:
        """Any text."""
        return f"attach {self._sr} {self._vdi}"

    def vdi_enable_cbt(self) -> None:
        """From now on."""
        self.disk.tracked = True

    def vdi_disable_cbt(self) -> None:
        """And no longer."""
        self.disk.tracked = False

    def vdi_data_destroy(self) -> None:
        """Only what was tracked stays."""
        self.disk.content.clear()

    def vdi_list_changed_blocks(self) -> str:
        """One bit: whether the two have the same content."""
        newer = self.api("VDI.get_record", self._args[0])
        same = self.disks[newer["uuid"]].content == self.disk.content
        return base64.b64encode(bytes([0x00 if same else 0x80])).decode()

    def vdi_revert(self) -> None:
        """The target's content becomes the request's VDI's."""
        target = self.api("VDI.get_record", self._args[0])
        if self.disk.raw:
            raise UNIMPLEMENTED
        self.disks[target["uuid"]].content[:] = self.disk.content
        self.disks[target["uuid"]].tracked = self.disk.tracked
        size = self.api("VDI.get_record", self._request["vdi_ref"])["virtual_size"]
        self.api("VDI.set_virtual_size", self._args[0], size)
        self.api("VDI.set_cbt_enabled", self._args[0], self.disk.tracked)

    def vdi_resize(self) -> object:
        """Only upwards."""
        size = int(self._args[0])
        record = self.api("VDI.get_record", self._request["vdi_ref"])
        if size < int(record["virtual_size"]):
            raise Fault(79, "VDI Invalid size [opterr=shrinking not allowed]")
        if size >= 1 << 41:
            raise Fault(79, "VDI Invalid size")
        self.api("VDI.set_virtual_size", self._request["vdi_ref"], str(size))
        return {"uuid": record["uuid"], "location": self._vdi}

    vdi_resize_online = vdi_resize

    def vdi_update(self) -> None:
        """Nothing to write, but the VDI must be there."""
        _ = self.disk

    def vdi_epoch_begin(self) -> None:
        """What it held when it was made."""
        if self._request["vdi_on_boot"] == "reset":
            self.disk.content[:] = self.disk.born

    def vdi_attach(self) -> object:
        """Tell `MemoryHost.plug` which disk it is."""
        writable = self._args[0] == "true"
        if self._host.hostname in self.disk.attached:
            raise Fault(46, "The VDI is not available [opterr=already attached]")
        if self.disk.attached and (writable or any(self.disk.attached.values())):
            raise Fault(24, "The VDI is currently in use")
        self.disk.attached[self._host.hostname] = writable
        return {"sr": self._sr, "vdi": self._vdi, "params": "", "params_nbd": "", "o_direct": True}

    def vdi_detach(self) -> None:
        """After it was deactivated."""
        if self._host.hostname in self.disk.active:
            raise Fault(46, "The VDI is not available [opterr=still active]")
        self.disk.attached.pop(self._host.hostname, None)

    def vdi_activate(self) -> None:
        """After it was attached."""
        if self._host.hostname not in self.disk.attached:
            raise Fault(46, "The VDI is not available [opterr=not attached]")
        self.disk.active.add(self._host.hostname)

    def vdi_deactivate(self) -> None:
        """Before it is detached."""
        self.disk.active.discard(self._host.hostname)

    def _add(self, disk: Disk, size: int) -> object:
        location = f"{0xD15C:08x}-0000-4000-8000-{next(self._host.numbers):012x}"
        self.disks[location] = disk
        disk.born = bytes(disk.content)
        self._introduce(location, size)
        return {"uuid": location, "location": location}

    def _introduce(self, location: str, size: int = 0) -> None:
        disk = self.disks[location]
        sm_config = {"type": "raw"} if disk.raw else {}
        self.api(
            "VDI.db_introduce",
            *(location, "", "", self._request["sr_ref"], "user", False, False, {}, location),
            *({}, sm_config, True, str(size or len(disk.content)), str(len(disk.content))),
            *(_NULL, False, _EPOCH, _NULL, disk.tracked),
        )
