"""The data model: every class of this toolstack, by name.

The generated messages, the database's tables, the records on the wire and the columns of
`xe` all follow from here. Fields, types and qualifiers: the XenAPI reference.
"""

from __future__ import annotations

from typing import Final

from xapi import datamodel_host as host
from xapi import datamodel_storage as storage
from xapi.fields import Class

CLASSES: Final[dict[str, Class]] = {
    cls.name: cls
    for cls in (
        host.SESSION,
        host.TASK,
        host.POOL,
        host.HOST,
        host.VM,
        host.MESSAGE,
        storage.SR,
        storage.PBD,
        storage.SM,
        storage.VDI,
        storage.VBD,
    )
}
