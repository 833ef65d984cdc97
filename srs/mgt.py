"""The metadata volume `MGT` of an LVM SR: what the SR and its disks are called.

    Exception
    └── MetadataError (181, srs.errors)      no metadata, damaged, or full

An SR that is plugged into another pool has no database there; its disks' names and which of
them are snapshots come from here (reference: the layout of XenServer's storage manager). The
volume is text in sectors of 512 bytes, padded with spaces:

    sector 0   XSSM:<length of all that follows the volume's start, 10 digits wide>:1:2
    sector 1   <?xml version="1.0" ?><uuid>..</uuid><allocation>thin|thick</allocation>
    sector 2   <name_label>..</name_label>
    sector 3   <name_description>..</name_description>
    sector 4+  one record of two sectors for each disk: names, then the rest

A removed record keeps its place, marked deleted, until another disk needs one; only at the end
the length shrinks. A record is written before the length that makes it count.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Final

from srs.errors import MetadataError

SECTOR: Final = 512
RECORD: Final = 2 * SECTOR
_HEADER: Final = 4 * SECTOR
_MAGIC: Final = re.compile(rb"XSSM:(\d+) *:(\d+):(\d+)")
_VERSION: Final = "1:2"
_ELEMENT: Final = re.compile(r"<(\w+)>([^<]*)</\1>")
#: Bytes that label and description may take together, escaped.
_NAMES_MAX: Final = 445
#: Size of the volume in bytes.
VOLUME_SIZE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """What the volume says about one disk.

    Attributes:
        snapshot_of: uuid of the disk, empty if it is no snapshot.
        snapshot_time: XML-RPC's form of a time, such as 20240131T12:00:00Z.
        vdi_type: `vhd` or `aio` (raw).
    """

    uuid: str
    name_label: str = ""
    name_description: str = ""
    is_a_snapshot: bool = False
    snapshot_of: str = ""
    snapshot_time: str = ""
    type: str = "user"
    vdi_type: str = "vhd"
    read_only: bool = False
    managed: bool = True
    metadata_of_pool: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class SRRecord:
    """What the volume says about the SR."""

    uuid: str
    allocation: str = "thick"
    name_label: str = ""
    name_description: str = ""


def escape(text: str) -> str:
    """Text as it may stand between tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """The opposite of escape."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _sector(text: str) -> bytes:
    data = text.encode()
    if len(data) > SECTOR:
        raise MetadataError(f"{len(data)} bytes of metadata in one sector: {text[:40]}...")
    return data.ljust(SECTOR)


def _shorten(label: str, description: str) -> tuple[str, str]:
    """Both names, escaped, cut so that together they fit; the description is cut first."""

    def cut(text: str, room: int) -> str:
        while len(escape(text).encode()) > room:
            text = text[:-1]
        return escape(text)

    short = cut(label, _NAMES_MAX)
    return short, cut(description, _NAMES_MAX - len(short.encode()))


def _elements(data: bytes) -> dict[str, str]:
    text = data.replace(b"\0", b"").decode(errors="replace")
    return {name: unescape(value) for name, value in _ELEMENT.findall(text)}


def encode_length(length: int) -> bytes:
    """Sector 0. `length` counts from the volume's start, in bytes."""
    return _sector(f"XSSM:{length:<10}:{_VERSION}")


def decode_length(sector: bytes) -> int:
    """The length in sector 0.

    Raises:
        MetadataError: no metadata in this volume.
    """
    match = _MAGIC.match(sector)
    length = int(match[1]) if match else 0
    if length < _HEADER or (length - _HEADER) % RECORD:
        raise MetadataError(f"sector 0 holds {sector[:24]!r}")
    return length


def encode_sr(record: SRRecord) -> bytes:
    """Sectors 1 to 3."""
    label, description = _shorten(record.name_label, record.name_description)
    return (
        _sector(
            f'<?xml version="1.0" ?><uuid>{escape(record.uuid)}</uuid>'
            f"<allocation>{escape(record.allocation)}</allocation>"
        )
        + _sector(f"<name_label>{label}</name_label>")
        + _sector(f"<name_description>{description}</name_description>")
    )


def decode_sr(data: bytes) -> SRRecord:
    """What sectors 1 to 3 say."""
    found = _elements(data)
    return SRRecord(
        uuid=found.get("uuid", ""),
        allocation=found.get("allocation", "thick"),
        name_label=found.get("name_label", ""),
        name_description=found.get("name_description", ""),
    )


