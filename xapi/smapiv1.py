"""SMAPIv1: SMAPIv2 over a plugin call, one XML-RPC document in and one out.

The driver gets a methodCall whose only parameter is a struct, does its work (calling back
into the XenAPI with the session that it was given) and prints a methodResponse. How its
answer reaches the client:

    fault 38                    Unimplemented
    fault 16, 24, 39, 144       SR_DEVICE_IN_USE, VDI_IN_USE, SR_NOT_EMPTY, VDI_MISSING
    any other fault n           SR_BACKEND_FAILURE_n ["", the fault's text, stderr]
    exit status not 0           SR_BACKEND_FAILURE ["non-zero exit", stdout, stderr]
    killed by a signal          SR_BACKEND_FAILURE ["received signal: n", stdout, stderr]
    not XML-RPC                 INTERNAL_ERROR [what is wrong with it]
    the host is down            HOST_OFFLINE [host]
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xapi.backend import BackendUnavailable, HostBackend, PluginReply
from xapi.database import Database
from xapi.datatypes import NULL
from xapi.errors import handle_invalid
from xapi.hosts import is_master_of
from xapi.session import Sessions
from xapi.storage import BackendError, DriverInfo, NewVDI, Unimplemented, VDIName
from xapi.wire import WireError, parse_response

_UNIMPLEMENTED = 38
_FAULTS = {16: "SR_DEVICE_IN_USE", 24: "VDI_IN_USE", 39: "SR_NOT_EMPTY", 144: "VDI_MISSING"}

_Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a driver runs: the reference of a host, and the way to it."""

    host: str
    backend: HostBackend


