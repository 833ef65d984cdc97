"""The commands of `xe` for SRs, PBDs, VDIs and VBDs."""

from __future__ import annotations

from collections.abc import Iterable

from xapi.datatypes import NULL
from xapi.xe_args import Arguments, size
from xapi.xe_client import Client
from xapi.xe_command import Command

# -- SR and PBD


def _sr_create(client: Client, args: Arguments) -> str:
    sr = client.call(
        "SR.create",
        _host(client, args),
        args.mapping("device-config:"),
        str(size("physical-size", args.optional("physical-size", "0"))),
        args.required("name-label"),
        args.optional("name-description"),
        args.required("type"),
        args.optional("content-type"),
        args.flag("shared"),
        args.mapping("sm-config:"),
    )
    return str(client.uuid("SR", sr))


def _sr_introduce(client: Client, args: Arguments) -> str:
    sr = client.call(
        "SR.introduce",
        args.required("uuid"),
        args.required("name-label"),
        args.optional("name-description"),
        args.required("type"),
        args.optional("content-type"),
        args.flag("shared"),
        {},
    )
    return str(client.uuid("SR", sr))


def _sr_probe(client: Client, args: Arguments) -> str:
    config, sm_config = args.mapping("device-config:"), args.mapping("sm-config:")
    probed = client.call("SR.probe", _host(client, args), config, args.required("type"), sm_config)
    return str(probed)


def _host(client: Client, args: Arguments) -> str:
    """The host that the command names; without a name, the pool's master."""
    if "host-uuid" in args.keys:
        return client.ref("host", args.keys["host-uuid"])
    return str(client.call("pool.get_master", client.call("pool.get_all")[0]))


def _pbd_create(client: Client, args: Arguments) -> str:
    record = {
        "host": client.ref("host", args.required("host-uuid")),
        "SR": client.ref("SR", args.required("sr-uuid")),
        "device_config": args.mapping("device-config:"),
        "other_config": {},
    }
    return str(client.uuid("PBD", client.call("PBD.create", record)))


# -- VDI


def _vdi_create(client: Client, args: Arguments) -> str:
    record = {
        "SR": client.ref("SR", args.required("sr-uuid")),
        "name_label": args.required("name-label"),
        "name_description": args.optional("name-description"),
        "virtual_size": str(size("virtual-size", args.required("virtual-size"))),
        "type": args.optional("type", "user"),
        "sharable": args.flag("sharable"),
        "read_only": False,
        "other_config": args.mapping("other-config:"),
        "sm_config": args.mapping("sm-config:"),
        "tags": [tag for tag in args.optional("tags").split(",") if tag],
    }
    return str(client.uuid("VDI", client.call("VDI.create", record)))


def _vdi_snapshot(client: Client, args: Arguments) -> str:
    return _with_driver_params(client, args, "VDI.snapshot")


def _vdi_revert(client: Client, args: Arguments) -> str:
    return _with_driver_params(client, args, "VDI.revert")


def _vdi_clone(client: Client, args: Arguments) -> str:
    uuid = _with_driver_params(client, args, "VDI.clone")
    for field in ("name_label", "name_description"):
        key = f"new-{field.replace('_', '-')}"
        if key in args.keys:
            client.call(f"VDI.set_{field}", client.ref("VDI", uuid), args.keys[key])
    return uuid


def _with_driver_params(client: Client, args: Arguments, method: str) -> str:
    vdi = client.ref("VDI", args.required("uuid"))
    return str(client.uuid("VDI", client.call(method, vdi, args.mapping("driver-params-"))))


def _vdi_copy(client: Client, args: Arguments) -> str:
    def ref(cls: str, key: str) -> str:
        return client.ref(cls, args.keys[key]) if key in args.keys else NULL

    copied = client.call(
        "VDI.copy",
        client.ref("VDI", args.required("uuid")),
        ref("SR", "sr-uuid"),
        ref("VDI", "base-vdi-uuid"),
        ref("VDI", "into-vdi-uuid"),
    )
    return str(client.uuid("VDI", copied))


def _vdi_resize(client: Client, args: Arguments) -> str:
    method = "VDI.resize_online" if args.flag("online") else "VDI.resize"
    wanted = str(size("disk-size", args.required("disk-size")))
    client.call(method, client.ref("VDI", args.required("uuid")), wanted)
    return ""


