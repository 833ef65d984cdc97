"""SRs: made, found again, scanned, given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from xapi import pbd, vdi_steps
from xapi.datatypes import STRING_MAP, Basic, Ref, Value
from xapi.errors import XenAPIError, uuid_invalid
from xapi.hosts import Member, is_live
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.policy_sr import features
from xapi.storage import StorageError, as_xenapi_errors
from xapi.uuids import is_uuid

_log = logging.getLogger(__name__)


def create(
    call: Call,
    host: str,
    device_config: Mapping[str, str],
    physical_size: int,
    name_label: str,
    name_description: str,
    type_: str,
    content_type: str,
    shared: bool,
    sm_config: Mapping[str, str],
) -> str:
    """Make an SR on a device and plug it in: a shared one on every host that is up.

    If any step fails, there is no SR afterwards.
    """
    db = call.xapi.db
    maker = call.xapi.hosts[host]
    pbd.require_driver(call.xapi, type_)
    with db.transaction():
        sr = db.create(
            "SR",
            name_label=name_label,
            name_description=name_description,
            physical_size=physical_size,
            type=type_,
            content_type=content_type,
            shared=shared,
            sm_config=sm_config,
        )
        for each in call.xapi.hosts if shared else (maker,):
            db.create("PBD", SR=sr, host=each.ref, device_config=device_config)
    try:
        with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "plug")):
            _format(call, sr, maker, physical_size)
    except XenAPIError:
        _remove_records(call, sr)
        raise
    return sr


def _format(call: Call, sr: str, maker: Member, size: int) -> None:
    """Create, attach and scan; what was made is destroyed again when a later step fails."""
    db = call.xapi.db
    storage, uuid = maker.storage, str(db.get("SR", sr, "uuid"))
    with as_xenapi_errors(sr):
        storage.sr_create(call.task, uuid, size)
    try:
        [link] = db.find("PBD", SR=sr, host=maker.ref)
        pbd.attach(call, link)
        with as_xenapi_errors(sr):
            storage.sr_scan(call.task, uuid)
        _attach_elsewhere(call, sr)
    except XenAPIError:
        _undo_format(call, sr, maker)
        raise


def _attach_elsewhere(call: Call, sr: str) -> None:
    """Plug the SR in on all other hosts that are up, at the same time.

    Raises:
        XenAPIError: the first failure, once all are done.
    """
    db = call.xapi.db
    links = [
        link
        for link in db.find("PBD", SR=sr, currently_attached=False)
        if is_live(db, db.get("PBD", link, "host"))
    ]
    if links:
        with ThreadPoolExecutor(len(links)) as threads:
            plugging = [threads.submit(pbd.attach, call, link) for link in links]
        for plugged in plugging:
            plugged.result()


def _undo_format(call: Call, sr: str, maker: Member) -> None:
    """Detach where it can be detached, and destroy what was made."""
    for link in call.xapi.db.find("PBD", SR=sr, currently_attached=True):
        if call.xapi.db.get("PBD", link, "host") != maker.ref:
            _detach_again(call, link)
    try:
        maker.storage.sr_delete(call.task, call.xapi.db.get("SR", sr, "uuid"))
    except (StorageError, XenAPIError) as error:
        _log.warning("SR.create: cleaning up %s: %s", sr, error)


def introduce(
    call: Call,
    uuid: str,
    name_label: str,
    name_description: str,
    type_: str,
    content_type: str,
    shared: bool,
    sm_config: Mapping[str, str],
) -> str:
    """A record for an SR that exists on a device; PBDs are the caller's business."""
    db = call.xapi.db
    if not is_uuid(uuid):
        raise uuid_invalid("SR", uuid)
    with db.transaction():
        if db.find("SR", uuid=uuid):
            raise XenAPIError("SR_UUID_EXISTS", (uuid,))
        pbd.require_driver(call.xapi, type_)
        return db.create(
            "SR",
            uuid=uuid,
            name_label=name_label,
            name_description=name_description,
            physical_size=-1,
            physical_utilisation=-1,
            type=type_,
            content_type=content_type,
            shared=shared,
            sm_config=sm_config,
        )


def destroy(call: Call, sr: str) -> str:
    """Destroy an empty SR and its device's content. No PBD may be plugged in."""
    db = call.xapi.db
    if db.get("SR", sr, "other_config").get("indestructible") == "true":
        raise XenAPIError("SR_INDESTRUCTIBLE", (sr,))
    for host in db.find("host", local_cache_sr=sr):
        raise XenAPIError("SR_IS_CACHE_SR", (host,))
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "destroy")):
        # The driver destroys an attached SR, and leaves it detached.
        [link] = db.find("PBD", SR=sr, host=call.xapi.hosts.of_sr(sr).ref)
        pbd.attach(call, link)
        try:
            with as_xenapi_errors(sr):
                call.xapi.storage.sr_delete(call.task, db.get("SR", sr, "uuid"))
        except XenAPIError:
            _detach_again(call, link)
            raise
        _remove_records(call, sr)
    return ""