class SMAPIv1:
    """A :class:`~xapi.storage.Storage` whose drivers are SMAPIv1 plugins on hosts.

    Args:
        db: what the requests are made of.
        sessions: where drivers get theirs.
        where: the place for a call about an SR (its reference), or about none (NULL).
    """

    def __init__(self, db: Database, sessions: Sessions, where: Callable[[str], Place]) -> None:
        self._db = db
        self._sessions = sessions
        self._where = where

    # -- SR

    def query(self, driver: str) -> DriverInfo:
        """sr_get_driver_info: the only command without a session."""
        place = self._where(NULL)
        info = _struct(self._run(place, driver, "sr_get_driver_info", {"device_config": {}}))
        return DriverInfo(
            name=str(info.get("name", "")),
            description=str(info.get("description", "")),
            vendor=str(info.get("vendor", "")),
            copyright=str(info.get("copyright", "")),
            driver_version=str(info.get("driver_version", "")),
            required_api_version=str(info.get("required_api_version", "")),
            capabilities=tuple(map(str, info.get("capabilities", ()))),
            configuration={
                str(item["key"]): str(item["description"]) for item in info.get("configuration", ())
            },
            image_formats=tuple(map(str, info.get("supported_image_formats", ()))),
        )

    def sr_create(self, task: str, sr: str, size: int) -> None:
        """sr_create, args = [size in bytes]."""
        self._sr(task, "sr_create", sr, args=[str(size)])

    def sr_delete(self, task: str, sr: str) -> None:
        """sr_delete."""
        self._sr(task, "sr_delete", sr)

    def sr_attach(self, task: str, sr: str) -> None:
        """sr_attach."""
        self._sr(task, "sr_attach", sr)

    def sr_detach(self, task: str, sr: str) -> None:
        """sr_detach."""
        self._sr(task, "sr_detach", sr)

    def sr_scan(self, task: str, sr: str) -> None:
        """sr_scan: the driver writes the records itself."""
        self._sr(task, "sr_scan", sr)

    def sr_update(self, task: str, sr: str) -> None:
        """sr_update."""
        self._sr(task, "sr_update", sr)

    def sr_probe(
        self,
        task: str,
        driver: str,
        device_config: Mapping[str, str],
        sm_config: Mapping[str, str],
    ) -> str:
        """sr_probe, for a device on which there may be no SR at all."""
        request = {
            "device_config": {**device_config, "SRmaster": "true"},
            "sr_sm_config": dict(sm_config),
        }
        place = self._where(NULL)
        return str(self._with_session(place, driver, "sr_probe", task, NULL, request))

    # -- VDI

    def vdi_create(self, task: str, sr: str, vdi: NewVDI) -> VDIName:
        """vdi_create; the eight arguments are size, names and what a snapshot would have."""
        args = [
            str(vdi.virtual_size),
            vdi.name_label,
            vdi.name_description,
            "",
            "false",
            "19700101T00:00:00Z",
            "",
            str(vdi.read_only).lower(),
        ]
        extra = {"vdi_type": vdi.type, "vdi_sm_config": dict(vdi.sm_config or {})}
        return _name(self._sr(task, "vdi_create", sr, args=args, **extra))

    def vdi_introduce(
        self, task: str, sr: str, uuid: str, location: str, sm_config: Mapping[str, str]
    ) -> VDIName:
        """vdi_introduce: there is no record yet that vdi_ref could name."""
        extra = {"new_uuid": uuid, "vdi_location": location, "vdi_sm_config": dict(sm_config)}
        return _name(self._sr(task, "vdi_introduce", sr, **extra))

    def vdi_delete(self, task: str, sr: str, vdi: str) -> None:
        """vdi_delete."""
        self._vdi(task, "vdi_delete", sr, vdi)

    def vdi_snapshot(
        self, task: str, sr: str, vdi: str, driver_params: Mapping[str, str]
    ) -> VDIName:
        """vdi_snapshot; drivers read driver_params even when it is empty."""
        extra = {"driver_params": dict(driver_params)}
        return _name(self._vdi(task, "vdi_snapshot", sr, vdi, **extra))

    def vdi_clone(self, task: str, sr: str, vdi: str, driver_params: Mapping[str, str]) -> VDIName:
        """vdi_clone; driver_params as in vdi_snapshot."""
        extra = {"driver_params": dict(driver_params)}
        return _name(self._vdi(task, "vdi_clone", sr, vdi, **extra))

    def vdi_revert(
        self, task: str, sr: str, snapshot: str, target: str, driver_params: Mapping[str, str]
    ) -> None:
        """vdi_revert: the request's VDI is the snapshot, args = [the target's reference]."""
        args = [self._vdi_ref(self._db.by_uuid("SR", sr), target)]
        extra = {"driver_params": dict(driver_params)} if driver_params else {}
        self._vdi(task, "vdi_revert", sr, snapshot, args=args, **extra)

    def vdi_resize(self, task: str, sr: str, vdi: str, size: int, *, online: bool) -> VDIName:
        """vdi_resize or vdi_resize_online, args = [size in bytes]."""
        command = "vdi_resize_online" if online else "vdi_resize"
        return _name(self._vdi(task, command, sr, vdi, args=[str(size)]))

    def vdi_update(self, task: str, sr: str, vdi: str) -> None:
        """vdi_update."""
        self._vdi(task, "vdi_update", sr, vdi)

    def vdi_generate_config(self, task: str, sr: str, vdi: str) -> str:
        """vdi_generate_config."""
        return str(self._vdi(task, "vdi_generate_config", sr, vdi))

    def vdi_enable_cbt(self, task: str, sr: str, vdi: str) -> None:
        """vdi_enable_cbt."""
        self._vdi(task, "vdi_enable_cbt", sr, vdi)

    def vdi_disable_cbt(self, task: str, sr: str, vdi: str) -> None:
        """vdi_disable_cbt."""
        self._vdi(task, "vdi_disable_cbt", sr, vdi)

    def vdi_data_destroy(self, task: str, sr: str, vdi: str) -> None:
        """vdi_data_destroy."""
        self._vdi(task, "vdi_data_destroy", sr, vdi)

    def vdi_list_changed_blocks(self, task: str, sr: str, older: str, newer: str) -> str:
        """vdi_list_changed_blocks: the request's VDI is the older, args = [the newer's ref]."""
        args = [self._vdi_ref(self._db.by_uuid("SR", sr), newer)]
        return str(self._vdi(task, "vdi_list_changed_blocks", sr, older, args=args))

    def vdi_epoch_begin(self, task: str, sr: str, vdi: str) -> None:
        """vdi_epoch_begin; the request's vdi_on_boot tells the driver what to do."""
        self._vdi(task, "vdi_epoch_begin", sr, vdi)

    def vdi_attach(self, task: str, sr: str, vdi: str, *, writable: bool) -> Mapping[str, object]:
        """vdi_attach, args = ["true"/"false"]."""
        return _struct(self._vdi(task, "vdi_attach", sr, vdi, args=[str(writable).lower()]))

    def vdi_detach(self, task: str, sr: str, vdi: str) -> None:
        """vdi_detach."""
        self._vdi(task, "vdi_detach", sr, vdi)

    def vdi_activate(self, task: str, sr: str, vdi: str, *, writable: bool) -> None:
        """vdi_activate, args = ["true"/"false"]."""
        self._vdi(task, "vdi_activate", sr, vdi, args=[str(writable).lower()])

    def vdi_deactivate(self, task: str, sr: str, vdi: str) -> None:
        """vdi_deactivate."""
        self._vdi(task, "vdi_deactivate", sr, vdi)

    # -- the plugin call

    def _sr(self, task: str, command: str, sr: str, **extra: object) -> object:
        ref = self._db.by_uuid("SR", sr)
        driver: str = self._db.get("SR", ref, "type")
        place = self._where(ref)
        request = {"sr_ref": ref, "sr_uuid": sr, **extra}
        return self._with_session(place, driver, command, task, ref, request)

    def _vdi(self, task: str, command: str, sr: str, vdi: str, **extra: object) -> object:
        ref = self._vdi_ref(self._db.by_uuid("SR", sr), vdi)
        request = {
            "vdi_ref": ref,
            "vdi_location": vdi,
            "vdi_uuid": self._db.get("VDI", ref, "uuid"),
            "vdi_on_boot": self._db.get("VDI", ref, "on_boot"),
            "vdi_allow_caching": str(self._db.get("VDI", ref, "allow_caching")).lower(),
            **extra,
        }
        return self._sr(task, command, sr, **request)

    def _device_config(self, sr: str, host: str) -> Mapping[str, str]:
        pbds = self._db.find("PBD", SR=sr, host=host)
        if not pbds:
            raise BackendError("SR_HAS_NO_PBDS", (sr,))
        config: Mapping[str, str] = self._db.get("PBD", pbds[0], "device_config")
        return {**config, "SRmaster": str(is_master_of(self._db, host, sr)).lower()}

    def _vdi_ref(self, sr: str, location: str) -> str:
        with self._db.lock:
            vdis: tuple[str, ...] = self._db.get("SR", sr, "VDIs")
            for vdi in vdis:
                if self._db.get("VDI", vdi, "location") == location:
                    return vdi
        raise handle_invalid("VDI", location)

    def _with_session(
        self, place: Place, driver: str, command: str, task: str, sr: str, request: _Request
    ) -> object:
        with self._sessions.of_driver(place.host, sr) as session:
            request = {"session_ref": session, "subtask_of": task, **request}
            if sr != NULL:
                # Only now: while the session is open, the pool keeps its master.
                request["device_config"] = self._device_config(sr, place.host)
            return self._run(place, driver, command, request)

    @staticmethod
    def _run(place: Place, driver: str, command: str, request: _Request) -> object:
        struct = {"host_ref": place.host, "command": command, "args": [], **request}
        document = xmlrpc.client.dumps((struct,), command)
        try:
            reply = place.backend.sm_call(driver, document)
        except BackendUnavailable as error:
            raise BackendError("HOST_OFFLINE", (place.host,)) from error
        return _result(command, reply)


