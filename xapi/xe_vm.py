"""The commands of `xe` for VMs, their snapshots and templates."""

from __future__ import annotations

from xapi.xe_args import Arguments
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command, constructor, message, parameters, printed
from xapi.xe_select import each_vm, named, on_vms, one_snapshot

# -- life cycle


def _start(client: Client, args: Arguments, vm: str) -> str:
    how = (args.flag("paused"), args.flag("force"))
    host = args.optional("on")
    if host:
        client.call("VM.start_on", vm, named(client, "host", host), *how)
    else:
        client.call("VM.start", vm, *how)
    return ""


_LIFE = (
    constructor(
        "vm-create",
        "VM",
        {
            "name_label": "name-label",
            "name_description": "[name-description]",
            "memory_static_max": "[memory-static-max:size|256MiB]",
            "VCPUs_max": "[VCPUs-max:size|1]",
            "other_config": "[other-config:]",
        },
        "make a VM without disks; prints its uuid",
    ),
    each_vm(
        "vm-start",
        _start,
        "[on] [paused:bool] [force:bool]",
        "start VMs; on=<uuid or name of a host>",
        methods=("VM.start", "VM.start_on"),
    ),
    on_vms("vm-shutdown", "VM.clean_shutdown", "", "shut VMs down", forced="VM.hard_shutdown"),
    on_vms("vm-reboot", "VM.clean_reboot", "", "reboot VMs", forced="VM.hard_reboot"),
    on_vms("vm-suspend", "VM.suspend", "", "write the memory of VMs to disk and stop them"),
    on_vms("vm-resume", "VM.resume", "[paused:bool] [force:bool]", "go on with suspended VMs"),
    on_vms("vm-pause", "VM.pause", "", "hold running VMs"),
    on_vms("vm-unpause", "VM.unpause", "", "let paused VMs go on"),
    on_vms(
        "vm-reset-powerstate",
        "VM.power_state_reset",
        "",
        "say that VMs are halted, whatever became of them",
    ),
    message("vm-destroy", "VM.destroy", "uuid:VM", "remove the record of a VM, keep its disks"),
)


# -- copies


def _described(client: Client, args: Arguments, vm: object) -> str:
    """Describe a VM that was just made, and print its uuid."""
    if "new-name-description" in args.keys:
        client.call("VM.set_name_description", vm, args.keys["new-name-description"])
    return printed(client, "VM", vm)


def _snapshot(client: Client, args: Arguments, vm: str) -> str:
    ignored = [client.ref("VDI", uuid) for uuid in _words(args.optional("ignore-vdi-uuids"))]
    return _described(
        client, args, client.call("VM.snapshot", vm, args.required("new-name-label"), ignored)
    )


def _checkpoint(client: Client, args: Arguments, vm: str) -> str:
    made = client.call("VM.checkpoint", vm, args.required("new-name-label"))
    return _described(client, args, made)


def _clone(client: Client, args: Arguments, vm: str) -> str:
    made = client.call("VM.clone", vm, args.required("new-name-label"))
    return _described(client, args, made)


def _copy(client: Client, args: Arguments, vm: str) -> str:
    (sr,) = (word.value(client, args) for word in parameters("[sr-uuid:SR]"))
    return _described(client, args, client.call("VM.copy", vm, args.required("new-name-label"), sr))


def _install(client: Client, args: Arguments) -> str:
    template = named(client, "VM", args.required("template"))
    vm = client.call("VM.clone", template, args.required("new-name-label"))
    client.call("VM.provision", vm)
    return _described(client, args, vm)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


_NAMES = "new-name-label [new-name-description]"
_COPIES = (
    each_vm(
        "vm-snapshot",
        _snapshot,
        f"{_NAMES} [ignore-vdi-uuids:set]",
        "take a snapshot of VMs with their disks; prints its uuid",
        methods=("VM.snapshot",),
    ),
    each_vm(
        "vm-checkpoint",
        _checkpoint,
        _NAMES,
        "take a snapshot of VMs with their disks and memory; prints its uuid",
        methods=("VM.checkpoint",),
    ),
    each_vm(
        "vm-clone",
        _clone,
        _NAMES,
        "make another VM whose disks are clones; prints its uuid",
        methods=("VM.clone",),
    ),
    each_vm(
        "vm-copy",
        _copy,
        f"{_NAMES} [sr-uuid:SR]",
        "make another VM whose disks are full copies; prints its uuid",
        methods=("VM.copy",),
    ),
    Command(
        "vm-install",
        _install,
        f"template {_NAMES}",
        "make a VM from a template, given by its uuid or name; prints the VM's uuid",
        methods=("VM.clone", "VM.provision"),
    ),
)


# -- snapshots


def _revert(client: Client, args: Arguments) -> str:
    snapshot = one_snapshot(client, args)
    if not client.call("VM.get_is_a_snapshot", snapshot):
        raise XeError(f"Error: the VM {client.uuid('VM', snapshot)} is not a snapshot")
    client.call("VM.revert", snapshot)
    return ""


def _clone_snapshot(client: Client, args: Arguments) -> str:
    return _clone(client, args, one_snapshot(client, args))


def _copy_snapshot(client: Client, args: Arguments) -> str:
    return _copy(client, args, one_snapshot(client, args))


def _destroy_snapshot(client: Client, args: Arguments) -> str:
    client.call("VM.destroy", one_snapshot(client, args))
    return ""


def _reset_snapshot(client: Client, args: Arguments) -> str:
    client.call("VM.hard_shutdown", one_snapshot(client, args))
    return ""


_WHICH = "[uuid:VM] [snapshot-uuid:VM]"
_SNAPSHOTS = (
    Command(
        "snapshot-revert",
        _revert,
        _WHICH,
        "give a VM the state and the disks of a snapshot",
        methods=("VM.revert",),
    ),
    Command(
        "snapshot-clone",
        _clone_snapshot,
        f"{_NAMES} {_WHICH}",
        "make a template from a snapshot, with clones of its disks; prints its uuid",
        methods=("VM.clone",),
    ),
    Command(
        "snapshot-copy",
        _copy_snapshot,
        f"{_NAMES} [sr-uuid:SR] {_WHICH}",
        "make a template from a snapshot, with copies of its disks; prints its uuid",
        methods=("VM.copy",),
    ),
    Command(
        "snapshot-destroy",
        _destroy_snapshot,
        _WHICH,
        "remove the record of a snapshot, keep its disks",
        methods=("VM.destroy",),
    ),
    Command(
        "snapshot-reset-powerstate",
        _reset_snapshot,
        _WHICH,
        "say that a checkpoint is halted, and forget its memory",
        methods=("VM.hard_shutdown",),
    ),
)

COMMANDS: tuple[Command, ...] = (*_LIFE, *_COPIES, *_SNAPSHOTS)
