"""How an LVM SR names and sizes its volumes (reference: XenServer's conventions).

    VG_XenStorage-<SR uuid>          the volume group
    VHD-<uuid>                       a VHD image
    LV-<uuid>                        a raw disk; a hidden one carries the tag `hidden`
    VHD-OLD_<uuid>                   an image that another has taken the place of
    revert_<uuid>_1                  the image that is about to take it
    <uuid>.cbtlog                    which blocks of a disk changed, see srs.tracking
    MGT                              names of the disks, see srs.mgt
    <kind>_<id>_<value>              journal entries, see srs.journal

Volumes are multiples of 4 MiB. Every VHD has tables for 2 TiB from the start, so that growing
the virtual disk moves nothing. Sizes are bytes.
"""

import re
from typing import Final

from srs.volumes import EXTENT

GROUP_PREFIX: Final = "VG_XenStorage-"
VHD_PREFIX: Final = "VHD-"
RAW_PREFIX: Final = "LV-"
METADATA: Final = "MGT"
HIDDEN_TAG: Final = "hidden"
#: A volume whose content has not been written yet: rubbish after a crash.
UNFINISHED_TAG: Final = "unfinished"
LOG_TAG: Final = "cbtlog"
#: With its uuid: the snapshot that an image was made after by a revert.
SOURCE_TAG: Final = "revert."
#: Virtual size that every VHD has tables for.
TABLE_SIZE: Final = 2 << 40

_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DISK: Final = re.compile(f"(VHD|LV)-({_UUID})")
_OLD: Final = re.compile(f"VHD-OLD_({_UUID})")
_INCOMING: Final = re.compile(f"revert_({_UUID})_1")

_LOG: Final = re.compile(f"({_UUID})[.]cbtlog")

_BLOCK: Final = 2 << 20


def vhd_name(uuid: str) -> str:
    """Volume of a VHD."""
    return VHD_PREFIX + uuid


def raw_name(uuid: str) -> str:
    """Volume of a raw disk."""
    return RAW_PREFIX + uuid


def old_name(uuid: str) -> str:
    """Volume of an image that was replaced."""
    return f"{VHD_PREFIX}OLD_{uuid}"


def incoming_name(uuid: str) -> str:
    """Volume of an image that is about to replace another: it is its own journal entry."""
    return f"revert_{uuid}_1"


def log_name(uuid: str) -> str:
    """Volume of a disk's log of changed blocks."""
    return f"{uuid}.cbtlog"


def log_disk_of(volume: str) -> str:
    """The uuid of the disk whose log a volume is; empty for all other volumes."""
    match = _LOG.fullmatch(volume)
    return match[1] if match else ""


def disk_of(volume: str) -> str:
    """The uuid of the disk in a volume; empty for all other volumes."""
    match = _DISK.fullmatch(volume)
    return match[2] if match else ""


def replaced_disk_of(volume: str) -> str:
    """The uuid of the disk whose old image a volume is; empty for all other volumes."""
    match = _OLD.fullmatch(volume)
    return match[1] if match else ""


def incoming_disk_of(volume: str) -> str:
    """The uuid of the disk whose next image a volume is; empty for all other volumes."""
    match = _INCOMING.fullmatch(volume)
    return match[1] if match else ""


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def metadata_size(virtual: int) -> int:
    """What footer, header, table and batmap of a disk take at the start of its image."""
    blocks = virtual // _BLOCK
    tables = _round_up(3072 + 4 * blocks, 512) + blocks // 8
    return _round_up(tables, 4096)


def full_size(virtual: int) -> int:
    """The volume for a disk whose every block may be written."""
    bitmaps = 4096 * -(-virtual // _BLOCK)
    return _round_up(virtual + metadata_size(TABLE_SIZE) + bitmaps, EXTENT)


def empty_size() -> int:
    """The volume for a disk that holds no block yet."""
    return _round_up(metadata_size(TABLE_SIZE), EXTENT)
