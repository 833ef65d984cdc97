"""Plugin `gc`: an SR's garbage collector, called from outside.

run {srUuid, hostRef}   work until there is nothing left to do; a srs.gc.collector.Report as JSON
abort {srUuid}          end the SR's collector, if there is one

`hostRef` is the host that is called: only the SR's master collects. Unlike other plugins these
take locks of the SR: no driver calls them.
"""

from srs.gc.control import abort
from srs.gc.process import collect
from srs.plugins import by_function


def _run(arguments: dict[str, str]) -> str:
    return collect(arguments["srUuid"], arguments["hostRef"]).as_json()


def _abort(arguments: dict[str, str]) -> str:
    abort(arguments["srUuid"])
    return "True"


plugin = by_function({"run": _run, "abort": _abort})
