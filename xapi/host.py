"""Hosts: how they come, lose power and come back, and what they can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xapi import host_records, vm_power
from xapi.backend import BackendUnavailable, PluginFailed
from xapi.database import Database
from xapi.datamodel import CLASSES
from xapi.datatypes import NULL, STRING_MAP, Basic, Ref
from xapi.errors import XenAPIError
from xapi.hosts import host_of_vm, is_live
from xapi.message import Call, Message, Param, now
from xapi.toolstack import Toolstack


def populate(db: Database, hostnames: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The records of a pool and of its hosts, the first of which is master: their references.

    Where a state file brought them along, they stay as they are, and what cannot have outlived
    the last server is put in order.
    """
    with db.transaction():
        hosts = tuple(
            _known_host(db, name, alone=len(hostnames) == 1) or host_records.create(db, name)
            for name in hostnames
        )
        for pool in db.refs("pool"):
            _end_operations(db)
            for host in hosts:
                _unplug_all(db, host)
                _set_live(db, host, live=True)
            return pool, hosts
        return db.create("pool", master=hosts[0]), hosts


def _known_host(db: Database, hostname: str, *, alone: bool) -> str:
    """The record of a host, or ""; that of a host which is alone stays through another name."""
    known = db.refs("host") if alone else db.find("host", hostname=hostname)
    return known[0] if known else ""


def lost(xapi: Toolstack, host: str) -> None:
    """The host lost power. What was open there counts as such until somebody knows better."""
    _set_live(xapi.db, host, live=False)


def restarted(xapi: Toolstack, host: str) -> None:
    """The host lost power: nothing is plugged in on it any more, and no VM runs there."""
    xapi.hosts[host].datapath.forget_all()
    with xapi.db.transaction():
        _unplug_all(xapi.db, host)
        _set_live(xapi.db, host, live=True)


def declare_dead(call: Call, host: str) -> str:
    """A host that lost power does not come back: its VMs are halted, its disks are free.

    What its drivers had written about that into the records of VDIs goes too.

    Raises:
        XenAPIError: HOST_IS_LIVE [host].
    """
    db = call.xapi.db
    if is_live(db, host):
        raise XenAPIError("HOST_IS_LIVE", (host,))
    call.xapi.hosts[host].datapath.forget_all()
    with db.transaction():
        _unplug_all(db, host)
        for vdi in db.refs("VDI"):
            sm_config: Mapping[str, str] = db.get("VDI", vdi, "sm_config")
            # `host_<reference>` = RW or RO; `activating` = <reference>.
            kept = {
                key: value
                for key, value in sm_config.items()
                if key != f"host_{host}" and value != host
            }
            if kept != sm_config:
                db.put("VDI", vdi, sm_config=kept)
    return ""


def _set_live(db: Database, host: str, *, live: bool) -> None:
    metrics: str = db.get("host", host, "metrics")
    if db.get("host_metrics", metrics, "live") != live:
        db.put("host_metrics", metrics, live=live, last_updated=now())


def _unplug_all(db: Database, host: str) -> None:
    for pbd in db.find("PBD", host=host):
        db.put("PBD", pbd, currently_attached=False)
    for vbd in db.refs("VBD"):
        vm: str = db.get("VBD", vbd, "VM")
        if host_of_vm(db, vm) not in (host, NULL):
            continue
        if db.get("VBD", vbd, "reserved"):
            db.destroy("VBD", vbd)
        elif not db.exists("VM", vm) or db.get("VM", vm, "power_state") != "Suspended":
            db.put("VBD", vbd, currently_attached=False, device="", runtime_properties={})
    for vm in db.find("VM", resident_on=host, is_control_domain=False):
        vm_power.put_halted(db, vm)


def _end_operations(db: Database) -> None:
    """Nobody works any longer on what the last server had begun."""
    for task in db.refs("task"):
        if db.get("task", task, "status") in ("pending", "cancelling"):
            db.destroy("task", task)
    for cls in CLASSES.values():
        if "current_operations" in cls.by_name:
            for ref in db.refs(cls.name):
                db.put(cls.name, ref, current_operations={})


def call_plugin(call: Call, host: str, plugin: str, fn: str, args: Mapping[str, str]) -> str:
    """Run a function of a host plugin; what it returns is text.

    Raises:
        XenAPIError: what the plugin failed with, XENAPI_MISSING_PLUGIN [plugin], or
            HOST_OFFLINE [host].
    """
    try:
        return call.xapi.hosts[host].backend.plugin_call(plugin, fn, args)
    except BackendUnavailable as error:
        raise XenAPIError("HOST_OFFLINE", (host,)) from error
    except PluginFailed as error:
        raise XenAPIError(error.code, error.params) from error


def _enable(call: Call, host: str) -> str:
    call.xapi.db.put("host", host, enabled=True)
    return ""


def _disable(call: Call, host: str) -> str:
    call.xapi.db.put("host", host, enabled=False)
    return ""


_HOST = Param("host", Ref("host"))

MESSAGES = (
    Message("host.declare_dead", declare_dead, (_HOST,)),
    Message("host.enable", _enable, (_HOST,)),
    Message("host.disable", _disable, (_HOST,)),
    Message(
        "host.call_plugin",
        call_plugin,
        (
            _HOST,
            Param("plugin", Basic.STRING),
            Param("fn", Basic.STRING),
            Param("args", STRING_MAP),
        ),
    ),
    Message("host.get_servertime", lambda _call, _host: now(), (_HOST,)),
)
