"""The data model: every class of this toolstack, by name.

The generated messages, the database's tables, the records on the wire and the columns of
`xe` all follow from here. Fields, types and qualifiers: the XenAPI reference.
"""

from __future__ import annotations

from typing import Final

from xapi import datamodel_host as host
from xapi import datamodel_network as network
from xapi import datamodel_session as session
from xapi import datamodel_storage as storage
from xapi import datamodel_vm as vm
from xapi.fields import Class

CLASSES: Final[dict[str, Class]] = {
    cls.name: cls
    for cls in (
        session.SESSION,
        session.TASK,
        session.MESSAGE,
        session.SECRET,
        host.POOL,
        host.HOST,
        host.HOST_METRICS,
        storage.SR,
        storage.PBD,
        storage.SM,
        storage.VDI,
        storage.VBD,
        vm.VM,
        vm.VM_METRICS,
        vm.VM_GUEST_METRICS,
        vm.CONSOLE,
        network.NETWORK,
        network.VIF,
        network.PIF,
    )
}
