"""Plugin `testing-hooks`: FIST points, as tests of XenServer's storage manager switch them.

setFistPoint {fistPoint, active}    `active` is "True" or "False"; answers "True"
"""

import os
from contextlib import suppress

from srs import fist, paths
from srs.plugins import by_function


def _set_fist_point(arguments: dict[str, str]) -> str:
    name, active = arguments["fistPoint"], arguments["active"].lower() == "true"
    if name not in fist.NAMES | {fist.EXIT}:
        raise ValueError(f"no FIST point {name}")
    if active:
        with open(paths.FIST + name, "w", encoding="ascii"):
            return str(True)
    with suppress(FileNotFoundError):
        os.unlink(paths.FIST + name)
    return str(True)


plugin = by_function({"setFistPoint": _set_fist_point})
