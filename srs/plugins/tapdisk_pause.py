"""Plugin `tapdisk-pause`: have a host's data path of a disk let go of the disk's images.

pause {sr_uuid, vdi_uuid}      the images are closed, requests wait
unpause {sr_uuid, vdi_uuid}    they are opened again, by their paths
refresh {sr_uuid, vdi_uuid}    one after the other

Each answers "True", also where the disk is not active.
"""

from srs.datapath.server import Server
from srs.plugins import by_function


def _server(arguments: dict[str, str]) -> Server:
    return Server(arguments["sr_uuid"], arguments["vdi_uuid"])


def _pause(arguments: dict[str, str]) -> str:
    _server(arguments).pause()
    return "True"


def _unpause(arguments: dict[str, str]) -> str:
    _server(arguments).unpause()
    return "True"


def _refresh(arguments: dict[str, str]) -> str:
    _pause(arguments)
    return _unpause(arguments)


plugin = by_function({"pause": _pause, "unpause": _unpause, "refresh": _refresh})
