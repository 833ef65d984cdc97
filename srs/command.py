"""SRCommand: one SMAPIv1 document in, one out.

    Exception
    └── SRError (srs.errors)      every failure leaves as a fault with a code of that table

A call is parsed, the driver is built, the SR's lock is taken for the whole of it (one SR does
one thing at a time), what a crash left is mended, and the command is carried out. Errors of
the driver's own tools get the code that says which command failed; the drivers' own errors
keep theirs.
"""

import errno
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from srs import fist, locks, lvm, vhd
from srs.cbterrors import CBTActivateFailed, CBTChangedBlocksError, CBTDeactivateFailed
from srs.cow import CowSR
from srs.errors import (
    BadRequest,
    GenericException,
    IllegalXMLChar,
    SMGeneral,
    SRError,
    SRNoSpace,
    SRScan,
    VDIClone,
    VDICreate,
    VDIDelete,
    VDIResize,
    VDISnapshot,
    VDIType,
    VDIUnavailable,
)
from srs.gc.control import kept_away
from srs.gc.process import kick
from srs.lvm import LVMError, LVMNoRoom
from srs.protocol import Request, encode_fault, encode_result, parse
from srs.run import CommandFailed
from srs.session import Failure
from srs.sr import SR
from srs.vdi import VDI, NewDisk, new_uuid


@dataclass(frozen=True, slots=True)
class Reply:
    """What a driver prints: a methodResponse, and sometimes XML for the caller on stderr."""

    stdout: str
    stderr: str


def warm_up() -> None:
    """Load what calls need, in a process that forks the processes of calls."""
    lvm.warm_up()
    with suppress(BadRequest):  # no call, but it takes the parser through its first time
        parse(encode_result({}))


def execute(driver: type[SR], document: str) -> Reply:
    """Carry out a call; faults are replies too, nothing is raised."""
    try:
        return Reply(encode_result(_perform(driver, parse(document))), "")
    except SRError as error:
        return Reply(encode_fault(error), error.stderr)
    except Exception as error:
        # Nothing was meant to come here: the text is for users, the trace for whoever debugs.
        fault = GenericException(f"{type(error).__name__}: {error}")
        return Reply(encode_fault(fault), traceback.format_exc())


@dataclass(frozen=True, slots=True)
class Operation:
    """How a command is carried out.

    Attributes:
        call: what to do with the driver.
        failure: the code for errors of the tools that the driver uses.
        prepared: the SR must be attached, and is mended first.
        alone: a garbage collector of the SR ends first.
        leaves_work: for a garbage collector.
    """

    call: Callable[[SR, Request], object]
    failure: type[SRError] = SMGeneral
    prepared: bool = True
    alone: bool = False
    leaves_work: bool = False


def _vdi(sr: SR, request: Request) -> VDI:
    if not request.vdi_uuid:
        raise BadRequest(f"{request.command} without vdi_uuid")
    return sr.vdi(request.vdi_uuid)


def _create(sr: SR, request: Request) -> object:
    kind = request.vdi_sm_config.get("type", "vhd")
    if kind not in ("vhd", "raw"):
        raise VDIType(kind)
    new = NewDisk(
        size=request.int_arg(0),
        label=_legal(request.arg(1, "")),
        description=_legal(request.arg(2, "")),
        metadata_of_pool=request.arg(3, ""),
        is_a_snapshot=_flag(request.arg(4, "false")),
        snapshot_time=request.arg(5, ""),
        snapshot_of=request.arg(6, ""),
        read_only=_flag(request.arg(7, "false")),
        type=request.vdi_type or "user",
        raw=kind == "raw",
    )
    return sr.vdi(request.vdi_uuid or new_uuid()).create(new)


def _flag(text: str) -> bool:
    return text.lower() == "true"


def _legal(text: str) -> str:
    """Text that XML can carry.

    Raises:
        IllegalXMLChar: a control character.
    """
    if any(ord(char) < 32 and char not in "\t\n\r" for char in text):
        raise IllegalXMLChar(repr(text))
    return text


def _run_vdi(action: Callable[[VDI, Request], object]) -> Callable[[SR, Request], object]:
    return lambda sr, request: action(_vdi(sr, request), request)


