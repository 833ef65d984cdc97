"""Network cards over netlink: what they are like, more addresses, and traffic control.

By way of pyroute2, the one package of this directory that is not of the standard library. To
import it takes 1.3 s in a guest and 32 MiB, so nothing here is done while a guest boots (two
ioctls give a card its address in 0.3 ms: testbed/guest/linux.py), and the process that has done
it ends (testbed/guest/ops.py). Its operations take 10 ms. Numbers and layouts of netlink, of
its queue disciplines above all, are what it earns its place with.
"""

import sys
from typing import Any

from testbed.guest.setup import HOST_ROOT

_ROOT = 1 << 16  # handle 1:0


def _open(packages: str) -> Any:
    """An IPRoute out of the directory `packages` of the machine."""
    sys.path.append(HOST_ROOT + packages)
    from pyroute2 import IPRoute

    return IPRoute()


def _index(ip: Any, name: str) -> int:
    found: list[int] = ip.link_lookup(ifname=name)
    if not found:
        raise LookupError(f"there is no network card {name}")
    return found[0]


def inspect(_blob: bytes, packages: str, name: str) -> tuple[Any, bytes]:
    """What a card is like; counters are packets."""
    with _open(packages) as ip:
        index = _index(ip, name)
        (link,) = ip.get_links(index)
        counters = link.get("stats64")
        neighbours = ip.get_neighbours(ifindex=index)
        return {
            "mac": link.get("address"),
            "mtu": link.get("mtu"),
            "up": link.get("state") == "up",
            "addresses": [
                f"{address.get('address')}/{address['prefixlen']}"
                for address in ip.get_addr(index=index, family=2)
            ],
            "neighbours": {
                one.get("dst"): one.get("lladdr") for one in neighbours if one.get("lladdr")
            },
            "queues": [queue.get("kind") for queue in ip.get_qdiscs(index)],
            "received": counters["rx_packets"],
            "sent": counters["tx_packets"],
            "dropped": counters["rx_dropped"] + counters["tx_dropped"],
        }, b""


def change_address(
    _blob: bytes, packages: str, name: str, command: str, address: str
) -> tuple[Any, bytes]:
    """Give a card one more address, such as 192.168.77.9/24, or take it away (`add`, `del`)."""
    ip_address, _, prefix = address.partition("/")
    with _open(packages) as ip:
        index = _index(ip, name)
        ip.addr(command, index=index, address=ip_address, prefixlen=int(prefix))
    return None, b""


def shape(
    _blob: bytes, packages: str, name: str, netem: dict[str, float] | None
) -> tuple[Any, bytes]:
    """Put the queue discipline netem on what a card sends, or take it off."""
    with _open(packages) as ip:
        index = _index(ip, name)
        if netem is None:
            ip.tc("del", "netem", index=index, handle=_ROOT)
        else:
            ip.tc("add", "netem", index=index, handle=_ROOT, **netem)
    return None, b""
