"""The abstract VDI, and what a driver knows about a disk.

Exception
├── Unimplemented (38, srs.errors)    the driver has no such operation
└── VDISize (79, srs.errors)          a size that no disk can have
"""

import os
import re
from dataclasses import dataclass
from typing import Final

from srs.errors import Unimplemented, VDISize

#: A VHD is made of blocks of 2 MiB; above 2040 GiB its sector numbers would not fit (bytes).
MIN_SIZE: Final = 2 << 20
MAX_SIZE: Final = 2040 << 30
#: Readers of the format follow this many images.
MAX_CHAIN: Final = 30
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: What vdi_create, vdi_snapshot, vdi_clone and vdi_resize answer.
Location = dict[str, str]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as it is on the medium.

    Attributes:
        uuid: also its location.
        size: of the virtual disk, bytes.
        utilisation: of the file or volume, bytes.
        raw: an image without a format; otherwise a VHD.
        hidden: a base copy, which only other disks read.
        parent: uuid of the base copy that it stands on, empty for none.
        vdi_type: `vhd` or `aio` where the driver records it in sm_config, else empty.
    """

    uuid: str
    size: int
    utilisation: int
    raw: bool = False
    hidden: bool = False
    parent: str = ""
    vdi_type: str = ""

    @property
    def sm_config(self) -> dict[str, str]:
        """The part of VDI.sm_config that describes the medium."""
        pairs = {
            "vhd-parent": self.parent,
            "vdi_type": self.vdi_type,
            "type": "raw" if self.raw else "",
        }
        return {key: value for key, value in pairs.items() if value}

    @property
    def location(self) -> Location:
        """The struct that commands answer."""
        return {"uuid": self.uuid, "location": self.uuid}


@dataclass(frozen=True, slots=True)
class NewDisk:
    """What vdi_create is asked for; size in bytes, snapshot_time as XML-RPC writes times."""

    size: int
    label: str = ""
    description: str = ""
    metadata_of_pool: str = ""
    is_a_snapshot: bool = False
    snapshot_time: str = ""
    snapshot_of: str = ""
    read_only: bool = False
    type: str = "user"
    raw: bool = False


class VDI:
    """A disk during one call; every operation is unimplemented until a driver has it."""

    def create(self, new: NewDisk) -> Location:
        """vdi_create."""
        raise Unimplemented("vdi_create")

    def delete(self) -> None:
        """vdi_delete."""
        raise Unimplemented("vdi_delete")

    def attach(self, writable: bool) -> dict[str, object]:
        """vdi_attach: where the disk's data will be found; touches nothing."""
        raise Unimplemented("vdi_attach")

    def detach(self) -> None:
        """vdi_detach."""
        raise Unimplemented("vdi_detach")

    def activate(self, writable: bool) -> None:
        """vdi_activate: bring the data path up."""
        raise Unimplemented("vdi_activate")

    def deactivate(self) -> None:
        """vdi_deactivate: take the data path down."""
        raise Unimplemented("vdi_deactivate")

    def snapshot(self, driver_params: dict[str, str]) -> Location:
        """vdi_snapshot."""
        raise Unimplemented("vdi_snapshot")

    def clone(self, driver_params: dict[str, str]) -> Location:
        """vdi_clone."""
        raise Unimplemented("vdi_clone")

    def resize(self, size: int) -> Location:
        """vdi_resize, bytes."""
        raise Unimplemented("vdi_resize")

    def enable_cbt(self, on: bool) -> None:
        """vdi_enable_cbt, vdi_disable_cbt: begin or end to track which blocks change."""
        raise Unimplemented("vdi_enable_cbt" if on else "vdi_disable_cbt")

    def data_destroy(self) -> None:
        """vdi_data_destroy: drop a snapshot's data and keep what is known of its changes."""
        raise Unimplemented("vdi_data_destroy")

    def list_changed_blocks(self, newer: str) -> str:
        """vdi_list_changed_blocks, up to the disk of reference `newer`: a bitmap in base64."""
        raise Unimplemented("vdi_list_changed_blocks")

    def update(self) -> None:
        """vdi_update: names changed in the database."""
        raise Unimplemented("vdi_update")

    def generate_config(self) -> str:
        """vdi_generate_config: a document that attaches the disk without any toolstack."""
        raise Unimplemented("vdi_generate_config")

    def attach_from_config(self) -> dict[str, object]:
        """vdi_attach_from_config: attach and activate for writing; there is no session."""
        raise Unimplemented("vdi_attach_from_config")

    def detach_from_config(self) -> None:
        """vdi_detach_from_config: the opposite."""
        raise Unimplemented("vdi_detach_from_config")

    def revert(self, target: str) -> None:
        """vdi_revert: make the disk `target` (uuid or reference) read as this snapshot does.

        Identity and names of the target stay. Drivers without it answer 38, and the
        toolstack falls back to cloning the snapshot; so 38 promises that nothing changed.
        """
        raise Unimplemented("vdi_revert")


def valid_size(size: int) -> int:
    """A virtual size in whole blocks of 2 MiB.

    Raises:
        VDISize: out of range.
    """
    if not 0 < size <= MAX_SIZE:
        raise VDISize(f"{size} bytes; a VDI has {MIN_SIZE} to {MAX_SIZE}")
    return -(-size // MIN_SIZE) * MIN_SIZE


def new_uuid() -> str:
    """A random uuid, for a disk that the caller did not name."""
    import uuid

    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def uuid_in(path: str | None) -> str:
    """The last uuid in a path; device-mapper names have their dashes doubled. Empty if none."""
    found = _UUID.findall((path or "").replace("--", "-"))
    return str(found[-1]) if found else ""
