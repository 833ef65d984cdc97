"""The commands of `xe` for SRs, PBDs, VDIs and VBDs."""

from __future__ import annotations

from xapi.datatypes import NULL
from xapi.xe_args import Arguments
from xapi.xe_client import Client
from xapi.xe_command import Command, constructor, fields, message, parameters, printed


def _simple(cls: str, verb: str, text: str) -> Command:
    """A command that sends one message about the object with a uuid."""
    return message(f"{cls.lower()}-{verb}", f"{cls}.{verb}", f"uuid:{cls}", text)


# -- SR


def _master(client: Client) -> str:
    return str(client.call("pool.get_master", client.call("pool.get_all")[0]))


def _on_host(name: str, method: str, spec: str, text: str, *, result: str) -> Command:
    """A command whose message is first told the host: host-uuid, or else the pool's master."""

    def run(client: Client, args: Arguments) -> str:
        values = [parameter.value(client, args) for parameter in parameters(spec)]
        uuid = args.optional("host-uuid")
        host = client.ref("host", uuid) if uuid else _master(client)
        return printed(client, result, client.call(method, host, *values))

    return Command(name, run, f"{spec} [host-uuid:host]", text, methods=(method,))


_SR = (
    _on_host(
        "sr-create",
        "SR.create",
        "[device-config:] [physical-size:size] name-label [name-description] type "
        "[content-type] [shared:bool] [sm-config:]",
        "make an SR on a device and plug it in; prints its uuid",
        result="SR",
    ),
    message(
        "sr-introduce",
        "SR.introduce",
        "uuid name-label [name-description] type [content-type] [shared:bool] [sm-config:]",
        "make the record of an SR that exists on a device; prints its uuid",
        result="SR",
    ),
    _on_host(
        "sr-probe",
        "SR.probe",
        "[device-config:] type [sm-config:]",
        "show what SRs a device holds",
        result="text",
    ),
    _on_host(
        "sr-probe-ext",
        "SR.probe_ext",
        "[device-config:] type [sm-config:]",
        "show what SRs a device holds, as records",
        result="text",
    ),
    _simple("SR", "scan", "bring the VDIs' records in line with the device"),
    _simple("SR", "update", "let the driver save the SR's record"),
    _simple("SR", "forget", "remove the SR's records, keep what is on its device"),
    _simple("SR", "destroy", "destroy an SR that is unplugged and empty"),
)

_PBD = (
    constructor(
        "pbd-create",
        "PBD",
        {
            "host": "host-uuid:host",
            "SR": "sr-uuid:SR",
            "device_config": "[device-config:]",
            "other_config": "[other-config:]",
        },
        "say how a host reaches an SR; prints the PBD's uuid",
    ),
    _simple("PBD", "plug", "attach the SR to the host"),
    _simple("PBD", "unplug", "detach the SR from the host"),
    _simple("PBD", "destroy", "remove a PBD that is unplugged"),
)


# -- VDI


def _clone(client: Client, args: Arguments) -> str:
    vdi = client.ref("VDI", args.required("uuid"))
    clone = client.call("VDI.clone", vdi, args.mapping("driver-params-"))
    for field in ("name_label", "name_description"):
        key = f"new-{field.replace('_', '-')}"
        if key in args.keys:
            client.call(f"VDI.set_{field}", clone, args.keys[key])
    return printed(client, "VDI", clone)


def _resize(client: Client, args: Arguments) -> str:
    vdi, wanted = (word.value(client, args) for word in parameters("uuid:VDI disk-size:size"))
    client.call("VDI.resize_online" if args.flag("online") else "VDI.resize", vdi, wanted)
    return ""


def _export(client: Client, args: Arguments) -> str:
    from xapi.xe_transfer import export_disk

    return export_disk(client, args)


def _import(client: Client, args: Arguments) -> str:
    from xapi.xe_transfer import import_disk

    return import_disk(client, args)


