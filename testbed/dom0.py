"""The host plugin `testbed`: what a person on the host's console would do.

    xe host-call-plugin host-uuid=<...> plugin=testbed fn=run args:command='lvs'

`run` gives the command to a shell inside and returns what it printed, less the last newline.
"""

from collections.abc import Mapping

from testbed.kernel.base import Kernel
from xapi.backend import PluginFailed


def plugin(kernel: Kernel, fn: str, args: Mapping[str, str]) -> str:
    """Run a function of the plugin.

    Raises:
        PluginFailed: XENAPI_PLUGIN_FAILURE [what, stdout, stderr].
        KernelDied: the host is down.
    """
    if fn != "run" or set(args) != {"command"}:
        raise PluginFailed("the plugin has fn=run args:command=<...>", "", "")
    done = kernel.run(["sh", "-c", args["command"]])
    if done.returncode:
        raise PluginFailed(f"non-zero exit {done.returncode}", done.stdout, done.stderr)
    return done.stdout.removesuffix("\n")
