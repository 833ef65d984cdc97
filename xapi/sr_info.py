"""What can be asked about SRs and devices: types, what a probe finds, hosts, fitness for HA."""

from __future__ import annotations

from collections.abc import Mapping

from xapi import pbd
from xapi.datatypes import NULL, STRING_MAP, Basic, Ref, Value
from xapi.errors import sr_not_supported
from xapi.message import Call, Message, Param
from xapi.policy_sr import features
from xapi.storage import as_xenapi_errors

#: What a driver must be able to do for an HA statefile.
_HA_FEATURES = frozenset({"VDI_GENERATE_CONFIG", "VDI_ATTACH_OFFLINE"})


def probe(
    call: Call,
    host: str,
    device_config: Mapping[str, str],
    type_: str,
    sm_config: Mapping[str, str],
) -> str:
    """What SRs a device holds: the driver's XML document."""
    storage = call.xapi.hosts[host].storage
    pbd.require_driver(call.xapi, type_)
    with as_xenapi_errors(NULL):
        return storage.sr_probe(call.task, type_, device_config, sm_config)


def probe_ext(
    call: Call,
    host: str,
    device_config: Mapping[str, str],
    type_: str,
    sm_config: Mapping[str, str],
) -> str:
    """`probe` with records for an answer, which no driver of the SMAPIv1 gives."""
    call.xapi.db.get("host", host, "uuid")
    pbd.require_driver(call.xapi, type_)
    raise sr_not_supported(NULL)


def get_live_hosts(call: Call, sr: str) -> Value:
    """The hosts that have the SR plugged in."""
    db = call.xapi.db
    with db.lock:
        db.get("SR", sr, "uuid")
        links = db.find("PBD", SR=sr, currently_attached=True)
        return tuple(str(db.get("PBD", link, "host")) for link in links)


def assert_can_host_ha_statefile(call: Call, sr: str) -> str:
    """Whether the SR could hold an HA statefile: plugged in, and attachable without toolstack.

    Raises:
        XenAPIError: SR_HAS_NO_PBDS, SR_OPERATION_NOT_SUPPORTED.
    """
    pbd.require_plugged(call.xapi, sr)
    if not features(call.xapi.db, sr).keys() >= _HA_FEATURES:
        raise sr_not_supported(sr)
    return ""


def get_data_sources(call: Call, sr: str) -> Value:
    """The figures that are recorded about the SR: there are none."""
    call.xapi.db.get("SR", sr, "uuid")
    return ()


def get_supported_types(call: Call) -> Value:
    """The SR types that there are drivers for."""
    db = call.xapi.db
    return tuple(str(db.get("SM", ref, "type")) for ref in db.refs("SM"))


_SR = Param("sr", Ref("SR"))
_PROBED = (
    Param("host", Ref("host")),
    Param("device_config", STRING_MAP),
    Param("type", Basic.STRING),
    Param("sm_config", STRING_MAP, {}),
)

MESSAGES = (
    Message("SR.probe", probe, _PROBED),
    Message("SR.probe_ext", probe_ext, _PROBED),
    Message("SR.get_live_hosts", get_live_hosts, (_SR,)),
    Message("SR.assert_can_host_ha_statefile", assert_can_host_ha_statefile, (_SR,)),
    Message("SR.get_data_sources", get_data_sources, (_SR,)),
    Message("SR.get_supported_types", get_supported_types),
)