def encode_disk(record: DiskRecord) -> bytes:
    """The two sectors of a disk's record.

    Raises:
        MetadataError: a field is too long.
    """
    label, description = _shorten(record.name_label, record.name_description)
    rest = {
        "uuid": record.uuid,
        "is_a_snapshot": f"{record.is_a_snapshot:d}",
        "snapshot_of": record.snapshot_of,
        "snapshot_time": record.snapshot_time,
        "type": record.type,
        "vdi_type": record.vdi_type,
        "read_only": f"{record.read_only:d}",
        "managed": f"{record.managed:d}",
        "metadata_of_pool": record.metadata_of_pool,
        "deleted": f"{record.deleted:d}",
    }
    body = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in rest.items())
    return _sector(
        f"<vdi><name_label>{label}</name_label><name_description>{description}</name_description>"
    ) + _sector(f"{body}</vdi>")


def decode_disk(data: bytes) -> DiskRecord:
    """The opposite of encode_disk.

    Raises:
        MetadataError: no record in these sectors.
    """
    found = _elements(data)
    if "uuid" not in found:
        raise MetadataError(f"no disk in {data[:24]!r}")

    def flag(name: str, default: str = "0") -> bool:
        return found.get(name, default) == "1"

    return DiskRecord(
        uuid=found["uuid"],
        name_label=found.get("name_label", ""),
        name_description=found.get("name_description", ""),
        is_a_snapshot=flag("is_a_snapshot"),
        snapshot_of=found.get("snapshot_of", ""),
        snapshot_time=found.get("snapshot_time", ""),
        type=found.get("type", "user"),
        vdi_type=found.get("vdi_type", "vhd"),
        read_only=flag("read_only"),
        managed=flag("managed", "1"),
        metadata_of_pool=found.get("metadata_of_pool", ""),
        deleted=flag("deleted"),
    )


class MetadataVolume:
    """The metadata on a device; whoever uses it holds the SR's lock.

    Args:
        path: the active volume.
        capacity: its size in bytes.
    """

    def __init__(self, path: str, capacity: int = VOLUME_SIZE) -> None:
        self._path = path
        self._capacity = capacity
        self._slots: list[DiskRecord] | None = None

    def format(self, record: SRRecord) -> None:
        """Write empty metadata for an SR. The length, which makes it valid, comes last."""
        self._write(encode_sr(record), SECTOR)
        self._write(encode_length(_HEADER), 0)
        self._slots = []

    def sr(self) -> SRRecord:
        """What the volume says about the SR.

        Raises:
            MetadataError: no metadata here.
        """
        data = self._read(0, _HEADER)
        decode_length(data[:SECTOR])
        return decode_sr(data[SECTOR:])

    def disks(self) -> dict[str, DiskRecord]:
        """Uuid -> record, of all disks that are not deleted.

        Raises:
            MetadataError: no metadata here, or damaged.
        """
        return {record.uuid: record for record in self._load() if not record.deleted}

    def put(self, record: DiskRecord) -> None:
        """Add a disk, or replace its record.

        Raises:
            MetadataError: the volume is full.
        """
        slots = self._load()
        place = self._place(record.uuid)
        if place is None:
            place = next((n for n, old in enumerate(slots) if old.deleted), len(slots))
        if _HEADER + (place + 1) * RECORD > self._capacity:
            raise MetadataError("the metadata volume is full")
        self._write(encode_disk(record), _HEADER + place * RECORD)
        if place < len(slots):
            slots[place] = record
        else:
            slots.append(record)
            self._write(encode_length(_HEADER + len(slots) * RECORD), 0)

    def delete(self, uuid: str) -> None:
        """Drop a disk's record, if there is one."""
        slots = self._load()
        place = self._place(uuid)
        if place is None:
            return
        slots[place] = replace(slots[place], deleted=True)
        self._write(encode_disk(slots[place]), _HEADER + place * RECORD)
        if place == len(slots) - 1:
            slots.pop()
            self._write(encode_length(_HEADER + len(slots) * RECORD), 0)

    def _place(self, uuid: str) -> int | None:
        slots = enumerate(self._load())
        return next((n for n, old in slots if old.uuid == uuid and not old.deleted), None)

    def _load(self) -> list[DiskRecord]:
        if self._slots is None:
            length = decode_length(self._read(0, SECTOR))
            data = self._read(_HEADER, length - _HEADER)
            steps = range(0, len(data), RECORD)
            self._slots = [decode_disk(data[at : at + RECORD]) for at in steps]
        return self._slots

    def _read(self, offset: int, length: int) -> bytes:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, offset)
        except OSError as error:
            raise MetadataError(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(fd)

    def _write(self, data: bytes, offset: int) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
        try:
            os.pwrite(fd, data, offset)
        except OSError as error:
            raise MetadataError(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(fd)
