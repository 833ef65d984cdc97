"""The disks that a template asks for, as XenServer's templates do: in other_config:disks.

    <provision><disk device="0" size="8589934592" sr="" bootable="true" type="system"/></provision>

`sr` is a uuid; where it is empty, the pool's default SR is meant. `size` is in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import ParseError

import defusedxml
from defusedxml.ElementTree import fromstring

from xapi import vbd, vdi
from xapi.errors import XenAPIError
from xapi.message import Call


def make_disks(call: Call, vm: str) -> None:
    """Create and connect the disks; if one cannot be made, none is.

    Raises:
        XenAPIError: INVALID_VALUE ["disks", why], or what VDI.create says.
    """
    made: list[str] = []
    try:
        for wish in _wishes(call, vm):
            made.append(vdi.create(call, _vdi_record(call, vm, wish)))
            vbd.create(call, _vbd_record(vm, made[-1], wish))
    except XenAPIError:
        for disk in made:
            vdi.destroy_quietly(call, disk)
        raise


def _wishes(call: Call, vm: str) -> list[Mapping[str, str]]:
    other_config: Mapping[str, str] = call.xapi.db.get("VM", vm, "other_config")
    if "disks" not in other_config:
        return []
    try:
        wishes: list[Mapping[str, str]] = [
            dict(disk.attrib) for disk in fromstring(other_config["disks"]).iter("disk")
        ]
        for wish in wishes:
            int(wish["device"])
            int(wish["size"])
    except (ParseError, defusedxml.DefusedXmlException, KeyError, ValueError) as error:
        text = f"{type(error).__name__}: {error}"
        raise XenAPIError("INVALID_VALUE", ("disks", text)) from error
    return wishes


def _vdi_record(call: Call, vm: str, wish: Mapping[str, str]) -> dict[str, object]:
    db = call.xapi.db
    uuid = wish.get("sr", "")
    sr = db.by_uuid("SR", uuid) if uuid else db.get("pool", call.xapi.pool, "default_SR")
    return {
        "SR": sr,
        "name_label": f"{db.get('VM', vm, 'name_label')} {wish['device']}",
        "name_description": "Created by template provisioner",
        "virtual_size": wish["size"],
        "type": wish.get("type", "user"),
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }


def _vbd_record(vm: str, disk: str, wish: Mapping[str, str]) -> dict[str, object]:
    return {
        "VM": vm,
        "VDI": disk,
        "userdevice": wish["device"],
        "bootable": wish.get("bootable", "false") == "true",
        "mode": "RW",
        "type": "Disk",
        "empty": False,
        "other_config": {"owner": "true"},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
