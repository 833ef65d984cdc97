"""Plugin `tapdisk-pause`: have a host's data path of a disk let go of the disk's images.

pause {sr_uuid, vdi_uuid}      the images are closed, requests wait
unpause {sr_uuid, vdi_uuid}    they are opened again, by their paths, as they are now
refresh {sr_uuid, vdi_uuid}    one after the other

Each answers "True", also where the disk is not active.
"""

from srs import slave
from srs.plugins import by_function


def _pause(arguments: dict[str, str]) -> str:
    slave.pause(arguments["sr_uuid"], arguments["vdi_uuid"])
    return "True"


def _unpause(arguments: dict[str, str]) -> str:
    slave.unpause(arguments["sr_uuid"], arguments["vdi_uuid"])
    return "True"


def _refresh(arguments: dict[str, str]) -> str:
    _pause(arguments)
    return _unpause(arguments)


plugin = by_function({"pause": _pause, "unpause": _unpause, "refresh": _refresh})
