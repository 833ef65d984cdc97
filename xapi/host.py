"""The host, its control domain and the pool that it makes up."""

from __future__ import annotations

from collections.abc import Mapping

from xapi.database import Database
from xapi.datatypes import STRING_MAP, Basic, Ref
from xapi.errors import XenAPIError
from xapi.message import Call, Message, Param, now
from xapi.toolstack import Toolstack

_API_VERSION = (2, 23)


def populate(db: Database, hostname: str) -> tuple[str, str, str]:
    """The records that exist before any client comes: references of pool, host and dom0."""
    with db.transaction():
        host = db.create(
            "host",
            name_label=hostname,
            hostname=hostname,
            address="127.0.0.1",
            API_version_major=_API_VERSION[0],
            API_version_minor=_API_VERSION[1],
            API_version_vendor="XenSource",
            enabled=True,
            software_version={"product_brand": "sr-testbed", "hostname": hostname},
        )
        dom0 = db.create(
            "VM",
            name_label=f"Control domain on host: {hostname}",
            power_state="Running",
            is_control_domain=True,
            resident_on=host,
            affinity=host,
            domid=0,
        )
        db.put("host", host, control_domain=dom0)
        pool = db.create("pool", master=host)
    return pool, host, dom0


def restarted(xapi: Toolstack) -> None:
    """The host lost power: nothing is plugged in on it any more."""
    xapi.datapath.forget_all()
    with xapi.db.transaction():
        for pbd in xapi.db.find("PBD", host=xapi.host):
            xapi.db.put("PBD", pbd, currently_attached=False)
        for vbd in xapi.db.refs("VBD"):
            if xapi.db.get("VBD", vbd, "reserved"):
                xapi.db.destroy("VBD", vbd)
            else:
                xapi.db.put("VBD", vbd, currently_attached=False, device="")


def call_plugin(call: Call, host: str, plugin: str, fn: str, args: Mapping[str, str]) -> str:
    """Run a function of a host plugin; what it returns is text."""
    call.xapi.db.get("host", host, "uuid")
    if plugin not in call.xapi.plugins:
        raise XenAPIError("XENAPI_MISSING_PLUGIN", (plugin,))
    return call.xapi.plugins[plugin](fn, args)


_HOST = Param("host", Ref("host"))

MESSAGES = (
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
