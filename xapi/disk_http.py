"""Disks over HTTP: GET /export_raw_vdi and PUT /import_raw_vdi.

    vdi         reference or uuid; for an import, sr_id or sr_uuid make a new VDI instead (raw)
    format      raw (the default) or vhd
    base        export of a vhd: only what differs from this VDI, as a differencing disk

Who calls and on which task: xapi/http_call.py. Meanwhile the disk is plugged into dom0: one
that is exported read-only, so that a disk which somebody writes to is refused: VDI_IN_USE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from xapi import disk_stream, http_call, task, vbd, vdi, vdi_steps, vhd_stream
from xapi.disk_stream import Device
from xapi.errors import XenAPIError
from xapi.http_call import Query, Work
from xapi.message import Call
from xapi.policy import Mark
from xapi.toolstack import Toolstack
from xapi.web import Answer, Handler, HttpError, page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)

_CONTENT_TYPES = {"raw": "application/octet-stream", "vhd": "application/vhd"}
#: How often a task's progress is written, as a part of the whole.
_STEP = 0.05


class DiskTransfers:
    """The two handlers. `local`: who comes through their socket is local root."""

    def __init__(self, xapi: Toolstack, *, local: bool) -> None:
        self._xapi = xapi
        self._local = local

    @property
    def handlers(self) -> dict[tuple[str, str], Handler]:
        """By method and path, as `Application` wants them."""
        return {
            ("GET", "/export_raw_vdi"): self.export,
            ("PUT", "/import_raw_vdi"): self.import_,
        }

    def export(self, environ: WSGIEnvironment) -> Answer:
        """The content of a disk. The transfer goes on while the answer's body is taken."""
        query = http_call.parse(environ)
        with _http_errors(), ExitStack() as stack:
            call = stack.enter_context(self._work(query, "VDI.export")).call
            format_ = _format(query)
            ref = _vdi(self._xapi, query.required("vdi"))
            device = stack.enter_context(_plugged(call, ref, "RO"))
            uuid: str = self._xapi.db.get("VDI", ref, "uuid")
            length, pieces = _content(call, device, uuid, query)
            headers = (
                ("Content-Disposition", f'attachment; filename="{uuid}.{format_}"'),
                ("task-id", call.task),
                # A transfer that fails on its way is cut: how else could the client know?
                ("Connection", "close"),
            )
            body = _Body(stack.pop_all(), pieces)
            return Answer(HTTPStatus.OK, _CONTENT_TYPES[format_], body, length, headers)

    def import_(self, environ: WSGIEnvironment) -> Answer:
        """New content for a disk. An empty body changes nothing: clients look for redirects."""
        query = http_call.parse(environ)
        length = _length(environ)
        with _http_errors():
            if length == 0:
                with http_call.session(self._xapi, query, local=self._local):
                    return page(HTTPStatus.OK, b"")
            with self._work(query, "VDI.import") as work:
                work.result = self._fill(work.call, query, environ["wsgi.input"].read, length)
        # The stream may be longer than the disk: what is left of it is not read.
        return page(HTTPStatus.OK, b"", ("task-id", work.call.task), ("Connection", "close"))

    def _work(self, query: Query, method: str) -> AbstractContextManager[Work]:
        return http_call.call(self._xapi, query, method, local=self._local)

    def _fill(
        self, call: Call, query: Query, source: disk_stream.Source, length: int | None
    ) -> str:
        """Put the stream into the VDI that the query names, or into a new one; its reference."""
        format_ = _format(query)
        with _destination(call, query, format_, length) as ref, _plugged(call, ref, "RW") as device:
            if format_ == "raw":
                disk_stream.import_raw(device, source, length, _progress(call))
            else:
                disk_stream.import_vhd(device, source, _progress(call))
        return ref


class _Body:
    """The body of an export, and all that must be undone when it is over or nobody takes it.

    The last piece goes out after that: who has all of it can use the disk at once.
    """

    def __init__(self, stack: ExitStack, pieces: Iterator[bytes]) -> None:
        self._stack = stack
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        last = b""
        try:
            with self._stack:
                for piece in self._pieces:
                    yield last
                    last = piece
            yield last
        except XenAPIError as error:
            _log.warning("an export was cut short: %s", error)

    def close(self) -> None:
        """Nothing more is wanted. After the end of the body this does nothing."""
        with suppress(XenAPIError), self._stack:
            raise XenAPIError("VDI_IO_ERROR", ("the client went away",))


