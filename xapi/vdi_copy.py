"""Copying a VDI's content on the host: VDI.copy, and clones that the driver cannot make.

Both disks are attached to dom0 by VBDs for the time of the copy, so that clients can see what
is going on and the operation policy knows that they are in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from xapi import pbd, task, vbd, vdi_steps
from xapi.backend import BackendUnavailable, HostError
from xapi.database import Database
from xapi.datatypes import NULL, Ref, Value
from xapi.disk_stream import Device, export_raw, transfer
from xapi.errors import XenAPIError, internal_error, other_operation, vdi_in_use
from xapi.hosts import Member
from xapi.message import Call, Message, Param
from xapi.policy import Mark
from xapi.storage import Unimplemented, as_xenapi_errors


def clone(call: Call, vdi: str, driver_params: Mapping[str, str]) -> str:
    """A writable VDI with the content and metadata of `vdi`, in the same SR.

    Where the driver does not implement it (raw VDIs), a new VDI is made and the content is
    copied. The caller has marked the SR. If it fails, there is no new VDI.
    """
    sr, sr_uuid, location = vdi_steps.names(call.xapi, vdi)
    with as_xenapi_errors(sr, vdi):
        try:
            name = call.xapi.storage.vdi_clone(call.task, sr_uuid, location, driver_params)
        except Unimplemented:
            fresh = _create_and_copy(call, vdi)
        else:
            fresh = vdi_steps.introduced(call, name)
    call.xapi.db.put("VDI", fresh, **vdi_steps.inherited(call.xapi.db, vdi), cbt_enabled=False)
    vdi_steps.save(call, fresh)
    return fresh


def copy(call: Call, vdi: str, sr: str, _base_vdi: str, into_vdi: str) -> str:
    """A full copy of a VDI in an SR, or in a VDI that exists; returns the copy.

    A base VDI promises that some of the content is there already; copying it again is right
    too, so the promise is not needed.
    """
    db, policy = call.xapi.db, call.xapi.policy
    marks = partial(_marks, db, vdi, into_vdi)
    with policy.operation_on(call.task, call.method, marks):
        pbd.require_plugged(call.xapi, db.get("VDI", vdi, "SR"))
        if into_vdi != NULL:
            _check_destination(call, vdi, into_vdi)
            copy_content(call, vdi, into_vdi)
            return into_vdi
        sr = db.get("VDI", vdi, "SR") if sr == NULL else sr
        with policy.operation(call.task, call.method, Mark("SR", sr, "vdi_create")):
            pbd.require_plugged(call.xapi, sr)
            fresh = vdi_steps.create(call, sr, _fields_of_copy(call, vdi))
        _fill(call, vdi, fresh)
        vdi_steps.save(call, fresh)
        return fresh


def checksum(call: Call, self: str) -> str:
    """MD5 of every byte of the VDI, in hexadecimal."""
    xapi = call.xapi
    with xapi.policy.operation(call.task, call.method, Mark("VDI", self, "copy")):
        host = xapi.hosts.seeing(xapi.db.get("VDI", self, "SR"))
        digest = hashlib.md5(usedforsecurity=False)
        size: int = xapi.db.get("VDI", self, "virtual_size")
        with _attached(call, self, "RO", host) as path:
            device = Device(path, size, host.backend, host.ref)
            for piece in export_raw(device, partial(task.report, xapi.db, call.task)):
                digest.update(piece)
    return digest.hexdigest()


def copy_content(call: Call, source: str, destination: str) -> None:
    """Copy the whole of one VDI onto another that is at least as large.

    A host that has both SRs does it by itself; otherwise the data come through here.

    Raises:
        XenAPIError: SR_HAS_NO_PBDS [sr]: no host has one of the SRs; what a driver says.
    """
    db = call.xapi.db
    reader, writer = call.xapi.hosts.between(
        *(db.get("VDI", vdi, "SR") for vdi in (source, destination))
    )
    size: int = db.get("VDI", source, "virtual_size")
    with (
        _attached(call, source, "RO", reader) as read,
        _attached(call, destination, "RW", writer) as write,
    ):
        if reader is writer:
            _copy_inside(reader, read, write, size)
        else:
            transfer(
                Device(read, size, reader.backend, reader.ref),
                Device(write, size, writer.backend, writer.ref),
                partial(task.report, db, call.task),
            )


def _copy_inside(host: Member, source: str, destination: str, size: int) -> None:
    try:
        host.backend.copy(source, destination, size)
    except BackendUnavailable as error:
        raise XenAPIError("HOST_OFFLINE", (host.ref,)) from error
    except HostError as error:
        raise internal_error(str(error)) from error


def _create_and_copy(call: Call, vdi: str) -> str:
    fields = _fields_of_copy(call, vdi)
    # A raw disk stays one: its SR's driver reads the wish from the new VDI's sm_config.
    sm_config: Mapping[str, str] = call.xapi.db.get("VDI", vdi, "sm_config")
    kind = {key: value for key, value in sm_config.items() if key == "type"}
    sr: str = call.xapi.db.get("VDI", vdi, "SR")
    fresh = vdi_steps.create(call, sr, {**fields, "sm_config": kind})
    _fill(call, vdi, fresh)
    return fresh


def _fill(call: Call, vdi: str, fresh: str) -> None:
    try:
        copy_content(call, vdi, fresh)
    except XenAPIError:
        vdi_steps.remove_quietly(call, fresh)
        raise


def _fields_of_copy(call: Call, vdi: str) -> dict[str, Value]:
    size: int = call.xapi.db.get("VDI", vdi, "virtual_size")
    return {**vdi_steps.inherited(call.xapi.db, vdi), "virtual_size": size}


def _marks(db: Database, source: str, destination: str) -> Iterator[Mark]:
    """The source can be read meanwhile; a destination is nobody else's."""
    yield Mark("VDI", source, "copy")
    if destination != NULL:
        for vbd in db.get("VDI", destination, "VBDs"):
            if db.get("VBD", vbd, "currently_attached") or db.get("VBD", vbd, "reserved"):
                raise vdi_in_use(destination, "copy")
        running: Mapping[str, str] = db.get("VDI", destination, "current_operations")
        for other, operation in running.items():
            raise other_operation("VDI", destination, operation, other)
        yield Mark("VDI", destination, "blocked")


def _check_destination(call: Call, source: str, destination: str) -> None:
    db = call.xapi.db
    if db.get("VDI", destination, "read_only"):
        raise XenAPIError("VDI_READONLY", (destination,))
    needed: int = db.get("VDI", source, "virtual_size")
    if db.get("VDI", destination, "virtual_size") < needed:
        raise XenAPIError("VDI_TOO_SMALL", (destination, str(needed)))
    pbd.require_plugged(call.xapi, db.get("VDI", destination, "SR"))


@contextmanager
def _attached(call: Call, vdi: str, mode: str, host: Member) -> Iterator[str]:
    """The VDI's block device, through a VBD of dom0 that lives as long as the block."""
    link = vbd.make_temporary(call, vdi, mode, host.dom0)
    try:
        yield vbd.attach(call, link)
    finally:
        vbd.remove_temporary(call, link)


MESSAGES = (
    Message("VDI.checksum", checksum, (Param("self", Ref("VDI")),)),
    Message(
        "VDI.copy",
        copy,
        (
            Param("vdi", Ref("VDI")),
            Param("sr", Ref("SR"), NULL),
            Param("base_vdi", Ref("VDI"), NULL),
            Param("into_vdi", Ref("VDI"), NULL),
        ),
    ),
)
