"""The host plugin `testbed`: what a person on the host's console would do.

    xe host-call-plugin host-uuid=<...> plugin=testbed fn=run args:command='lvs'

`run` gives the command to a shell inside and returns what it printed, less the last newline.
"""

from collections.abc import Mapping

from testbed.errors import TestbedError
from testbed.kernel.base import Kernel
from xapi.errors import plugin_failure


def plugin(kernel: Kernel, fn: str, args: Mapping[str, str]) -> str:
    """Run a function of the plugin.

    Raises:
        XenAPIError: XENAPI_PLUGIN_FAILURE [what, stdout, stderr].
    """
    if fn != "run" or set(args) != {"command"}:
        raise plugin_failure("the plugin has fn=run args:command=<...>", "", "")
    try:
        done = kernel.run(["sh", "-c", args["command"]])
    except TestbedError as error:
        raise plugin_failure("the host is down", "", str(error)) from error
    if done.returncode:
        raise plugin_failure(f"non-zero exit {done.returncode}", done.stdout, done.stderr)
    return done.stdout.removesuffix("\n")
