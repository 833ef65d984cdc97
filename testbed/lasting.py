"""A host that lasts: what is done through the XenAPI when it starts again, and when it ends.

A real toolstack plugs the PBDs of its host when it starts; here whoever starts the host does,
because tests want to see it unplugged.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import XenAPI


def plug_all(session: Any) -> Iterable[tuple[str, XenAPI.Failure]]:
    """Plug every PBD; yields the uuids of SRs that would not, and why."""
    api = session.xenapi
    for pbd, record in api.PBD.get_all_records().items():
        try:
            api.PBD.plug(pbd)
        except XenAPI.Failure as failure:
            yield api.SR.get_uuid(record["SR"]), failure


def put_away(session: Any) -> None:
    """Shut down VMs and unplug everything, so that drivers leave their SRs in order.

    What refuses is left as it is: the disks are synced all the same, and recover as they do
    after a power cut.
    """
    api = session.xenapi
    for vm, record in api.VM.get_all_records().items():
        if record["power_state"] == "Running" and not record["is_control_domain"]:
            with suppress(XenAPI.Failure):
                api.VM.hard_shutdown(vm)
    for vbd, record in api.VBD.get_all_records().items():
        if record["currently_attached"]:
            with suppress(XenAPI.Failure):
                api.VBD.unplug(vbd)
    for pbd, record in api.PBD.get_all_records().items():
        if record["currently_attached"]:
            with suppress(XenAPI.Failure):
                api.PBD.unplug(pbd)
