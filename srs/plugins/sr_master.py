"""Plugin `sr-master`: what hosts ask of another one, above all of the SR's master.

is_working {srUuid}      "True" while a driver or a collector of the host is at work on the SR
"""

from srs.locks import Lock
from srs.plugins import by_function


def _is_working(arguments: dict[str, str]) -> str:
    lock = Lock(arguments["srUuid"], "sr")
    if not lock.try_acquire():
        return "True"
    lock.release()
    return "False"


plugin = by_function({"is_working": _is_working})
