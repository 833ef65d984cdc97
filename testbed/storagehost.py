"""A machine that serves storage to hosts over a network, as a filer or a SAN does."""

from testbed.machine import Machine
from testbed.network import Network


class StorageKernel(Machine):
    """A kernel of its own for NFS exports and iSCSI targets; it has no drivers and no toolstack.

    What it serves stands on its disks (`add_disk`, `add_directory`), is set up by functions of
    `testbed.devices` that take any machine, and is reached at `address`.

    Args:
        network: where the hosts are.
        name: host name.
        address: see Machine.
    """

    def __init__(self, network: Network, *, name: str = "storage", address: str = "") -> None:
        super().__init__(kernel="uml", name=name, drivers=False, network=network, address=address)
