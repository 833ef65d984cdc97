"""What lies on an SR's medium, read without the drivers, their VHD engine or LVM.

On a file SR the guest lists the directory and hands over the ends of each file; on an LVM SR it
hands over pieces of the physical volume, and the rest is worked out here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, Protocol

from scenarios.images import HEAD, SECTOR, BadImage, Head, Reader
from scenarios.lvmtext import Group, Volume, read_group

_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What a driver has found out about a shared file system, for all hosts.
_ABOUT_HARD_LINKS: Final = "sm-hardlink.conf"
_FILE: Final = re.compile(f"({_UUID})[.](vhd|raw|cbtlog)")
_VOLUME: Final = re.compile(f"(VHD-|LV-)?({_UUID})([.]cbtlog)?")
_ELEMENT: Final = re.compile(r"<(\w+)>([^<]*)</\1>")
#: Bytes of the metadata volume that are read: room for its head and 250 disks.
_METADATA: Final = 258 << 10
_RECORD: Final = 1024


class Source(Protocol):
    """Whoever has the bytes of an SR's device, or of its files: a host, by their paths there."""

    def read(self, path: str, offset: int, length: int, /) -> bytes:
        """Some of them; fewer at the end."""

    def read_pieces(self, places: Sequence[tuple[str, int, int]], /) -> list[tuple[int, bytes]]:
        """`Member.read_pieces`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An image on the medium.

    Attributes:
        uuid: of the disk.
        name: of the file or volume.
        size: bytes that it takes.
        head: what it says of itself; None for a raw disk, and for one that cannot be read.
        fault: why it cannot be read.
        raw: it has no format.
        readonly: LVM forbids writing; None where there is no such thing.
        marked: a raw disk's mark of being hidden.
    """

    uuid: str
    name: str
    size: int
    head: Head | None = None
    fault: str = ""
    raw: bool = False
    readonly: bool | None = None
    marked: bool = False

    @property
    def hidden(self) -> bool:
        """Whether it is a base copy."""
        return self.head.hidden if self.head is not None else self.marked

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk."""
        return self.head.size if self.head is not None else self.size


@dataclass(frozen=True, slots=True)
class Room:
    """Of a file system, in bytes."""

    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Medium:
    """Everything on the medium of one SR.

    Attributes:
        source: who has its bytes.
        where: path of the device, or of the directory.
        images: by uuid.
        logs: uuids that have a log of changed blocks.
        strays: names of whatever else is there: journals, unfinished images, rubbish.
        about: uuid -> what the metadata volume says; None where there is none.
        group: an LVM SR's volume group.
        room: that of a file SR's file system.
    """

    source: Source
    where: str
    images: dict[str, Stored]
    logs: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()
    about: dict[str, dict[str, str]] | None = None
    group: Group | None = None
    room: Room | None = None

    def parent_of(self, image: Stored) -> Stored | None:
        """What an image stands on, by the identity that it has recorded; None for nothing.

        Nothing is what a raw one has recorded of it but the name.
        """
        if image.head is None or not image.head.differencing:
            return None
        wanted, name = image.head.parent_id, image.head.parent_name.replace("--", "-")
        if any(wanted):
            return next((i for i in self.images.values() if i.head and i.head.id == wanted), None)
        return next((i for i in self.images.values() if i.raw and i.uuid in name), None)

    def chain(self, uuid: str) -> list[Stored]:
        """A disk and its ancestors, as far as they are there."""
        found = [self.images[uuid]]
        while (parent := self.parent_of(found[-1])) is not None and parent not in found:
            found.append(parent)
        return found

    def whole(self, uuid: str) -> bool:
        """Whether a disk and all its ancestors are there and can be read."""
        root = self.chain(uuid)[-1]
        return root.raw or (root.head is not None and not root.head.differencing)

    def reader(self, image: Stored) -> Reader:
        """How to read the bytes of an image."""
        if self.group is None:
            path = f"{self.where}/{image.name}"
            return lambda offset, length: self.source.read(path, offset, length)
        volume = self.group.volumes[image.name]

        def read(offset: int, length: int) -> bytes:
            places = volume.places(offset, length)
            return b"".join(self.source.read(self.where, at, size) for at, size in places)

        return read


def _stored(uuid: str, name: str, size: int, start: bytes, end: bytes) -> Stored:
    try:
        return Stored(uuid, name, size, Head.parse(start, end))
    except BadImage as error:
        return Stored(uuid, name, size, fault=str(error))


def read_directory(
    source: Source, directory: str, files: list[str], room: Room | None = None
) -> Medium:
    """The medium of a file SR. `files` are the paths below it, `room` is its file system's."""
    places, raw = [], []
    logs, strays = set(), []
    for path in files:
        name = str(PurePosixPath(path).relative_to(directory))
        if name == _ABOUT_HARD_LINKS:
            continue
        match = _FILE.fullmatch(name)
        if match is None:
            strays.append(name)
        elif match[2] == "cbtlog":
            logs.add(match[1])
        elif match[2] == "raw":
            raw.append((match[1], name))
        else:
            places.append((match[1], name))
    asked = [(f"{directory}/{name}", 0, HEAD) for _, name in places]
    asked += [(f"{directory}/{name}", -SECTOR, SECTOR) for _, name in places]
    asked += [(f"{directory}/{name}", 0, 0) for _, name in raw]
    found = source.read_pieces(asked)
    images = {}
    for (uuid, name), (size, start), (_, end) in zip(
        places, found, found[len(places) :], strict=False
    ):
        images[uuid] = _stored(uuid, name, size, start, end)
    for (uuid, name), (size, _) in zip(raw, found[2 * len(places) :], strict=True):
        images[uuid] = Stored(uuid, name, size, raw=True)
    return Medium(source, directory, images, frozenset(logs), tuple(strays), room=room)


