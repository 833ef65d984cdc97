"""What CloudStack and Terraform call around the snapshot and the revert of a VM, in their order.

They stand on nothing but the wire: XML-RPC as CloudStack's Java library speaks it, JSON-RPC
2.0 as Terraform's Go library does. What comes out are the client's own books, which are right
only if the toolstack told it the truth.
"""

from __future__ import annotations

import http.client
import itertools
import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from xapi.errors import XenAPIError

#: A call in the client's session: `api("VM.get_record", vm)`. Raises XenAPIError.
Api = Callable[..., Any]

_PASSWORD = "testbed"


@dataclass(frozen=True, slots=True)
class Books:
    """userdevice -> uuid of the VDI, as the client noted it before and after the revert."""

    before: dict[str, str]
    after: dict[str, str]
    snapshot: str


# -- CloudStack


@contextmanager
def cloudstack_session(url: str) -> Iterator[Api]:
    """XML-RPC, with three arguments to log in."""
    proxy = xmlrpc.client.ServerProxy(url)

    def send(method: str, *params: Any) -> Any:
        reply: Any = getattr(proxy, method)(*params)
        if reply["Status"] != "Success":
            code, *details = reply["ErrorDescription"]
            raise XenAPIError(code, details)
        return reply["Value"]

    session = send("session.login_with_password", "root", _PASSWORD, "1.3")
    try:
        yield lambda method, *params: send(method, session, *params)
        send("session.logout", session)
    finally:
        proxy("close")()


def cloudstack(
    api: Api, name: str, *, memory: bool, revert: Callable[[Api, str], None] | None = None
) -> Books:
    """Snapshot the VM of a name, revert it through a host plugin, write the volumes' new paths.

    `revert(api, snapshot)`: what the plugin would do, on a host that has none.
    """
    [host] = api("host.get_all")
    api("host.get_enabled", host)
    [vm] = api("VM.get_by_name_label", name)
    volumes = _map_volumes(api, vm)
    kind = "Async.VM.checkpoint" if memory else "Async.VM.snapshot"
    task = api(kind, vm, "i-2-3-VM_VS_20260101")
    api("task.add_to_other_config", task, "CS_URI", "/vm/snapshot")
    snapshot = _result_of(api, task)
    uuid = api("VM.get_uuid", snapshot)

    if revert is None:
        arguments = {"snapshotUUID": uuid, "oldVmUuid": api("VM.get_uuid", vm)}
        arguments |= {"snapshotMemory": str(memory).lower(), "vmName": name}
        api("host.call_plugin", host, "vmopsSnapshot", "revert_memory_snapshot", arguments)
    else:
        revert(api, snapshot)
    [vm] = api("VM.get_by_name_label", name)
    return Books(volumes, _map_volumes(api, vm), snapshot)


def _map_volumes(api: Api, vm: str) -> dict[str, str]:
    volumes = {}
    for vbd in api("VM.get_VBDs", vm):
        record = api("VBD.get_record", vbd)
        if record["type"] == "Disk":
            volumes[record["userdevice"]] = api("VDI.get_uuid", record["VDI"])
    return volumes


def _result_of(api: Api, task: str) -> str:
    """Ask for the task's status until it has ended, as its client does; the reference it made."""
    try:
        while (status := api("task.get_status", task)) in ("pending", "cancelling"):
            pass
        if status != "success":
            code, *details = api("task.get_error_info", task)
            raise XenAPIError(code, details)
        result: str = api("task.get_result", task)
        return result.removeprefix("<value>").removesuffix("</value>")
    finally:
        api("task.destroy", task)


# -- Terraform


@contextmanager
def terraform_session(url: str) -> Iterator[Api]:
    """JSON-RPC 2.0, with four arguments to log in."""
    ids = itertools.count(1)
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:

        def send(method: str, *params: Any) -> Any:
            request = {"jsonrpc": "2.0", "method": method, "params": params, "id": next(ids)}
            kind = {"Content-Type": "application/json; charset=utf-8"}
            connection.request("POST", "/jsonrpc", json.dumps(request), kind)
            reply = json.loads(connection.getresponse().read())
            if "error" in reply:
                raise XenAPIError(reply["error"]["message"], reply["error"]["data"])
            return reply["result"]

        login = ("root", _PASSWORD, "1.0", "terraform provider")
        session = send("session.login_with_password", *login)
        yield lambda method, *params: send(method, session, *params)
        send("session.logout", session)


def terraform(api: Api, vm_uuid: str, *, memory: bool) -> Books:
    """Snapshot a VM, revert it, bring it to the power state that the snapshot remembers."""
    vm = api("VM.get_by_uuid", vm_uuid)
    drives = _hard_drives(api, vm)
    snapshot = api("VM.checkpoint" if memory else "VM.snapshot", vm, "terraform snapshot")
    api("VM.get_record", snapshot)

    api("VM.revert", snapshot)
    _restore_power_state(api, vm, api("VM.get_snapshot_info", snapshot))
    return Books(drives, _hard_drives(api, vm), snapshot)


def _hard_drives(api: Api, vm: str) -> dict[str, str]:
    drives = {}
    for vbd in api("VM.get_VBDs", vm):
        if api("VBD.get_type", vbd) == "Disk":
            vdi = api("VDI.get_record", api("VBD.get_VDI", vbd))
            drives[api("VBD.get_userdevice", vbd)] = vdi["uuid"]
    return drives


def _restore_power_state(api: Api, vm: str, snapshot_info: dict[str, str]) -> None:
    if snapshot_info.get("power-state-at-snapshot") != "Running":
        return
    [host] = api("host.get_all")
    state = api("VM.get_power_state", vm)
    if state == "Halted":
        api("VM.assert_can_boot_here", vm, host)
        api("VM.start_on", vm, host, False, False)
    elif state == "Suspended":
        api("VM.resume_on", vm, host, False, False)
