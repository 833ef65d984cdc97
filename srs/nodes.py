"""The device-mapper nodes of logical volumes, seen and removed without LVM.

LVM reads its metadata before it does anything. These go by the names that it gave: when the
metadata cannot be read, or are another host's to change and have changed since.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from srs import devicemapper

_BLOCK_DEVICES: Final = "/sys/block"
_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Node:
    """A device-mapper node: its name, LVM's identity of the volume behind it, its size in bytes."""

    name: str
    id: str
    size: int


def name_of(group: str, volume: str) -> str:
    """What device-mapper calls a volume: dashes within both names are doubled."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def volumes(group: str) -> dict[str, Node]:
    """Volume name -> node, of those of a group that have one."""
    prefix = name_of(group, "")
    return {
        node.name.removeprefix(prefix).replace("--", "-"): node
        for node in everywhere()
        if node.name.startswith(prefix)
    }


def everywhere() -> list[Node]:
    """All nodes on this host."""
    found = []
    for device in os.listdir(_BLOCK_DEVICES):
        if device.startswith("dm-"):
            with suppress(OSError):  # it went away meanwhile
                name, id_ = (_read(device, f"dm/{what}") for what in ("name", "uuid"))
                found.append(Node(name, id_, int(_read(device, "size")) * _SECTOR))
    return found


def _read(device: str, attribute: str) -> str:
    with open(f"{_BLOCK_DEVICES}/{device}/{attribute}", encoding="ascii") as file:
        return file.read().strip()


def remove(group: str, volume: str) -> None:
    """Remove a volume's node, and the names that LVM made for it.

    Raises:
        OSError: there is none, or EBUSY while it is open.
    """
    name = name_of(group, volume)
    devicemapper.remove(name)
    for path in (f"/dev/mapper/{name}", f"/dev/{group}/{volume}"):
        with suppress(FileNotFoundError):
            os.unlink(path)