@dataclass(slots=True)
class _Sorted:
    """Volumes by what their names say."""

    vhds: dict[str, Volume] = field(default_factory=dict)
    raws: dict[str, Volume] = field(default_factory=dict)
    logs: set[str] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)


def read_volumes(source: Source, device: str) -> Medium:
    """The medium of an LVM SR, on one physical volume."""

    def read(offset: int, length: int) -> bytes:
        return source.read(device, offset, length)

    group = read_group(read)
    found = _sort(group)
    asked: list[tuple[str, int, int]] = []
    for volume in found.vhds.values():
        asked += [(device, at, size) for at, size in volume.places(0, HEAD)]
        asked += [(device, at, size) for at, size in volume.places(volume.size - SECTOR, SECTOR)]
    metadata = group.volumes.get("MGT")
    if metadata is not None:
        asked += [(device, at, size) for at, size in metadata.places(0, _METADATA)]
    pieces = [data for _, data in source.read_pieces(asked)]
    images = {}
    for number, (uuid, volume) in enumerate(found.vhds.items()):
        start, end = pieces[2 * number : 2 * number + 2]
        image = _stored(uuid, volume.name, volume.size, start, end)
        images[uuid] = _with_permission(image, volume)
    for uuid, volume in found.raws.items():
        images[uuid] = Stored(
            uuid, volume.name, volume.size, raw=True, marked="hidden" in volume.tags
        )
    about = None if metadata is None else parse_metadata(pieces[2 * len(found.vhds)])
    logs, strays = frozenset(found.logs), tuple(found.strays)
    return Medium(source, device, images, logs, strays, about, group)


def _with_permission(image: Stored, volume: Volume) -> Stored:
    return Stored(
        image.uuid, image.name, image.size, image.head, image.fault, readonly=volume.readonly
    )


def _sort(group: Group) -> _Sorted:
    found = _Sorted()
    for name, volume in group.volumes.items():
        match = _VOLUME.fullmatch(name)
        if name == "MGT":
            continue
        if match is None or bool(match[1]) == bool(match[3]) or "unfinished" in volume.tags:
            found.strays.append(name)
        elif match[3]:
            found.logs.add(match[2])
        elif match[1] == "VHD-":
            found.vhds[match[2]] = volume
        else:
            found.raws[match[2]] = volume
    return found


def parse_metadata(data: bytes) -> dict[str, dict[str, str]]:
    """What the text of a metadata volume says of each disk: uuid -> element -> text."""
    length = int(data[5:15]) if data.startswith(b"XSSM:") else 0
    found = {}
    for at in range(4 * SECTOR, min(length, len(data)), _RECORD):
        text = data[at : at + _RECORD].replace(b"\0", b"").decode(errors="replace")
        elements = dict(_ELEMENT.findall(text))
        if elements.get("deleted") != "1":
            found[elements.get("uuid", f"record at {at}")] = elements
    return found
