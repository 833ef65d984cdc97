"""SM records: what storage drivers there are and what they can do."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from xapi.datatypes import words
from xapi.hosts import Member
from xapi.message import Message
from xapi.storage import DriverInfo, StorageError
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)

#: The capabilities that have a meaning to the toolstack; drivers may name others.
_KNOWN = frozenset(
    words(
        "SR_CREATE SR_DELETE SR_ATTACH SR_DETACH SR_SCAN SR_PROBE SR_UPDATE "
        "SR_SUPPORTS_LOCAL_CACHING SR_METADATA SR_TRIM SR_MULTIPATH SR_CACHING SR_STATS "
        "VDI_CREATE VDI_DELETE VDI_ATTACH VDI_DETACH VDI_MIRROR VDI_MIRROR_IN VDI_RESIZE "
        "VDI_RESIZE_ONLINE VDI_CLONE VDI_SNAPSHOT VDI_ACTIVATE VDI_ACTIVATE_READONLY "
        "VDI_DEACTIVATE VDI_UPDATE VDI_INTRODUCE VDI_GENERATE_CONFIG VDI_ATTACH_OFFLINE "
        "VDI_RESET_ON_BOOT VDI_CONFIG_CBT VDI_COMPOSE LARGE_VDI THIN_PROVISIONING "
        "VDI_READ_CACHING VDI_REVERT"
    )
)


def parse_features(capabilities: Iterable[str]) -> dict[str, int]:
    """Capabilities as name -> version. "NAME" is version 1, and so is a version of nonsense."""
    features: dict[str, int] = {}
    for capability in capabilities:
        name, _, version = capability.partition("/")
        if name in _KNOWN:
            features[name] = int(version) if re.fullmatch("0*[1-9][0-9]{0,8}", version) else 1
    if "VDI_MIRROR" in features:
        features.setdefault("VDI_MIRROR_IN", 1)
    return dict(sorted(features.items()))


def discover(xapi: Toolstack) -> None:
    """Ask every driver of every host what it can do, and bring the SM records in line.

    A driver that does not answer keeps the record that it has. The pool has what all hosts have:
    the drivers, and of each what it can do everywhere.
    """
    hosts = tuple(xapi.hosts)
    with ThreadPoolExecutor(len(hosts)) as threads:
        types_of = list(threads.map(lambda host: host.backend.driver_types(), hosts))
        types = [type_ for type_ in types_of[0] if all(type_ in others for others in types_of)]
        answers = list(threads.map(lambda host: _ask(host, types), hosts))
    found = {
        type_: _common([answer[type_] for answer in answers])
        for type_ in types
        if all(type_ in answer for answer in answers)
    }
    with xapi.db.transaction():
        for ref in xapi.db.refs("SM"):
            if xapi.db.get("SM", ref, "type") not in types:
                xapi.db.destroy("SM", ref)
        for type_, info in found.items():
            _record(xapi, type_, info)


def _ask(host: Member, types: Iterable[str]) -> dict[str, DriverInfo]:
    found = {}
    for type_ in types:
        try:
            found[type_] = host.storage.query(type_)
        except StorageError as error:
            _log.warning("the storage driver %s does not work: %s", type_, error)
    return found


def _common(infos: Sequence[DriverInfo]) -> DriverInfo:
    """What the first host says of a driver, less the capabilities that others lack."""
    everywhere = frozenset.intersection(*(frozenset(info.capabilities) for info in infos))
    offered = tuple(name for name in infos[0].capabilities if name in everywhere)
    return replace(infos[0], capabilities=offered)


def _record(xapi: Toolstack, type_: str, info: DriverInfo) -> None:
    known = xapi.db.find("SM", type=type_)
    ref = known[0] if known else xapi.db.create("SM", type=type_)
    features = parse_features(info.capabilities)
    if features != xapi.db.get("SM", ref, "features"):
        _touch_all(xapi, type_)
    xapi.db.put(
        "SM",
        ref,
        name_label=info.name,
        name_description=info.description,
        vendor=info.vendor,
        copyright=info.copyright,
        version=info.driver_version,
        required_api_version=info.required_api_version,
        configuration=info.configuration,
        capabilities=tuple(features),
        features=features,
        supported_image_formats=info.image_formats,
    )


def _touch_all(xapi: Toolstack, type_: str) -> None:
    """What the SRs of a type and their VDIs allow depends on what the driver can do."""
    for sr in xapi.db.find("SR", type=type_):
        xapi.db.touch("SR", sr)
        for vdi in xapi.db.get("SR", sr, "VDIs"):
            xapi.db.touch("VDI", vdi)


MESSAGES: tuple[Message, ...] = ()
