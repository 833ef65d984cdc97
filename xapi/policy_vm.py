"""What a VM allows: by its kind (snapshot, template, dom0), its power state and what goes on.

The checks come in the XenAPI's order: blocked by its owner, forbidden to its kind, wrong power
state, another operation, and at last what is particular to an operation.
"""

from __future__ import annotations

from collections.abc import Mapping

from xapi.database import Database
from xapi.datatypes import words
from xapi.errors import XenAPIError, not_allowed, other_operation

_ANY = ("Halted", "Paused", "Suspended", "Running")

#: The power states in which an operation may begin.
POWER_STATES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        words("start start_on provision make_into_template changing_VCPUs changing_static_range "
              "changing_memory_limits changing_shadow_memory changing_NVRAM create_vtpm"),
        ("Halted",),
    ),
    **dict.fromkeys(words("clone copy destroy"), ("Halted",)),
    **dict.fromkeys(words("export create_template"), ("Halted", "Suspended")),
    **dict.fromkeys(words("clean_shutdown clean_reboot suspend pause snapshot_with_quiesce "
                          "send_sysrq send_trigger call_plugin pool_migrate sysprep"),
                    ("Running",)),
    **dict.fromkeys(words("hard_reboot"), ("Paused", "Running")),
    **dict.fromkeys(words("shutdown hard_shutdown checkpoint get_boot_record"),
                    ("Paused", "Suspended", "Running")),
    **dict.fromkeys(words("resume resume_on csvm"), ("Suspended",)),
    "unpause": ("Paused",),
    "changing_dynamic_range": ("Halted", "Running"),
    "migrate_send": ("Halted", "Suspended", "Running"),
}  # fmt: skip

#: What VM.allowed_operations may show; `reverting` and its like are only ever in progress.
OFFERED = words(
    "snapshot clone copy create_template revert checkpoint provision start start_on pause "
    "unpause clean_shutdown clean_reboot hard_shutdown power_state_reset hard_reboot suspend "
    "resume resume_on shutdown get_boot_record changing_dynamic_range changing_static_range "
    "changing_memory_limits changing_VCPUs make_into_template export metadata_export destroy"
)
_ON_SNAPSHOTS = frozenset(
    words("revert clone copy export destroy hard_shutdown metadata_export create_template")
)
_ON_TEMPLATES = frozenset(
    words(
        "changing_dynamic_range changing_static_range changing_memory_limits "
        "changing_shadow_memory changing_VCPUs changing_NVRAM clone copy export "
        "metadata_export provision destroy snapshot make_into_template reverting"
    )
)
_NOT_ON_DOM0 = frozenset(
    words(
        "clean_shutdown hard_shutdown clean_reboot hard_reboot shutdown pause unpause suspend "
        "snapshot checkpoint clone copy destroy export start start_on revert reverting "
        "power_state_reset pool_migrate migrate_send make_into_template provision"
    )
)
#: Operations that go on side by side, within one of these sets.
_TOGETHER = (
    frozenset({"clone", "copy", "export"}),
    frozenset({"snapshot", "checkpoint"}),
    frozenset({"get_boot_record"}),
)
#: Of these not two at a time: each puts the VM to sleep and wakes it up.
_SINGLE = frozenset({"checkpoint"})
#: What opens or closes a VM's disks: it waits for what goes on at the VM's VBDs, and that for it.
MOVES_DISKS = frozenset(
    words(
        "start start_on resume resume_on clean_shutdown hard_shutdown shutdown clean_reboot "
        "hard_reboot suspend checkpoint reverting power_state_reset destroy"
    )
)
#: What may cut a clean way down short.
_OVERTAKES = {
    "hard_shutdown": frozenset({"clean_shutdown", "clean_reboot", "shutdown"}),
    "hard_reboot": frozenset({"clean_shutdown", "clean_reboot"}),
}


def check(db: Database, vm: str, operation: str) -> None:
    """Raise the XenAPIError that forbids the operation, if there is one."""
    blocked: Mapping[str, str] = db.get("VM", vm, "blocked_operations")
    if operation in blocked:
        raise XenAPIError("OPERATION_BLOCKED", (vm, blocked[operation]))
    _check_kind(db, vm, operation)
    _check_power_state(db, vm, operation)
    _check_other_operations(db, vm, operation)
    if operation in ("snapshot", "checkpoint", "snapshot_with_quiesce"):
        _check_snapshot(db, vm)


def _check_kind(db: Database, vm: str, operation: str) -> None:
    snapshot: bool = db.get("VM", vm, "is_a_snapshot")
    if operation == "revert" and not snapshot:
        raise XenAPIError("REVERT_ONLY_ALLOWED_ON_SNAPSHOT")
    if snapshot and operation not in _ON_SNAPSHOTS:
        raise XenAPIError("VM_IS_SNAPSHOT", (vm, operation))
    template: bool = db.get("VM", vm, "is_a_template")
    if template and not snapshot and operation not in _ON_TEMPLATES:
        raise XenAPIError("VM_IS_TEMPLATE", (vm, operation))
    if db.get("VM", vm, "is_control_domain") and operation in _NOT_ON_DOM0:
        raise not_allowed("The control domain belongs to its host.")


def _check_power_state(db: Database, vm: str, operation: str) -> None:
    states = POWER_STATES.get(operation, _ANY)
    if operation in ("clone", "copy", "destroy") and db.get("VM", vm, "is_a_snapshot"):
        states = ("Halted", "Suspended")
    check_power_state(db, vm, *states)


def check_power_state(db: Database, vm: str, *expected: str) -> None:
    """Raise VM_BAD_POWER_STATE unless the VM is in one of the expected states."""
    actual: str = db.get("VM", vm, "power_state")
    if actual not in expected:
        raise XenAPIError("VM_BAD_POWER_STATE", (vm, ", ".join(expected).lower(), actual.lower()))


def runs(db: Database, vm: str) -> bool:
    """Whether the VM has its disks open: it runs, or it is paused."""
    return db.exists("VM", vm) and db.get("VM", vm, "power_state") in ("Running", "Paused")


def _check_other_operations(db: Database, vm: str, operation: str) -> None:
    current: Mapping[str, str] = db.get("VM", vm, "current_operations")
    for task, running in current.items():
        pair = {operation, running}
        together = any(pair <= group for group in _TOGETHER) and not pair <= _SINGLE
        if not together and running not in _OVERTAKES.get(operation, ()):
            raise other_operation("VM", vm, running, task)
    if operation in MOVES_DISKS:
        _check_vbds(db, vm)


def _check_vbds(db: Database, vm: str) -> None:
    vbds: tuple[str, ...] = db.get("VM", vm, "VBDs")
    for vbd in vbds:
        running: Mapping[str, str] = db.get("VBD", vbd, "current_operations")
        for task, operation in running.items():
            raise other_operation("VBD", vbd, operation, task)


def _check_snapshot(db: Database, vm: str) -> None:
    if db.get("VM", vm, "VUSBs"):
        raise XenAPIError("VM_HAS_VUSBS", (vm,))
    vbds: tuple[str, ...] = db.get("VM", vm, "VBDs")
    for vbd in vbds:
        vdi: str = db.get("VBD", vbd, "VDI")
        disk = db.get("VBD", vbd, "type") == "Disk" and db.exists("VDI", vdi)
        if disk and db.get("VDI", vdi, "on_boot") == "reset":
            raise XenAPIError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
