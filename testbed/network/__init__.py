"""A network for kernels, without any right on this machine: a switch in a thread."""

from testbed.network.lan import Network, Nic

__all__ = ["Network", "Nic"]
