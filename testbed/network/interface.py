"""A network card as its machine's kernel has it: addresses, neighbours, traffic control.

What happens on the wire is the switch's business (testbed/network/lan.py); here is what one
machine does to what it sends, as with `tc` and `ip`.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import DeviceRefused

if TYPE_CHECKING:
    from testbed.kernel.base import Kernel


@dataclass(frozen=True, slots=True)
class State:
    """What a card is like.

    Attributes:
        addresses: such as 192.168.77.1/24.
        neighbours: address -> MAC of those that it knows.
        queues: its queue disciplines.
        received: packets, as are `sent` and `dropped`.
    """

    mac: str
    mtu: int
    up: bool
    addresses: Sequence[str]
    neighbours: Mapping[str, str]
    queues: Sequence[str]
    received: int
    sent: int
    dropped: int


@lru_cache
def _packages() -> str:
    """The directory that pyroute2 was installed to: guests find it there, too."""
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.origin is None:
        raise DeviceRefused("the Python package pyroute2 is missing", hint="pip install pyroute2")
    return str(Path(spec.origin).resolve().parents[1])


class Interface:
    """One card, from inside. Each call takes a second or two: see testbed/guest/netlink.py."""

    def __init__(self, kernel: "Kernel", name: str) -> None:
        self._kernel = kernel
        self._name = name

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._kernel.call(operation, packages=_packages(), name=self._name, **arguments)

    def state(self) -> State:
        """What it is like now."""
        return State(**self._call("net_inspect"))

    @contextmanager
    def extra_address(self, address: str) -> Iterator[None]:
        """Meanwhile it has one more address, such as 192.168.77.9/24."""
        self._call("net_address", command="add", address=address)
        try:
            yield
        finally:
            self._call("net_address", command="del", address=address)

    @contextmanager
    def shaped(
        self,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
    ) -> Iterator[None]:
        """Meanwhile what it sends is treated so by the kernel's own `netem`.

        Args:
            delay: seconds.
            jitter: seconds that the delay varies by, which changes the order of packets.
            loss: share of the packets, 0 to 1.
            duplicate: share of those that are sent twice.
            corrupt: share of those in which one bit is turned.
        """
        wanted = {
            "delay": int(delay * 1e6),
            "jitter": int(jitter * 1e6),
            "loss": loss * 100,
            "duplicate": duplicate * 100,
            "prob_corrupt": corrupt * 100,
        }
        self._kernel.require("sch_netem")
        self._call("net_shape", netem={name: value for name, value in wanted.items() if value})
        try:
            yield
        finally:
            self._call("net_shape", netem=None)