def forget(call: Call, sr: str) -> str:
    """Remove the SR's records; what is on its device stays."""
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, "forget")):
        _remove_records(call, sr)
    return ""


def scan(call: Call, sr: str) -> str:
    """Bring the records of the SR's VDIs in line with what is on its device."""
    return _ask_driver(call, sr, "scan", call.xapi.storage.sr_scan)


def update(call: Call, sr: str) -> str:
    """Let the driver write the SR's record into its metadata."""
    return _ask_driver(call, sr, "update", call.xapi.storage.sr_update)


def _ask_driver(call: Call, sr: str, operation: str, ask: Callable[[str, str], None]) -> str:
    with call.xapi.policy.operation(call.task, call.method, Mark("SR", sr, operation)):
        pbd.require_plugged(call.xapi, sr)
        with as_xenapi_errors(sr):
            ask(call.task, call.xapi.db.get("SR", sr, "uuid"))
    return ""


def make(_call: Call, *_values: Value) -> str:
    """A message of old, in whose place there is SR.create."""
    raise XenAPIError("MESSAGE_DEPRECATED")


def _set_name(field: str) -> Callable[[Call, str, str], str]:
    """Rename; a driver that keeps names on disk is told if the SR is attached."""

    def run(call: Call, sr: str, value: str) -> str:
        xapi = call.xapi
        xapi.db.put("SR", sr, **{field: value})
        if "SR_UPDATE" in features(xapi.db, sr) and xapi.db.find(
            "PBD", SR=sr, currently_attached=True
        ):
            try:
                xapi.storage.sr_update(call.task, xapi.db.get("SR", sr, "uuid"))
            except StorageError as error:
                _log.warning("SR.set_%s: the driver did not take the name: %s", field, error)
        return ""

    return run


def _set_size(field: str) -> Callable[[Call, str, int], str]:
    """A size of the SR, in bytes: written by its driver, or by local root."""

    def run(call: Call, self: str, value: int) -> str:
        call.xapi.sessions.require_storage_access(call.session, self)
        call.xapi.db.put("SR", self, **{field: value})
        return ""

    return run


def set_shared(call: Call, sr: str, value: bool) -> str:
    """Whether more than one host may plug the SR in.

    Raises:
        XenAPIError: SR_HAS_MULTIPLE_PBDS [sr]: every one of these hosts would be its master.
    """
    db = call.xapi.db
    with db.transaction():
        if not value and len(db.get("SR", sr, "PBDs")) > 1:
            raise XenAPIError("SR_HAS_MULTIPLE_PBDS", (sr,))
        db.put("SR", sr, shared=value)
    return ""


def _detach_again(call: Call, link: str) -> None:
    try:
        pbd.detach(call, link)
    except XenAPIError as error:
        _log.warning("%s: cleaning up: %s", call.method, error)


def _remove_records(call: Call, sr: str) -> None:
    db = call.xapi.db
    with db.transaction():
        for vdi in db.get("SR", sr, "VDIs"):
            vdi_steps.forget_record(db, vdi)
        for link in db.get("SR", sr, "PBDs"):
            db.destroy("PBD", link)
        db.destroy("SR", sr)


_SR = Param("sr", Ref("SR"))
_SELF = Param("self", Ref("SR"))
_HOST = Param("host", Ref("host"))
_TYPE = Param("type", Basic.STRING)
_DEVICE_CONFIG = Param("device_config", STRING_MAP)
_SM_CONFIG = Param("sm_config", STRING_MAP, {})
_SIZE = Param("physical_size", Basic.INT)
_NAMES = (Param("name_label", Basic.STRING), Param("name_description", Basic.STRING))
_KIND = (_TYPE, Param("content_type", Basic.STRING), Param("shared", Basic.BOOL), _SM_CONFIG)
_TEXT = Param("value", Basic.STRING)
_BYTES = Param("value", Basic.INT)

MESSAGES = (
    Message(
        "SR.create",
        create,
        (_HOST, _DEVICE_CONFIG, _SIZE, *_NAMES, *_KIND),
    ),
    Message("SR.introduce", introduce, (Param("uuid", Basic.STRING), *_NAMES, *_KIND)),
    Message("SR.destroy", destroy, (_SR,)),
    Message("SR.forget", forget, (_SR,)),
    Message("SR.scan", scan, (_SR,)),
    Message("SR.update", update, (_SR,)),
    Message("SR.make", make, (_HOST, _DEVICE_CONFIG, _SIZE, *_NAMES, *_KIND[:2], _SM_CONFIG)),
    Message("SR.set_shared", set_shared, (_SR, Param("value", Basic.BOOL))),
    Message("SR.set_name_label", _set_name("name_label"), (_SR, _TEXT)),
    Message("SR.set_name_description", _set_name("name_description"), (_SR, _TEXT)),
    Message("SR.set_physical_size", _set_size("physical_size"), (_SELF, _BYTES)),
    Message("SR.set_virtual_allocation", _set_size("virtual_allocation"), (_SELF, _BYTES)),
    Message("SR.set_physical_utilisation", _set_size("physical_utilisation"), (_SELF, _BYTES)),
)
