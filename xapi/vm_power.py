"""The power of a simulated VM: its disks are real, its memory image is an empty VDI.

Halted ── start ──▶ Running ◀── unpause / pause ──▶ Paused
▲                │     ▲
└── shutdown ────┘     └── resume / suspend ──▶ Suspended
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import partial

from xapi import pbd, vdi, vdi_steps, vm_disks, vm_hosts
from xapi.database import Database
from xapi.datatypes import NULL, Basic, Ref
from xapi.errors import XenAPIError
from xapi.hosts import Member, is_live, require_live
from xapi.message import Call, Message, Param, now
from xapi.policy import Mark
from xapi.policy_vm import check_power_state
from xapi.toolstack import Toolstack

_log = logging.getLogger(__name__)

#: Bytes of a suspend VDI. There is no memory to be saved, but the VDI is there.
_IMAGE_SIZE = 4 << 20


def start(call: Call, vm: str, start_paused: bool, _force: bool) -> str:
    """Open the VM's disks on a host and let it run there, or wait with start_paused."""
    with _marked(call, vm, "start", "attach"):
        _boot(call, vm, vm_hosts.choose(call.xapi, vm), paused=start_paused)
    return ""


def start_on(call: Call, vm: str, host: str, start_paused: bool, _force: bool) -> str:
    """`start` on a host of the client's choice."""
    with _marked(call, vm, "start_on", "attach"):
        _boot(call, vm, vm_hosts.named(call.xapi, host), paused=start_paused)
    return ""


def pause(call: Call, vm: str) -> str:
    """Hold a running VM; its disks stay open."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "pause")):
        call.xapi.db.put("VM", vm, power_state="Paused")
    return ""


def unpause(call: Call, vm: str) -> str:
    """Let a paused VM go on."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "unpause")):
        call.xapi.db.put("VM", vm, power_state="Running")
    return ""


def clean_shutdown(call: Call, vm: str) -> str:
    """Shut a running VM down; a simulated one always agrees."""
    with _marked(call, vm, "clean_shutdown", "unplug"):
        halt(call, vm)
    return ""


def hard_shutdown(call: Call, vm: str) -> str:
    """Take a VM's power away. What a suspended one or a checkpoint had in memory is lost."""
    with _marked(call, vm, "hard_shutdown", "unplug"):
        image: str = call.xapi.db.get("VM", vm, "suspend_VDI")
        halt(call, vm, force=True)
        _drop_image(call, image)
    return ""


def shutdown(call: Call, vm: str) -> str:
    """Shut a VM down, cleanly if it runs."""
    check_power_state(call.xapi.db, vm, "Paused", "Suspended", "Running")
    running = call.xapi.db.get("VM", vm, "power_state") == "Running"
    return clean_shutdown(call, vm) if running else hard_shutdown(call, vm)


def clean_reboot(call: Call, vm: str) -> str:
    """Shut a running VM down and start it again."""
    return _reboot(call, vm, "clean_reboot")


def hard_reboot(call: Call, vm: str) -> str:
    """`clean_reboot` without asking the VM."""
    return _reboot(call, vm, "hard_reboot")


def _reboot(call: Call, vm: str, operation: str) -> str:
    # One mark from the halt to the boot: nobody else takes a disk in between.
    with _marked(call, vm, operation, "attach"):
        host = call.xapi.hosts.of_vm(vm)
        halt(call, vm, force=operation == "hard_reboot")
        _boot(call, vm, host, paused=False)
    return ""


def suspend(call: Call, vm: str) -> str:
    """Put a running VM to sleep: a suspend VDI is made, its disks are closed."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "suspend")):
        fall_asleep(call, vm)
    return ""


def resume(call: Call, vm: str, start_paused: bool, _force: bool) -> str:
    """Wake a suspended VM: its disks are opened, its suspend VDI is destroyed."""
    with _marked(call, vm, "resume", "attach"):
        wake_up(call, vm, vm_hosts.choose(call.xapi, vm), paused=start_paused)
    return ""


def resume_on(call: Call, vm: str, host: str, start_paused: bool, _force: bool) -> str:
    """`resume` on a host of the client's choice."""
    with _marked(call, vm, "resume_on", "attach"):
        wake_up(call, vm, vm_hosts.named(call.xapi, host), paused=start_paused)
    return ""


def power_state_reset(call: Call, vm: str) -> str:
    """Say that a VM is halted, whatever it was: for a host that will not come back.

    Of a VM on a host that is not live only the record changes: what the host's drivers have
    claimed stays claimed, as it may write still, until host.declare_dead.
    """
    with _marked(call, vm, "power_state_reset", "unplug"):
        if is_live(call.xapi.db, call.xapi.hosts.of_vm(vm).ref):
            halt(call, vm, force=True)
        else:
            put_halted(call.xapi.db, vm)
    return ""


def _marked(call: Call, vm: str, operation: str, of_vbds: str) -> AbstractContextManager[None]:
    marks = partial(vm_disks.marks, call.xapi.db, vm, operation, of_vbds)
    return call.xapi.policy.operation_on(call.task, call.method, marks)


