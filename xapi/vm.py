"""VMs: made, copied, turned into templates and back, destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from xapi import vdi, vdi_copy, vm_copy, vm_disks, vm_metadata, vm_provision
from xapi.datamodel_vm import VM
from xapi.datatypes import NULL, Basic, RecordOf, Ref
from xapi.errors import XenAPIError, vdi_in_use
from xapi.generated import construct
from xapi.message import Call, Message, Param, now
from xapi.policy import Mark
from xapi.vm_snapshot import clone_image, copied_disks, copy_devices


def create(call: Call, record: Mapping[str, object]) -> str:
    """A halted VM without devices. Suspended it can only be with a suspend VDI."""
    db = call.xapi.db
    fields = construct(VM, record)
    with db.transaction():
        image = cast(str, fields.get("suspend_VDI", NULL))
        if fields.get("power_state") != "Suspended" or not db.exists("VDI", image):
            fields |= {"power_state": "Halted", "suspend_VDI": NULL}
        if fields.get("generation_id", "0:0") == "0:0":
            fields["generation_id"] = vm_copy.generation_id(db)
        if fields.get("domain_type", vm_metadata.UNSPECIFIED) == vm_metadata.UNSPECIFIED:
            fields["domain_type"] = vm_metadata.domain_type(fields.get("HVM_boot_policy", ""))
        metrics = db.create("VM_metrics", install_time=now(), last_updated=now())
        return db.create("VM", **{**fields, "metrics": metrics})


def clone(call: Call, vm: str, new_name: str) -> str:
    """A VM with clones of the disks of another, which is halted, or a snapshot."""

    def cloned(disk: str) -> str:
        return vdi.clone(call, disk, {})

    with (
        call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "clone")),
        copied_disks(call, vm, cloned) as disks,
    ):
        return _twin(call, vm, new_name, disks)


def copy(call: Call, vm: str, new_name: str, sr: str) -> str:
    """A VM with full copies of the disks of another, on `sr` or each on the SR of its like."""

    def copied(disk: str) -> str:
        return vdi_copy.copy(call, disk, sr, NULL, NULL)

    with (
        call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "copy")),
        copied_disks(call, vm, copied) as disks,
    ):
        return _twin(call, vm, new_name, disks)


def _twin(call: Call, vm: str, new_name: str, disks: Mapping[str, str]) -> str:
    """The record and devices of a clone or copy; a sleeping VM's twin sleeps too."""
    db = call.xapi.db
    image = clone_image(call, vm)
    other_config: Mapping[str, str] = db.get("VM", vm, "other_config")
    with db.transaction():
        made = vm_copy.copy_vm(
            db,
            vm,
            new_name,
            power_state="Halted" if image == NULL else "Suspended",
            suspend_VDI=image,
            # Guests make their addresses from the seed: a twin has its own.
            other_config={**other_config, "mac_seed": db.new_uuid()},
        )
        copy_devices(call, vm, made, disks, snapshot=False)
        return made


def destroy(call: Call, self: str) -> str:
    """Remove a VM's record and its devices; its disks stay, and its snapshots too."""
    db = call.xapi.db
    mark = Mark("VM", self, "destroy")
    with call.xapi.policy.operation(call.task, call.method, mark), db.transaction():
        parent: str = db.get("VM", self, "parent")
        for child in db.get("VM", self, "children"):
            db.put("VM", child, parent=parent)
        remove_records(call, self)
    return ""


def remove_records(call: Call, vm: str) -> None:
    """The VM's row and those of its devices, within the caller's transaction."""
    db = call.xapi.db
    for field, cls in (("VBDs", "VBD"), ("VIFs", "VIF"), ("consoles", "console")):
        for device in db.get("VM", vm, field):
            db.destroy(cls, device)
    for field, cls in (("metrics", "VM_metrics"), ("guest_metrics", "VM_guest_metrics")):
        ref: str = db.get("VM", vm, field)
        if db.exists(cls, ref):
            db.destroy(cls, ref)
    db.destroy("VM", vm)


def set_is_a_template(call: Call, self: str, value: bool) -> str:
    """Make a template of a halted VM, or a VM of a template, or of a snapshot's record."""
    # Only the first is an operation; Xen Orchestra does the last with every snapshot.
    marks = [Mark("VM", self, "make_into_template")] if value else []
    with call.xapi.policy.operation(call.task, call.method, *marks):
        call.xapi.db.put("VM", self, is_a_template=value)
    return ""


def provision(call: Call, vm: str) -> str:
    """Make a VM of a template, with the disks that its other_config asks for."""
    with call.xapi.policy.operation(call.task, call.method, Mark("VM", vm, "provision")):
        vm_provision.make_disks(call, vm)
        db = call.xapi.db
        other_config: Mapping[str, str] = db.get("VM", vm, "other_config")
        kept = {key: value for key, value in other_config.items() if key != "disks"}
        db.put("VM", vm, is_a_template=False, other_config=kept)
    return ""


def set_suspend_VDI(call: Call, self: str, value: str) -> str:  # noqa: N802, as the message
    """Give a suspended VM another memory image, which nobody may have attached."""
    db = call.xapi.db
    with db.transaction():
        db.get("VM", self, "uuid")
        if value != NULL:
            for vbd in db.get("VDI", value, "VBDs"):
                if db.get("VBD", vbd, "currently_attached"):
                    raise vdi_in_use(value, "set_suspend_VDI")
        db.put("VM", self, suspend_VDI=value)
    return ""


def assert_can_boot_here(call: Call, self: str, host: str) -> str:
    """Raise VM_REQUIRES_SR [vm, sr] if the host cannot reach one of the VM's disks."""
    db = call.xapi.db
    db.get("host", host, "uuid")
    for vbd in vm_disks.vbds(db, self, disks=True):
        sr: str = db.get("VDI", db.get("VBD", vbd, "VDI"), "SR")
        if not db.find("PBD", SR=sr, host=host, currently_attached=True):
            raise XenAPIError("VM_REQUIRES_SR", (self, sr))
    return ""


_SELF = Param("self", Ref("VM"))
_VM = Param("vm", Ref("VM"))
_NEW_NAME = Param("new_name", Basic.STRING)

MESSAGES = (
    Message("VM.create", create, (Param("record", RecordOf("VM")),)),
    Message("VM.clone", clone, (_VM, _NEW_NAME)),
    Message("VM.copy", copy, (_VM, _NEW_NAME, Param("sr", Ref("SR"), NULL))),
    Message("VM.destroy", destroy, (_SELF,)),
    Message("VM.provision", provision, (_VM,)),
    Message("VM.set_is_a_template", set_is_a_template, (_SELF, Param("value", Basic.BOOL))),
    Message("VM.set_suspend_VDI", set_suspend_VDI, (_SELF, Param("value", Ref("VDI")))),
    Message("VM.assert_can_boot_here", assert_can_boot_here, (_SELF, Param("host", Ref("host")))),
)