def _vdi(xapi: Toolstack, name: str) -> str:
    """A VDI by its reference or uuid."""
    return name if xapi.db.exists("VDI", name) else xapi.db.by_uuid("VDI", name)


def _format(query: Query) -> str:
    format_ = query.get("format", "raw")
    if format_ not in _CONTENT_TYPES:
        raise HttpError(HTTPStatus.NOT_FOUND, f"format={format_}: there are raw and vhd")
    if "chunked" in query.values:
        raise HttpError(HTTPStatus.BAD_REQUEST, "chunked: this framing is not supported")
    return format_


def _length(environ: WSGIEnvironment) -> int | None:
    """Bytes of the request's body; None where it ends with the connection."""
    said = environ.get("CONTENT_LENGTH")
    if said is None:
        return None
    if not said.isdecimal():
        raise HttpError(HTTPStatus.BAD_REQUEST, f"Content-Length: {said}")
    return int(said)


def _content(call: Call, device: Device, uuid: str, query: Query) -> tuple[int, Iterator[bytes]]:
    """The stream that an export asks for, after its length."""
    if _format(query) == "raw":
        return device.size, disk_stream.export_raw(device, _progress(call))
    base = _vdi(call.xapi, query.get("base")) if query.get("base") else ""
    image = _image(call, device, uuid, base)
    return image.length, disk_stream.export_vhd(device, image, _progress(call))


def _image(call: Call, device: Device, uuid: str, base: str) -> vhd_stream.Image:
    """What a VHD of the disk holds. The base is plugged in for the comparison only."""
    if device.size > vhd_stream.MAX_SIZE:
        limit = str(vhd_stream.MAX_SIZE)
        raise XenAPIError("VDI_TOO_LARGE", (_vdi(call.xapi, uuid), limit))
    if not base:
        return disk_stream.image_of(device, uuid)
    with _plugged(call, base, "RO") as below:
        base_uuid: str = call.xapi.db.get("VDI", base, "uuid")
        return disk_stream.image_of(device, uuid, below, base_uuid)


@contextmanager
def _destination(call: Call, query: Query, format_: str, length: int | None) -> Iterator[str]:
    """The VDI that an import fills. One that was made for it goes when it fails."""
    db = call.xapi.db
    if query.get("vdi"):
        yield _vdi(call.xapi, query.get("vdi"))
        return
    if format_ != "raw" or length is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "a new VDI is made of raw content of known length")
    sr = query.get("sr_id") or db.by_uuid("SR", query.required("sr_uuid"))
    record = {"SR": sr, "virtual_size": length, "type": "user", "name_label": "Imported VDI"}
    defaults = {"sharable": False, "read_only": False, "other_config": {}}
    fresh = vdi.create(call, {**record, **defaults})
    try:
        yield fresh
    except BaseException:
        vdi_steps.remove_quietly(call, fresh)
        raise


@contextmanager
def _plugged(call: Call, ref: str, mode: str) -> Iterator[Device]:
    """The block device of a VDI in dom0, through a VBD that lives as long as the block."""
    xapi = call.xapi
    host = xapi.hosts.seeing(xapi.db.get("VDI", ref, "SR"))
    link = vbd.make_temporary(call, ref, mode, host.dom0)
    try:
        with xapi.policy.operation(call.task, call.method, Mark("VBD", link, "plug")):
            path = vbd.attach(call, link)
        size: int = xapi.db.get("VDI", ref, "virtual_size")
        yield Device(path, size, host.backend, host.ref)
    finally:
        vbd.remove_temporary(call, link)


def _progress(call: Call) -> Callable[[float], None]:
    """Writes the task's progress, now and then; raises once the task was cancelled."""
    written = 0.0

    def note(done: float) -> None:
        nonlocal written
        if done - written >= _STEP:
            task.check_cancelled(call.xapi.db, call.task)
            task.report(call.xapi.db, call.task, done)
            written = done

    return note


@contextmanager
def _http_errors() -> Iterator[None]:
    """An error of the XenAPI is a 500 here; the task has its details."""
    try:
        yield
    except XenAPIError as error:
        raise HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
