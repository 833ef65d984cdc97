"""Kernels on one wire: who has which address, and what goes wrong between them."""

import contextlib
import itertools
import socket
from ipaddress import IPv4Interface, IPv4Network
from types import TracebackType
from typing import Final, Self

from testbed.errors import DeviceRefused
from testbed.network.switch import Counters, Cut, Port, Switch

#: Bytes of a packet. A User-Mode Linux NIC has it from the kernel's command line, for life.
MTU: Final = 9000


class Nic:
    """A network card of one machine: the socket of the switch that its cable is in.

    Attributes:
        mac: such as 02:00:00:00:00:01.
        address: IPv4 address and network.
        mtu: bytes.
    """

    def __init__(self, network: "Network", port: Port, mac: str, address: IPv4Interface) -> None:
        self.network = network
        self.port = port
        self.mac = mac
        self.address = address
        self.mtu = MTU

    @property
    def ip(self) -> str:
        """The address alone."""
        return str(self.address.ip)

    @property
    def counters(self) -> Counters:
        """Frames that passed the switch's socket."""
        return self.port.counters

    def connect(self) -> socket.socket:
        """The end of the cable for a kernel that boots; the one of an earlier boot is dead."""
        return self.network.switch.plug(self.port)


class Network:
    """A network of its own, which reaches nobody but the kernels that are plugged in.

    Args:
        addresses: where `plug` takes addresses from.
        seed: decides which frames are lost while some are.
    """

    def __init__(self, addresses: str = "192.168.77.0/24", *, seed: int = 0) -> None:
        self.switch = Switch(seed=seed)
        self._addresses = IPv4Network(addresses)
        self._nics: dict[str, Nic] = {}
        self._numbers = itertools.count(1)

    def plug(self, address: str = "") -> Nic:
        """A card with the next free address, or this one.

        Raises:
            DeviceRefused: the address is none of this network, or taken.
        """
        if not address:
            free = (str(host) for host in self._addresses.hosts())
            address = next(host for host in free if host not in self._nics)
        interface = IPv4Interface(f"{address}/{self._addresses.prefixlen}")
        if address in self._nics or interface.network != self._addresses:
            raise DeviceRefused(f"{address} is taken, or not in {self._addresses}")
        number = next(self._numbers)
        mac = "02:00:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4))
        self._nics[address] = Nic(self, self.switch.add_port(), mac, interface)
        return self._nics[address]

    def cut(self, nic: Nic, other: Nic | None = None) -> contextlib.AbstractContextManager[Cut]:
        """Meanwhile a card reaches nobody, or two do not reach each other."""
        return self.switch.cut(nic.port, other.port if other else None)

    def impaired(
        self, *, delay: float = 0.0, loss: float = 0.0
    ) -> contextlib.AbstractContextManager[None]:
        """Meanwhile frames take `delay` seconds, and a share of them (0 to 1) is lost."""
        return self.switch.impaired(delay=delay, loss=loss)

    def close(self) -> None:
        """No network any more. Idempotent."""
        self.switch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
