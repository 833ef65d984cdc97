"""The commands of `xe` for the disks and CDs of VMs and snapshots."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from xapi.datatypes import NULL
from xapi.xe_args import Arguments, size
from xapi.xe_client import ApiFailure, Client, XeError
from xapi.xe_command import Command, printed
from xapi.xe_lists import VIEWS, chosen, paragraphs, values
from xapi.xe_output import minimal
from xapi.xe_select import Record, each_vm, named, one_snapshot

_VIEWS = {view.name: view for view in VIEWS}
_VBD_COLUMNS = "uuid vm-name-label userdevice"
_VDI_COLUMNS = "uuid name-label sr-name-label virtual-size"


def _vbds(client: Client, vm: str, type_: str) -> dict[str, Record]:
    """The VBDs of a VM that are disks, or CDs, in the order of their numbers."""
    vbds = client.call("VM.get_VBDs", vm)
    records = {vbd: client.call("VBD.get_record", vbd) for vbd in vbds}
    of_type = {vbd: record for vbd, record in records.items() if record["type"] == type_}
    return dict(sorted(of_type.items(), key=lambda item: item[1]["userdevice"].rjust(3)))


# -- lists


def _list(client: Client, args: Arguments, vm: str, type_: str) -> str:
    """VBD, VDI, VBD, VDI ...; the columns are chosen with vbd-params= and vdi-params=."""
    shown = {
        cls: chosen(_VIEWS[cls], args, f"{cls}-params", default)
        for cls, default in (("vbd", _VBD_COLUMNS), ("vdi", _VDI_COLUMNS))
    }
    text: list[str] = []
    for number, vbd in enumerate(_vbds(client, vm, type_).values()):
        vdi = client.call("VDI.get_record", vbd["VDI"]) if vbd["VDI"] != NULL else None
        for cls, record in (("vbd", vbd), ("vdi", vdi)):
            if not shown[cls] or record is None:
                continue
            if args.flag("minimal"):
                text += values(client, shown[cls][0], [record])
            else:
                lines = paragraphs(client, shown[cls], [record])
                text.append(f"{type_} {number} {cls.upper()}:\n{lines}")
    return minimal(text) if args.flag("minimal") else "\n\n\n".join(text)


def _disks_of_vm(client: Client, args: Arguments, vm: str) -> str:
    return _list(client, args, vm, "Disk")


def _cds_of_vm(client: Client, args: Arguments, vm: str) -> str:
    return _list(client, args, vm, "CD")


def _disks_of_snapshot(client: Client, args: Arguments) -> str:
    return _list(client, args, one_snapshot(client, args), "Disk")


# -- disks


def _add_disk(client: Client, args: Arguments, vm: str) -> str:
    """A new VDI and its VBD; plugged in, if the VM runs. Without the VBD there is no VDI."""
    uuid = args.optional("sr-uuid")
    sr = client.ref("SR", uuid) if uuid else _default_sr(client)
    record: dict[str, object] = {
        "SR": sr,
        "name_label": f"disk of {client.name('VM', vm)}",
        "virtual_size": str(size("disk-size", args.required("disk-size"))),
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }
    vdi = client.call("VDI.create", record)
    try:
        _connect(client, vm, vdi, args.required("device"), "Disk")
    except XeError:
        client.call("VDI.destroy", vdi)
        raise
    return printed(client, "VDI", vdi)


def _default_sr(client: Client) -> Any:
    sr = client.call("pool.get_default_SR", client.call("pool.get_all")[0])
    if sr == NULL:
        raise XeError("Error: The pool has no default SR: name one with sr-uuid")
    return sr


def _connect(client: Client, vm: str, vdi: str, device: str, type_: str) -> None:
    record = {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": False,
        "mode": "RO" if type_ == "CD" else "RW",
        "type": type_,
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
    vbd = client.call("VBD.create", record)
    if client.call("VM.get_power_state", vm) == "Running":
        try:
            client.call("VBD.plug", vbd)
        except XeError:
            client.call("VBD.destroy", vbd)
            raise


def _remove_disk(client: Client, args: Arguments, vm: str) -> str:
    device = args.required("device")
    for vbd, record in _vbds(client, vm, "Disk").items():
        if record["userdevice"] == device:
            _disconnect(client, vbd, record)
            client.call("VDI.destroy", record["VDI"])
            return ""
    raise XeError(f"Error: The VM has no disk {device}")


def _disconnect(client: Client, vbd: str, record: Record) -> None:
    if record["currently_attached"]:
        client.call("VBD.unplug", vbd)
    client.call("VBD.destroy", vbd)


# -- CDs


def _add_cd(client: Client, args: Arguments, vm: str) -> str:
    vdi = named(client, "VDI", args.required("cd-name"))
    _connect(client, vm, vdi, args.required("device"), "CD")
    return ""


def _remove_cd(client: Client, args: Arguments, vm: str) -> str:
    vdi = named(client, "VDI", args.required("cd-name"))
    for vbd, record in _vbds(client, vm, "CD").items():
        if record["VDI"] == vdi:
            _disconnect(client, vbd, record)
            return ""
    raise XeError("Error: The VM has no such CD")


def _one_drive(client: Client, vm: str, *, empty: bool) -> str:
    drives = [vbd for vbd, record in _vbds(client, vm, "CD").items() if record["empty"] == empty]
    if len(drives) != 1:
        what = "empty CD drive" if empty else "CD drive with a CD"
        raise XeError(f"Error: The VM has {len(drives) or 'no'} {what}: use vbd-insert, vbd-eject")
    return drives[0]


def _insert_cd(client: Client, args: Arguments, vm: str) -> str:
    vdi = named(client, "VDI", args.required("cd-name"))
    client.call("VBD.insert", _one_drive(client, vm, empty=True), vdi)
    return ""


def _eject_cd(client: Client, _args: Arguments, vm: str) -> str:
    client.call("VBD.eject", _one_drive(client, vm, empty=False))
    return ""


# -- everything at once


def _uninstall(client: Client, args: Arguments, vm: str) -> str:
    """The VM with its disks and its memory image; what other VMs use stays."""
    record = client.call("VM.get_record", vm)
    # A dictionary, for its order: a VM may have several VBDs on one VDI.
    disks = dict.fromkeys(vbd["VDI"] for vbd in _vbds(client, vm, "Disk").values())
    disks.pop(NULL, None)
    vdis = [vdi for vdi in disks if set(client.call("VDI.get_VBDs", vdi)) <= set(record["VBDs"])]
    if record["suspend_VDI"] != NULL:
        vdis.append(record["suspend_VDI"])
    if not args.flag("force"):
        _confirm([_called(client, "VM", vm), *(_called(client, "VDI", vdi) for vdi in vdis)])
    if record["power_state"] != "Halted" and not record["is_a_snapshot"]:
        client.call("VM.hard_shutdown", vm)
    client.call("VM.destroy", vm)
    for vdi in vdis:
        _destroy_disk(client, vdi)
    return ""


def _destroy_disk(client: Client, vdi: str) -> None:
    """Unless it is gone: the memory image goes with the shutdown."""
    try:
        client.call("VDI.destroy", vdi)
    except ApiFailure as failure:
        if failure.code != "HANDLE_INVALID":
            raise


def _called(client: Client, cls: str, ref: str) -> str:
    return f"{cls}: {client.uuid(cls, ref)} ({client.name(cls, ref)})"


def _confirm(doomed: Iterable[str]) -> None:
    print("These are about to be destroyed:", *doomed, "Type yes to go on:", sep="\n", flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise XeError("Nothing was destroyed")


def _uninstall_template(client: Client, args: Arguments) -> str:
    return _uninstall(client, args, client.ref("VM", args.required("template-uuid")))


def _uninstall_snapshot(client: Client, args: Arguments) -> str:
    return _uninstall(client, args, one_snapshot(client, args))


_PARAMS = "[vbd-params] [vdi-params]"
_WHICH = "[uuid:VM] [snapshot-uuid:VM]"

COMMANDS = (
    each_vm("vm-disk-list", _disks_of_vm, _PARAMS, "show the disks of VMs"),
    each_vm("vm-cd-list", _cds_of_vm, _PARAMS, "show the CD drives of VMs"),
    Command(
        "snapshot-disk-list", _disks_of_snapshot, f"{_PARAMS} {_WHICH}", "show a snapshot's disks"
    ),
    each_vm(
        "vm-disk-add",
        _add_disk,
        "disk-size:size device [sr-uuid:SR]",
        "make a VDI for a VM, on the pool's default SR; prints the VDI's uuid",
        methods=("VDI.create", "VBD.create", "VBD.plug", "VBD.destroy", "VDI.destroy"),
    ),
    each_vm(
        "vm-disk-remove",
        _remove_disk,
        "device",
        "destroy a disk of a VM",
        methods=("VBD.unplug", "VBD.destroy", "VDI.destroy"),
    ),
    each_vm("vm-cd-add", _add_cd, "cd-name device", "give a VM a drive with a CD in it"),
    each_vm("vm-cd-remove", _remove_cd, "cd-name", "take away the drive with a CD"),
    each_vm(
        "vm-cd-insert", _insert_cd, "cd-name", "put a CD into the drive", methods=("VBD.insert",)
    ),
    each_vm("vm-cd-eject", _eject_cd, "", "take out the CD", methods=("VBD.eject",)),
    each_vm("vm-uninstall", _uninstall, "[force:bool]", "destroy a VM and its disks"),
    Command(
        "template-uninstall",
        _uninstall_template,
        "template-uuid:VM [force:bool]",
        "destroy a template and its disks",
    ),
    Command(
        "snapshot-uninstall",
        _uninstall_snapshot,
        f"{_WHICH} [force:bool]",
        "destroy a snapshot and its disks",
    ),
)