def _vdi_introduce(client: Client, args: Arguments) -> str:
    vdi = client.call(
        "VDI.introduce",
        args.required("uuid"),
        args.optional("name-label"),
        args.optional("name-description"),
        client.ref("SR", args.required("sr-uuid")),
        args.required("type"),
        args.flag("sharable"),
        args.flag("read-only"),
        args.mapping("other-config:"),
        args.required("location"),
        args.mapping("xenstore-data:"),
        args.mapping("sm-config:"),
    )
    return str(client.uuid("VDI", vdi))


# -- VBD


def _vbd_create(client: Client, args: Arguments) -> str:
    vdi = client.ref("VDI", args.keys["vdi-uuid"]) if "vdi-uuid" in args.keys else NULL
    record = {
        "VM": client.ref("VM", args.required("vm-uuid")),
        "VDI": vdi,
        "userdevice": args.required("device"),
        "bootable": args.flag("bootable"),
        "mode": args.optional("mode", "RW"),
        "type": args.optional("type", "Disk"),
        "unpluggable": args.flag("unpluggable", default=True),
        "empty": vdi == NULL,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
    return str(client.uuid("VBD", client.call("VBD.create", record)))


def _simple(cls: str, message: str, text: str) -> Command:
    """A command that sends one message about the object with a uuid."""

    def run(client: Client, args: Arguments) -> str:
        client.call(f"{cls}.{message}", client.ref(cls, args.required("uuid")))
        return ""

    return Command(f"{cls.lower()}-{message}", run, "uuid", text=text)


def commands() -> Iterable[Command]:
    """All of them."""
    return _COMMANDS


_SR_KEYS = "host-uuid device-config: sm-config:"

_COMMANDS = (
    Command(
        "sr-create",
        _sr_create,
        "name-label type",
        f"name-description physical-size content-type shared {_SR_KEYS}",
        "make an SR on a device and plug it in; prints its uuid",
    ),
    Command(
        "sr-introduce",
        _sr_introduce,
        "name-label type uuid",
        "name-description shared content-type",
        "make the record of an SR that exists on a device",
    ),
    Command("sr-probe", _sr_probe, "type", _SR_KEYS, "show what SRs a device holds"),
    _simple("SR", "scan", "bring the VDIs' records in line with the device"),
    _simple("SR", "update", "let the driver save the SR's record"),
    _simple("SR", "forget", "remove the SR's records, keep what is on its device"),
    _simple("SR", "destroy", "destroy an SR that is unplugged and empty"),
    Command("pbd-create", _pbd_create, "host-uuid sr-uuid", "device-config:"),
    _simple("PBD", "plug", "attach the SR to the host"),
    _simple("PBD", "unplug", "detach the SR from the host"),
    _simple("PBD", "destroy", "remove a PBD that is unplugged"),
    Command(
        "vdi-create",
        _vdi_create,
        "sr-uuid name-label virtual-size",
        "name-description type sharable tags sm-config: other-config:",
        "make an empty VDI; prints its uuid",
    ),
    Command(
        "vdi-snapshot",
        _vdi_snapshot,
        "uuid",
        "driver-params-",
        "take a snapshot; prints its uuid",
    ),
    Command(
        "vdi-revert",
        _vdi_revert,
        "uuid",
        "driver-params-",
        "give a disk the content of its snapshot with this uuid; prints the disk's uuid",
    ),
    Command(
        "vdi-clone",
        _vdi_clone,
        "uuid",
        "new-name-label new-name-description driver-params-",
        "make a writable VDI of the same content; prints its uuid",
    ),
    Command(
        "vdi-copy",
        _vdi_copy,
        "uuid",
        "sr-uuid base-vdi-uuid into-vdi-uuid",
        "copy a VDI in full; prints the copy's uuid",
    ),
    Command("vdi-resize", _vdi_resize, "uuid disk-size", "online", "make a VDI larger"),
    Command(
        "vdi-introduce",
        _vdi_introduce,
        "uuid sr-uuid type location",
        "name-label name-description sharable read-only other-config: xenstore-data: sm-config:",
        "have the driver make the record of a VDI",
    ),
    _simple("VDI", "update", "let the driver save the VDI's record"),
    _simple("VDI", "forget", "remove the VDI's record, keep its content"),
    _simple("VDI", "destroy", "destroy a VDI"),
    Command(
        "vbd-create",
        _vbd_create,
        "vm-uuid device",
        "vdi-uuid bootable type mode unpluggable",
        "connect a VDI with a VM; device=autodetect picks a number",
    ),
    _simple("VBD", "plug", "attach the VDI to the running VM"),
    _simple("VBD", "unplug", "detach it"),
    _simple("VBD", "destroy", "remove a VBD that is unplugged"),
)
