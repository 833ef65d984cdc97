"""The records that a fresh host has: its own, its control domain, the way to its networks."""

from __future__ import annotations

import platform
from importlib.metadata import version

from xapi.database import Database
from xapi.message import now

_API_VERSION = (2, 23)
_GIB = 1 << 30
_HOST_MEMORY = 8 * _GIB
_DOM0_MEMORY = 2 * _GIB
_MANAGEMENT = "xenbr0"


def create(db: Database, hostname: str) -> str:
    """A host, live and enabled, with its control domain and its place in the networks."""
    host = _create_host_record(db, hostname)
    dom0 = _create_dom0(db, host, hostname)
    db.put("host", host, control_domain=dom0)
    _create_pif(db, host)
    return host


def _create_host_record(db: Database, hostname: str) -> str:
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


def _create_networks(db: Database) -> str:
    """Where storage and clients come through, and one network between hosts and their VMs.

    Returns:
        The former.
    """
    management = db.create(
        "network", name_label="Pool-wide network associated with eth0", bridge=_MANAGEMENT
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
    return management


def _create_pif(db: Database, host: str) -> None:
    """The host's way to the management network."""
    known = db.find("network", bridge=_MANAGEMENT)
    management = known[0] if known else _create_networks(db)
    db.create(
        "PIF",
        device="eth0",
        network=management,
        host=host,
        MAC=f"02:00:00:00:00:{len(db.refs('PIF')) + 1:02x}",
        MTU=1500,
        physical=True,
        management=True,
        ip_configuration_mode="Static",
        IP="127.0.0.1",
        netmask="255.0.0.0",
    )
