"""What a driver answers to requests that no toolstack should make; nothing has changed after."""

from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest

from scenarios.storage import VDI, Repository

_NOWHERE = "00000000-0000-4000-8000-000000000000"


def fault_of(sr: Repository, document: str) -> Fault:
    """The fault with which the SR's driver answers a document; no trace of Python in it."""
    reply = sr.host.sm_call(sr.api.SR.get_type(sr.ref), document)
    with pytest.raises(Fault) as caught:
        loads(reply.stdout)
    assert "Traceback" not in reply.stdout + reply.stderr
    return caught.value


def request(sr: Repository, command: str, vdi_uuid: str, *arguments: str) -> str:
    """A SMAPIv1 document as the toolstack would send it."""
    pbd = sr.pbd()
    fields: dict[str, Any] = {
        "command": command,
        "session_ref": sr.session.handle,
        "host_ref": sr.api.PBD.get_host(pbd),
        "sr_ref": sr.ref,
        "sr_uuid": sr.uuid,
        "device_config": {**sr.api.PBD.get_device_config(pbd), "SRmaster": "true"},
        "vdi_uuid": vdi_uuid,
        "vdi_location": vdi_uuid,
        "args": list(arguments),
    }
    return dumps((fields,), command)


def test_requests_that_make_no_sense(sr: Repository, vdi: VDI) -> None:
    """46 for a disk that is not there, 143 for what is no request, 1 for a bad argument."""
    snapshot = vdi.snapshot()
    stored = sr.stored()
    unknown_snapshot = request(sr, "vdi_revert", _NOWHERE, vdi.uuid)
    unknown_target = request(sr, "vdi_revert", snapshot.uuid, _NOWHERE)
    no_target = request(sr, "vdi_revert", snapshot.uuid)
    to_itself = request(sr, "vdi_revert", vdi.uuid, vdi.uuid)
    assert fault_of(sr, unknown_snapshot).faultCode == 46
    assert fault_of(sr, unknown_target).faultCode == 46
    assert fault_of(sr, request(sr, "vdi_attach", _NOWHERE, "true")).faultCode == 46
    assert fault_of(sr, no_target).faultCode == 143
    assert fault_of(sr, to_itself).faultCode == 1
    assert fault_of(sr, request(sr, "vdi_dance", vdi.uuid)).faultCode == 143
    for garbage in ("", "<methodCall><meth", dumps(("no struct",), "vdi_revert")):
        assert fault_of(sr, garbage).faultCode == 143
    assert sr.stored() == stored
    snapshot.revert_live_disk()
