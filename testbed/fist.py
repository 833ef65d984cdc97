"""FIST points of a host's drivers, from outside: something happens at just that place.

with host.fist("LVM_revert_create_dest", action="power-cut") as fist:
    with pytest.raises(XenAPI.Failure):
        snapshot.revert_live_disk()
assert fist.reached
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from srs.fist import NAMES
from testbed.errors import DeviceRefused, GuestFault, KernelDied
from testbed.kernel.base import Kernel

POWER_CUT: Final = "power-cut"
_ACTIONS: Final = ("", "error", "hold", "kill", POWER_CUT)


class Fist:
    """A point that is switched on.

    Attributes:
        name: the point.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.name = name
        self._kernel = kernel
        self._reached = threading.Event()
        self._heard = threading.Event()

    @property
    def reached(self) -> bool:
        """Whether a driver has come to the point so far."""
        if not self._heard.is_set():
            # The call's own failure may have come here first.
            with suppress(KernelDied):
                if self._kernel.call("fist_reached", name=self.name):
                    self._heard.wait()
        return self._reached.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a driver comes to the point; says whether one did."""
        return self._reached.wait(seconds)

    def watch(self, then: Callable[[], None]) -> None:
        """Until the point is reached or switched off; in the first case do something."""
        try:
            with suppress(KernelDied):
                if self._kernel.call("fist_wait", name=self.name):
                    self._reached.set()
        finally:
            self._heard.set()
        if self._reached.is_set():
            with suppress(KernelDied):
                then()


@contextmanager
def armed(kernel: Kernel, name: str, action: str, cut: Callable[[], None]) -> Iterator[Fist]:
    """A FIST point that is switched on in this block.

    Args:
        kernel: where the drivers run.
        name: a name of srs.fist.NAMES.
        action: see srs.fist; empty, `error`, `sleep N`, `hold`, `kill` or `power-cut`.
        cut: cuts the power.

    Raises:
        DeviceRefused: there is no such point or action, or it is on already.
    """
    if name not in NAMES or not (action in _ACTIONS or action.startswith("sleep ")):
        raise DeviceRefused(f"no FIST point {name!r} with action {action!r}", hint="see srs.fist")
    try:
        kernel.call("fist_arm", name=name, content=action)
    except GuestFault as fault:
        raise DeviceRefused(f"FIST point {name} is on already") from fault
    fist = Fist(kernel, name)
    then = cut if action == POWER_CUT else lambda: None
    watcher = threading.Thread(target=fist.watch, args=(then,), name=f"fist-{name}")
    watcher.start()
    try:
        yield fist
    finally:
        with suppress(KernelDied):  # with the kernel's memory the point is gone, too
            kernel.call("fist_disarm", name=name)
        watcher.join()
