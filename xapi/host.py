"""The host, its control domain and the pool that it makes up."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from xapi import vm_power
from xapi.backend import BackendUnavailable, PluginFailed
from xapi.database import Database
from xapi.datamodel import CLASSES
from xapi.datatypes import STRING_MAP, Basic, Ref
from xapi.errors import XenAPIError
from xapi.message import Call, Message, Param, now
from xapi.toolstack import Toolstack

_API_VERSION = (2, 23)
_GIB = 1 << 30
_HOST_MEMORY = 8 * _GIB
_DOM0_MEMORY = 2 * _GIB


def populate(db: Database, hostname: str) -> tuple[str, str, str]:
    """The records that a fresh host has: references of pool, host and dom0.

    Where a state file brought them along, they stay as they are, and what cannot have outlived
    the last server is put in order.
    """
    with db.transaction():
        for pool in db.refs("pool"):
            host: str = db.get("pool", pool, "master")
            _end_operations(db)
            _unplug_all(db, host)
            return pool, host, db.get("host", host, "control_domain")
        host = _create_host(db, hostname)
        dom0 = _create_dom0(db, host, hostname)
        db.put("host", host, control_domain=dom0)
        _create_networks(db, host)
        return db.create("pool", master=host), host, dom0


def _create_host(db: Database, hostname: str) -> str:
    metrics = db.create(
        "host_metrics",
        memory_total=_HOST_MEMORY,
        memory_free=_HOST_MEMORY - _DOM0_MEMORY,
        live=True,
        last_updated=now(),
    )
    return db.create(
        "host",
        name_label=hostname,
        hostname=hostname,
        address="127.0.0.1",
        API_version_major=_API_VERSION[0],
        API_version_minor=_API_VERSION[1],
        API_version_vendor="XenSource",
        enabled=True,
        software_version=_software_version(hostname),
        metrics=metrics,
    )


def _software_version(hostname: str) -> dict[str, str]:
    api = ".".join(map(str, _API_VERSION))
    return {
        "product_brand": "sr-testbed",
        "product_version": version("sr-testbed"),
        "build_number": "0",
        "date": now().date().isoformat(),
        "hostname": hostname,
        "linux": platform.release(),
        "xapi": api,
    }


def _create_dom0(db: Database, host: str, hostname: str) -> str:
    limits = ("memory_static_max", "memory_dynamic_max", "memory_dynamic_min", "memory_target")
    return db.create(
        "VM",
        name_label=f"Control domain on host: {hostname}",
        power_state="Running",
        is_control_domain=True,
        resident_on=host,
        affinity=host,
        domid=0,
        domain_type="pv",
        metrics=db.create(
            "VM_metrics",
            memory_actual=_DOM0_MEMORY,
            VCPUs_number=1,
            start_time=now(),
            last_updated=now(),
            current_domain_type="pv",
        ),
        **dict.fromkeys(limits, _DOM0_MEMORY),
    )


def _create_networks(db: Database, host: str) -> None:
    """One that storage and clients come through, one between the host and its VMs."""
    management = db.create(
        "network", name_label="Pool-wide network associated with eth0", bridge="xenbr0"
    )
    db.create(
        "network",
        name_label="Host internal management network",
        bridge="xenapi",
        other_config={
            "is_guest_installer_network": "true",
            "is_host_internal_management_network": "true",
        },
    )
    db.create(
        "PIF",
        device="eth0",
        network=management,
        host=host,
        MAC="02:00:00:00:00:01",
        MTU=1500,
        physical=True,
        management=True,
        ip_configuration_mode="Static",
        IP="127.0.0.1",
        netmask="255.0.0.0",
    )


def restarted(xapi: Toolstack) -> None:
    """The host lost power: nothing is plugged in on it any more, and no VM runs there."""
    xapi.datapath.forget_all()
    with xapi.db.transaction():
        _unplug_all(xapi.db, xapi.host)


def _unplug_all(db: Database, host: str) -> None:
    for pbd in db.find("PBD", host=host):
        db.put("PBD", pbd, currently_attached=False)
    for vbd in db.refs("VBD"):
        vm: str = db.get("VBD", vbd, "VM")
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
    call.xapi.db.get("host", host, "uuid")
    try:
        return call.xapi.backend.plugin_call(plugin, fn, args)
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
