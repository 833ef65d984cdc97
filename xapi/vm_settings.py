"""What a VM is given and what it may be asked: memory, CPUs, order of start, free devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from xapi import vbd, vm_hosts
from xapi.datamodel_vm import ON_CRASH, VM, VM_OPERATIONS
from xapi.datatypes import Basic, Ref, Type, Value
from xapi.errors import XenAPIError
from xapi.generated import record
from xapi.message import Call, Message, Param
from xapi.policy import Mark

_MEMORY = ("memory_static_min", "memory_dynamic_min", "memory_dynamic_max", "memory_static_max")
#: Devices of a network card; the number is bounded by what guests know.
_VIF_DEVICES = tuple(str(number) for number in range(7))

#: message -> the fields that its parameters set, and the operation that it is.
_LIMITS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "set_memory_limits": (
        ("memory_static_min", "memory_static_max", "memory_dynamic_min", "memory_dynamic_max"),
        "changing_memory_limits",
    ),
    "set_memory_static_range": (
        ("memory_static_min", "memory_static_max"),
        "changing_static_range",
    ),
    "set_memory_dynamic_range": (
        ("memory_dynamic_min", "memory_dynamic_max"),
        "changing_dynamic_range",
    ),
    **{f"set_{field}": ((field,), f"changing_{field.split('_')[1]}_range") for field in _MEMORY},
}
#: Fields that are set without further ado.
_PLAIN: Mapping[str, Type] = {
    "actions_after_crash": ON_CRASH,
    "ha_always_run": Basic.BOOL,
    "ha_restart_priority": Basic.STRING,
    "start_delay": Basic.INT,
    "shutdown_delay": Basic.INT,
    "order": Basic.INT,
    "appliance": Ref("VM_appliance"),
}


def _set_memory(name: str) -> Callable[..., str]:
    fields, operation = _LIMITS[name]

    def run(call: Call, self: str, *sizes: int) -> str:
        mark = Mark("VM", self, operation)
        with call.xapi.policy.operation(call.task, call.method, mark):
            _put_memory(call, self, dict(zip(fields, sizes, strict=True)))
        return ""

    return run


def set_memory(call: Call, self: str, value: int) -> str:
    """All of the VM's memory, in bytes: neither more nor less."""
    mark = Mark("VM", self, "changing_memory_limits")
    with call.xapi.policy.operation(call.task, call.method, mark):
        _put_memory(call, self, dict.fromkeys(_MEMORY[1:], value))
    return ""


def _put_memory(call: Call, vm: str, sizes: Mapping[str, int]) -> None:
    db = call.xapi.db
    with db.transaction():
        limits = [sizes.get(field, db.get("VM", vm, field)) for field in _MEMORY]
        if limits != sorted(limits):
            raise XenAPIError("MEMORY_CONSTRAINT_VIOLATION", (" <= ".join(_MEMORY),))
        db.put("VM", vm, **sizes)


def _set_vcpus(field: str) -> Callable[[Call, str, int], str]:
    def run(call: Call, self: str, value: int) -> str:
        db = call.xapi.db
        mark = Mark("VM", self, "changing_VCPUs")
        with call.xapi.policy.operation(call.task, call.method, mark), db.transaction():
            counts = {name: db.get("VM", self, name) for name in ("VCPUs_at_startup", "VCPUs_max")}
            counts[field] = value
            if not 0 < counts["VCPUs_at_startup"] <= counts["VCPUs_max"]:
                raise XenAPIError("INVALID_VALUE", (field, str(value)))
            db.put("VM", self, **{field: value})
        return ""

    return run


def _plain(field: str) -> Callable[[Call, str, Value], str]:
    def run(call: Call, self: str, value: Value) -> str:
        call.xapi.db.put("VM", self, **{field: value})
        return ""

    return run


def get_allowed_vbd_devices(call: Call, vm: str) -> Value:
    """The numbers that a new VBD of the VM may have."""
    return vbd.free_devices(call.xapi, vm)


def get_allowed_vif_devices(call: Call, vm: str) -> Value:
    """The numbers that a new VIF of the VM may have."""
    db = call.xapi.db
    with db.lock:
        taken = {db.get("VIF", vif, "device") for vif in db.get("VM", vm, "VIFs")}
    return tuple(device for device in _VIF_DEVICES if device not in taken)


def get_boot_record(call: Call, self: str) -> Value:
    """The VM's record as it was started: nothing here changes while it runs."""
    mark = Mark("VM", self, "get_boot_record")
    with call.xapi.policy.operation(call.task, call.method, mark):
        return record(call.xapi, VM, self)


def get_possible_hosts(call: Call, vm: str) -> Value:
    """The hosts on which the VM may run now."""
    return tuple(host.ref for host in vm_hosts.able(call.xapi, vm))


def assert_operation_valid(call: Call, self: str, op: str) -> str:
    """Raise what would forbid the operation now."""
    call.xapi.policy.assert_allowed(Mark("VM", self, op))
    return ""


def update_allowed_operations(call: Call, self: str) -> str:
    """Nothing to do: allowed_operations are worked out whenever they are read."""
    call.xapi.db.get("VM", self, "uuid")
    return ""


_SELF = Param("self", Ref("VM"))
_VM = Param("vm", Ref("VM"))


def _messages() -> Iterator[Message]:
    for name, (fields, _) in _LIMITS.items():
        sizes = [Param(field.removeprefix("memory_"), Basic.INT) for field in fields]
        yield Message(f"VM.{name}", _set_memory(name), (_SELF, *sizes))
    yield Message("VM.set_memory", set_memory, (_SELF, Param("value", Basic.INT)))
    for field in ("VCPUs_max", "VCPUs_at_startup"):
        yield Message(f"VM.set_{field}", _set_vcpus(field), (_SELF, Param("value", Basic.INT)))
    for field, type_ in _PLAIN.items():
        yield Message(f"VM.set_{field}", _plain(field), (_SELF, Param("value", type_)))


MESSAGES = (
    *_messages(),
    Message("VM.get_allowed_VBD_devices", get_allowed_vbd_devices, (_VM,)),
    Message("VM.get_allowed_VIF_devices", get_allowed_vif_devices, (_VM,)),
    Message("VM.get_boot_record", get_boot_record, (_SELF,)),
    Message("VM.get_possible_hosts", get_possible_hosts, (_VM,)),
    Message(
        "VM.assert_operation_valid", assert_operation_valid, (_SELF, Param("op", VM_OPERATIONS))
    ),
    Message("VM.update_allowed_operations", update_allowed_operations, (_SELF,)),
)