def _result(command: str, reply: PluginReply) -> object:
    if reply.returncode < 0:
        status = f"received signal: {-reply.returncode}"
        raise BackendError("SR_BACKEND_FAILURE", (status, reply.stdout, reply.stderr))
    if reply.returncode > 0:
        raise BackendError("SR_BACKEND_FAILURE", ("non-zero exit", reply.stdout, reply.stderr))
    try:
        return parse_response(reply.stdout.encode(errors="replace"))
    except xmlrpc.client.Fault as fault:
        raise _fault(command, fault, reply.stderr) from fault
    except WireError as error:
        text = f"{command}: the driver's answer is no methodResponse ({error})"
        raise BackendError("INTERNAL_ERROR", (text,)) from error


def _fault(command: str, fault: xmlrpc.client.Fault, stderr: str) -> Exception:
    if fault.faultCode == _UNIMPLEMENTED:
        return Unimplemented(command)
    if fault.faultCode in _FAULTS:
        return BackendError(_FAULTS[fault.faultCode], ())
    code = f"SR_BACKEND_FAILURE_{fault.faultCode}"
    return BackendError(code, ("", str(fault.faultString), stderr))


def _struct(result: object) -> Mapping[str, Any]:
    if not isinstance(result, dict):
        raise BackendError("INTERNAL_ERROR", ("the driver's answer is no struct",))
    return result


def _name(result: object) -> VDIName:
    struct = _struct(result)
    try:
        return VDIName(uuid=str(struct["uuid"]), location=str(struct["location"]))
    except KeyError as missing:
        text = f"the driver's answer lacks {missing}"
        raise BackendError("INTERNAL_ERROR", (text,)) from missing
