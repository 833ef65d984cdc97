"""Plugin `on-slave`: what a host's driver asks of another host that has the SR plugged in.

is_open {srUuid, vdiUuid}    "True" where the host has the VDI active, else "False"
"""

from srs.datapath import tap
from srs.plugins import by_function


def _is_open(arguments: dict[str, str]) -> str:
    return str(tap.is_active(arguments["srUuid"], arguments["vdiUuid"]))


plugin = by_function({"is_open": _is_open})
