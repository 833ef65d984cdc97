"""The commands of `xe` for hosts, networks, secrets, tasks and messages."""

from __future__ import annotations

from xapi.xe_args import Arguments
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command, constructor, message, printed

#: The key that says what a message is about: the class of message.create, and of the object.
_ABOUT = {
    "vm-uuid": ("VM", "VM"),
    "host-uuid": ("Host", "host"),
    "sr-uuid": ("SR", "SR"),
    "pool-uuid": ("Pool", "pool"),
    "vdi-uuid": ("VDI", "VDI"),
}


def _message_create(client: Client, args: Arguments) -> str:
    about = [key for key in _ABOUT if key in args.keys]
    if len(about) != 1:
        raise XeError(f"Error: Name one object that it is about: {', '.join(_ABOUT)}")
    cls, kind = _ABOUT[about[0]]
    uuid = args.keys[about[0]]
    client.ref(kind, uuid)
    made = client.call(
        "message.create",
        args.required("name"),
        args.required("priority"),
        cls,
        uuid,
        args.required("body"),
    )
    return printed(client, "message", made)


def _message_destroy(client: Client, args: Arguments) -> str:
    uuids = (args.keys.get("uuids") or args.required("uuid")).split(",")
    refs = [client.ref("message", uuid) for uuid in uuids]
    client.call("message.destroy_many", refs)
    return ""


COMMANDS = (
    message(
        "host-call-plugin",
        "host.call_plugin",
        "host-uuid:host plugin fn [args:]",
        "run a function of a plugin on a host, and show what it returns",
        result="text",
    ),
    message("host-enable", "host.enable", "uuid:host", "let VMs start on a host"),
    message("host-disable", "host.disable", "uuid:host", "let no VM start on a host any more"),
    message(
        "host-declare-dead",
        "host.declare_dead",
        "uuid:host",
        "say that a host without power does not come back: its VMs are halted",
    ),
    message(
        "pool-designate-new-master",
        "pool.designate_new_master",
        "host-uuid:host",
        "make another host the master",
    ),
    constructor(
        "network-create",
        "network",
        {
            "name_label": "name-label",
            "name_description": "[name-description]",
            "bridge": "[bridge]",
            "MTU": "[MTU:size|1500]",
            "other_config": "[other-config:]",
        },
        "make a network; prints its uuid",
    ),
    message("network-destroy", "network.destroy", "uuid:network", "remove a network"),
    constructor(
        "vif-create",
        "VIF",
        {
            "VM": "vm-uuid:VM",
            "network": "network-uuid:network",
            "device": "device",
            "MAC": "[mac]",
            "MTU": "[MTU:size|1500]",
            "other_config": "[other-config:]",
            "qos_algorithm_type": "[qos-algorithm-type]",
            "qos_algorithm_params": "[qos-algorithm-params:]",
        },
        "connect a VM with a network; prints the VIF's uuid",
    ),
    message("vif-destroy", "VIF.destroy", "uuid:VIF", "disconnect a VM from a network"),
    constructor(
        "secret-create",
        "secret",
        {"value": "value", "other_config": "[other-config:]"},
        "keep a password for a device_config; prints its uuid",
    ),
    message("secret-destroy", "secret.destroy", "uuid:secret", "forget a password"),
    message("task-cancel", "task.cancel", "uuid:task", "ask whoever works on a task to stop"),
    Command(
        "message-create",
        _message_create,
        "name body priority:size " + " ".join(f"[{key}]" for key in _ABOUT),
        "leave a message about an object; prints its uuid",
        methods=("message.create",),
    ),
    Command(
        "message-destroy",
        _message_destroy,
        "[uuid:message] [uuids]",
        "remove messages",
        methods=("message.destroy_many",),
    ),
)