_OPERATIONS: dict[str, Operation] = {
    "sr_create": Operation(lambda sr, r: sr.create(int(r.arg(0, "0") or "0")), prepared=False),
    "sr_delete": Operation(lambda sr, r: sr.delete(), prepared=False, alone=True),
    "sr_attach": Operation(
        lambda sr, r: sr.attach(), prepared=False, alone=True, leaves_work=True
    ),
    "sr_detach": Operation(lambda sr, r: sr.detach(), prepared=False, alone=True),
    "sr_probe": Operation(lambda sr, r: sr.probe(), prepared=False),
    "sr_scan": Operation(lambda sr, r: sr.scan(), SRScan, leaves_work=True),
    "sr_update": Operation(lambda sr, r: sr.update()),
    "sr_content_type": Operation(lambda sr, r: sr.content_type(), prepared=False),
    "vdi_create": Operation(_create, VDICreate),
    "vdi_delete": Operation(
        _run_vdi(lambda vdi, r: vdi.delete()), VDIDelete, leaves_work=True
    ),
    "vdi_attach": Operation(
        _run_vdi(lambda vdi, r: vdi.attach(_flag(r.arg(0, "true")))), VDIUnavailable
    ),
    # This and deactivation prepare the SR themselves, and go on where its device is gone.
    "vdi_detach": Operation(
        _run_vdi(lambda vdi, r: vdi.detach()), VDIUnavailable, prepared=False
    ),
    "vdi_activate": Operation(
        _run_vdi(lambda vdi, r: vdi.activate(_flag(r.arg(0, "true")))), VDIUnavailable
    ),
    "vdi_deactivate": Operation(
        _run_vdi(lambda vdi, r: vdi.deactivate()), VDIUnavailable, prepared=False
    ),
    "vdi_snapshot": Operation(
        _run_vdi(lambda vdi, r: vdi.snapshot(r.driver_params)), VDISnapshot
    ),
    "vdi_clone": Operation(_run_vdi(lambda vdi, r: vdi.clone(r.driver_params)), VDIClone),
    "vdi_resize": Operation(_run_vdi(lambda vdi, r: vdi.resize(r.int_arg(0))), VDIResize),
    "vdi_enable_cbt": Operation(_run_vdi(lambda vdi, r: vdi.enable_cbt(True)), CBTActivateFailed),
    "vdi_disable_cbt": Operation(
        _run_vdi(lambda vdi, r: vdi.enable_cbt(False)), CBTDeactivateFailed
    ),
    "vdi_data_destroy": Operation(
        _run_vdi(lambda vdi, r: vdi.data_destroy()), VDIDelete, leaves_work=True
    ),
    "vdi_list_changed_blocks": Operation(
        _run_vdi(lambda vdi, r: vdi.list_changed_blocks(r.arg(0))), CBTChangedBlocksError
    ),
    "vdi_update": Operation(_run_vdi(lambda vdi, r: vdi.update())),
    "vdi_generate_config": Operation(_run_vdi(lambda vdi, r: vdi.generate_config())),
    "vdi_attach_from_config": Operation(
        _run_vdi(lambda vdi, r: vdi.attach_from_config()), VDIUnavailable, prepared=False
    ),
    "vdi_detach_from_config": Operation(
        _run_vdi(lambda vdi, r: vdi.detach_from_config()), VDIUnavailable, prepared=False
    ),
    "vdi_revert": Operation(
        _run_vdi(lambda vdi, r: vdi.revert(r.arg(0))), VDISnapshot, leaves_work=True
    ),
}  # fmt: skip


def _perform(driver: type[SR], request: Request) -> object:
    if request.command == "sr_get_driver_info":
        return driver.info.as_struct()
    operation = _OPERATIONS.get(request.command)
    if operation is None:
        raise BadRequest(f"unknown command {request.command}")
    try:
        return _under_lock(driver, request, operation)
    except (LVMNoRoom, LVMError, vhd.VHDError, CommandFailed, Failure, OSError) as error:
        raise _fault(operation, error) from error


def _under_lock(driver: type[SR], request: Request, operation: Operation) -> object:
    sr = driver(request)
    with fist.serving(sr.session, sr.ref), sr.lock if request.sr_uuid else nullcontext():
        try:
            if operation.prepared:
                sr.prepare()
            with kept_away(sr.uuid) if operation.alone else nullcontext():
                result = operation.call(sr, request)
            if operation.leaves_work and isinstance(sr, CowSR):
                kick(sr)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                sr.cleanup()
            if request.command == "sr_create":
                locks.remove(request.sr_uuid)
            raise
        sr.cleanup()
        if request.command in ("sr_detach", "sr_delete"):
            locks.remove(request.sr_uuid)  # still held: who waits for it makes another
            locks.remove(f"lvm-{request.sr_uuid}")
        return result


def _fault(operation: Operation, error: Exception) -> SRError:
    number = getattr(error, "errno", None)
    if isinstance(error, LVMNoRoom) or number == errno.ENOSPC:
        return SRNoSpace(error)
    return operation.failure(error)