def fall_asleep(call: Call, vm: str) -> None:
    """`suspend`, for a caller that has marked the VM."""
    image = vdi.create(call, _image(call.xapi, vm))
    try:
        vm_disks.release_all(call, vm)
    except XenAPIError:
        vdi_steps.remove_quietly(call, image)
        raise
    call.xapi.db.put(
        "VM", vm, power_state="Suspended", suspend_VDI=image, resident_on=NULL, domid=-1
    )


def wake_up(call: Call, vm: str, host: Member, *, paused: bool = False) -> None:
    """`resume_on`, for a caller that has marked the VM."""
    image: str = call.xapi.db.get("VM", vm, "suspend_VDI")
    with vm_hosts.placed(call.xapi, vm, host):
        vm_disks.attach_all(call, vm_disks.to_open(call.xapi.db, vm), host)
        _awake(call, vm, host, paused=paused)
    call.xapi.db.put("VM", vm, suspend_VDI=NULL)
    _drop_image(call, image)


def halt(call: Call, vm: str, *, force: bool = False) -> None:
    """Close a VM's disks and call it halted, for a caller that has marked it."""
    vm_disks.detach_all(call, vm, force=force)
    put_halted(call.xapi.db, vm)


def put_halted(db: Database, vm: str) -> None:
    """What the record of a halted VM says."""
    with db.transaction():
        db.put("VM", vm, power_state="Halted", suspend_VDI=NULL, resident_on=NULL, domid=-1)
        for vif in db.get("VM", vm, "VIFs"):
            db.put("VIF", vif, currently_attached=False)


def _boot(call: Call, vm: str, host: Member, *, paused: bool) -> None:
    links = vm_disks.marked(call, vm)
    with vm_hosts.placed(call.xapi, vm, host):
        vm_disks.begin_epochs(call, links, host)
        vm_disks.attach_all(call, links, host)
        _awake(call, vm, host, paused=paused)


def _awake(call: Call, vm: str, host: Member, *, paused: bool) -> None:
    db = call.xapi.db
    with db.transaction():
        domid = 1 + max(int(db.get("VM", other, "domid")) for other in db.refs("VM"))
        db.put(
            "VM",
            vm,
            power_state="Paused" if paused else "Running",
            resident_on=host.ref,
            domid=domid,
        )
        for vif in db.get("VM", vm, "VIFs"):
            db.put("VIF", vif, currently_attached=True)
        metrics: str = db.get("VM", vm, "metrics")
        if db.exists("VM_metrics", metrics):
            db.put("VM_metrics", metrics, start_time=now(), last_updated=now())


def _image(xapi: Toolstack, vm: str) -> dict[str, object]:
    """The record of a suspend VDI: on the VM's own SR for it, the pool's, or the host's.

    Raises:
        XenAPIError: VM_NO_SUSPEND_SR [vm], none of them is plugged in.
    """
    wishes = (
        xapi.db.get("VM", vm, "suspend_SR"),
        xapi.db.get("pool", xapi.pool, "suspend_image_SR"),
        xapi.db.get("host", xapi.hosts.of_vm(vm).ref, "suspend_image_sr"),
    )
    for sr in wishes:
        if xapi.db.exists("SR", sr) and xapi.db.find("PBD", SR=sr, currently_attached=True):
            return {
                "SR": sr,
                "name_label": "Suspend image",
                "name_description": f"memory of the VM {xapi.db.get('VM', vm, 'uuid')}",
                "virtual_size": _IMAGE_SIZE,
                "type": "suspend",
                "sharable": False,
                "read_only": False,
                "other_config": {},
            }
    raise XenAPIError("VM_NO_SUSPEND_SR", (vm,))


def _drop_image(call: Call, image: str) -> None:
    """Destroy a suspend VDI that nobody needs any more; the VM does not wait for it."""
    if not call.xapi.db.exists("VDI", image):
        return
    try:
        vdi.destroy(call, image)
    except XenAPIError as error:
        _log.warning("%s: the suspend VDI %s stays: %s", call.method, image, error)


def require_image_host(xapi: Toolstack, image: str) -> None:
    """Raise SR_HAS_NO_PBDS or HOST_NOT_LIVE unless a host could wake a VM with that image."""
    link = pbd.require_plugged(xapi, xapi.db.get("VDI", image, "SR"))
    require_live(xapi.db, xapi.db.get("PBD", link, "host"))


_VM = Param("vm", Ref("VM"))
_HOST = Param("host", Ref("host"))
_HOW = (Param("start_paused", Basic.BOOL), Param("force", Basic.BOOL))

MESSAGES = (
    Message("VM.start", start, (_VM, *_HOW)),
    Message("VM.start_on", start_on, (_VM, _HOST, *_HOW)),
    Message("VM.resume", resume, (_VM, *_HOW)),
    Message("VM.resume_on", resume_on, (_VM, _HOST, *_HOW)),
    *(
        Message(f"VM.{run.__name__}", run, (_VM,))
        for run in (
            pause,
            unpause,
            clean_shutdown,
            hard_shutdown,
            shutdown,
            clean_reboot,
            hard_reboot,
            suspend,
            power_state_reset,
        )
    ),
)