_UUID = "uuid:VDI"
_VDI = (
    Command(
        "vdi-export",
        _export,
        "uuid:VDI filename [format|raw] [base:VDI] [progress:bool]",
        "write the content of a disk to a new file; format=vhd, with base=<uuid> only what differs",
    ),
    Command(
        "vdi-import",
        _import,
        "uuid:VDI filename [format|raw] [progress:bool]",
        "give a disk the content of a file; format=raw or vhd",
    ),
    constructor(
        "vdi-create",
        "VDI",
        {
            "SR": "sr-uuid:SR",
            "name_label": "name-label",
            "virtual_size": "virtual-size:size",
            "name_description": "[name-description]",
            "type": "[type|user]",
            "sharable": "[sharable:bool]",
            "read_only": "[read-only:bool]",
            "tags": "[tags:set]",
            "sm_config": "[sm-config:]",
            "other_config": "[other-config:]",
        },
        "make an empty VDI; prints its uuid",
    ),
    message(
        "vdi-snapshot",
        "VDI.snapshot",
        "uuid:VDI [driver-params-]",
        "take a snapshot; prints its uuid",
        result="VDI",
    ),
    message(
        "vdi-revert",
        "VDI.revert",
        "uuid:VDI [driver-params-]",
        "give a disk the content of its snapshot with this uuid; prints the disk's uuid",
        result="VDI",
    ),
    Command(
        "vdi-clone",
        _clone,
        "uuid:VDI [new-name-label] [new-name-description] [driver-params-]",
        "make a writable VDI of the same content; prints its uuid",
        methods=("VDI.clone",),
    ),
    message(
        "vdi-copy",
        "VDI.copy",
        "uuid:VDI [sr-uuid:SR] [base-vdi-uuid:VDI] [into-vdi-uuid:VDI]",
        "copy a VDI in full; prints the copy's uuid",
        result="VDI",
    ),
    Command(
        "vdi-resize",
        _resize,
        "uuid:VDI disk-size:size [online:bool]",
        "make a VDI larger",
        methods=("VDI.resize", "VDI.resize_online"),
    ),
    message(
        "vdi-introduce",
        "VDI.introduce",
        "uuid [name-label] [name-description] sr-uuid:SR type [sharable:bool] [read-only:bool] "
        "[other-config:] location [xenstore-data:] [sm-config:] [managed:bool|true]",
        "have the driver make the record of a VDI; prints its uuid",
        result="VDI",
    ),
    message(
        "vdi-list-changed-blocks",
        "VDI.list_changed_blocks",
        "vdi-from-uuid:VDI vdi-to-uuid:VDI",
        "show which blocks of 64 KiB differ, as a bitmap in base64",
        result="text",
    ),
    message("vdi-enable-cbt", "VDI.enable_cbt", _UUID, "track which blocks of a VDI change"),
    message("vdi-disable-cbt", "VDI.disable_cbt", _UUID, "stop tracking changed blocks"),
    message(
        "vdi-data-destroy",
        "VDI.data_destroy",
        _UUID,
        "destroy the content of a snapshot, keep the record of changed blocks",
    ),
    message("vdi-unlock", "VDI.force_unlock", _UUID, "break the lock of a VDI"),
    _simple("VDI", "update", "let the driver save the VDI's record"),
    _simple("VDI", "forget", "remove the VDI's record, keep its content"),
    _simple("VDI", "destroy", "destroy a VDI"),
)


# -- VBD


_VBD_FIELDS = {
    "VM": "vm-uuid:VM",
    "userdevice": "device",
    "VDI": "[vdi-uuid:VDI]",
    "bootable": "[bootable:bool]",
    "mode": "[mode|RW]",
    "type": "[type|Disk]",
    "unpluggable": "[unpluggable:bool|true]",
    "other_config": "[other-config:]",
}


def _vbd_create(client: Client, args: Arguments) -> str:
    record = fields(client, args, _VBD_FIELDS)
    record |= {"empty": record["VDI"] == NULL, "qos_algorithm_type": "", "qos_algorithm_params": {}}
    return printed(client, "VBD", client.call("VBD.create", record))


def _unplug(client: Client, args: Arguments) -> str:
    method = "VBD.unplug_force" if args.flag("force") else "VBD.unplug"
    client.call(method, client.ref("VBD", args.required("uuid")))
    return ""


_VBD = (
    Command(
        "vbd-create",
        _vbd_create,
        " ".join(_VBD_FIELDS.values()),
        "connect a VDI with a VM; device=autodetect picks a number; prints the VBD's uuid",
        methods=("VBD.create",),
    ),
    _simple("VBD", "plug", "attach the VDI to the running VM"),
    Command(
        "vbd-unplug",
        _unplug,
        "uuid:VBD [force:bool]",
        "detach it",
        methods=("VBD.unplug", "VBD.unplug_force"),
    ),
    message("vbd-insert", "VBD.insert", "uuid:VBD vdi-uuid:VDI", "put a CD into a drive"),
    message("vbd-eject", "VBD.eject", "uuid:VBD", "take the CD out of a drive"),
    _simple("VBD", "destroy", "remove a VBD that is unplugged"),
)

COMMANDS = (*_SR, *_PBD, *_VDI, *_VBD)
