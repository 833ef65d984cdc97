"""LVM's metadata, read from a physical volume without LVM.

A label in one of the first four sectors leads to the metadata area, a ring whose header says
where the text in force lies (reference: `lib/format_text/layout.h` of LVM2). The text is a
tree of sections and assignments; numbers, strings and lists.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

SECTOR: Final = 512
_TOKEN: Final = re.compile(r'#[^\n]*|"(?:[^"\\]|\\.)*"|[\[\]{}=,]|[^\s\[\]{}=,"#]+')
_ESCAPE: Final = re.compile(r"\\(.)")

#: offset, length -> bytes of the physical volume.
Reader = Callable[[int, int], bytes]


class BadMetadata(ValueError):
    """A physical volume has no metadata that can be read."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume of linear segments; offsets and sizes are bytes.

    Attributes:
        readonly: LVM's permission lacks writing.
        segments: (offset on the physical volume, length), in order.
    """

    name: str
    readonly: bool
    tags: frozenset[str]
    segments: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """All segments together."""
        return sum(length for _, length in self.segments)

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where a range of the volume lies on the physical volume."""
        for start, size in self.segments:
            if offset < size and length > 0:
                piece = min(length, size - offset)
                yield start + offset, piece
                offset, length = offset + piece, length - piece
            offset = max(0, offset - size)


@dataclass(frozen=True, slots=True)
class Group:
    """A volume group on one physical volume; sizes are bytes."""

    name: str
    extent: int
    size: int
    volumes: dict[str, Volume]

    @property
    def used(self) -> int:
        """Bytes in the extents of all volumes."""
        return sum(volume.size for volume in self.volumes.values())


def read_group(read: Reader) -> Group:
    """The volume group on a physical volume.

    Raises:
        BadMetadata: there is none, or not one on a single physical volume.
    """
    return parse_group(_text_in_force(read))


def _text_in_force(read: Reader) -> str:
    start = read(0, 16 * SECTOR)
    labels = [at for at in range(0, 4 * SECTOR, SECTOR) if start[at:].startswith(b"LABELONE")]
    if not labels:
        raise BadMetadata("no label in the first four sectors")
    at = labels[0] + struct.unpack_from("<I", start, labels[0] + 20)[0] + 40
    areas: list[tuple[int, int]] = []
    for _ in range(2):  # data areas, then metadata areas; a zero offset ends each list
        areas = []
        while (pair := struct.unpack_from("<QQ", start, at))[0]:
            areas.append(pair)
            at += 16
        at += 16
    if not areas:
        raise BadMetadata("the label lists no metadata area")
    base, size = areas[0]
    header = start[base : base + SECTOR] if base + SECTOR <= len(start) else read(base, SECTOR)
    if header[4:20] != b" LVM2 x[5A%r0N*>":
        raise BadMetadata(f"no metadata area at {base}")
    where, length = struct.unpack_from("<QQ", header, 40)
    first = min(length, size - where)
    text = read(base + where, first)
    if first < length:
        text += read(base + SECTOR, length - first)  # the ring goes on behind its header
    return text.rstrip(b"\0").decode()


def parse_group(text: str) -> Group:
    """The group that a text describes.

    Raises:
        BadMetadata: no such text, or several physical volumes, or volumes that are not linear.
    """
    try:
        name, tree = next((k, v) for k, v in _parse(text).items() if isinstance(v, dict))
        ((pv, device),) = tree["physical_volumes"].items()
        extent = tree["extent_size"] * SECTOR
        origin = device["pe_start"] * SECTOR
        volumes = {
            lv: Volume(lv, "WRITE" not in about["status"], frozenset(about.get("tags", ())),
                       tuple(_segments(about, pv, origin, extent)))
            for lv, about in tree.get("logical_volumes", {}).items()
        }  # fmt: skip
    except (StopIteration, KeyError, ValueError, TypeError) as error:
        raise BadMetadata(f"not a volume group that can be read here: {error!r}") from error
    return Group(name, extent, device["pe_count"] * extent, volumes)


def _segments(
    volume: dict[str, Any], pv: str, origin: int, extent: int
) -> Iterator[tuple[int, int]]:
    for number in range(1, volume["segment_count"] + 1):
        segment = volume[f"segment{number}"]
        device, start = segment["stripes"]
        if segment["type"] != "striped" or segment["stripe_count"] != 1 or device != pv:
            raise ValueError(f"a segment of type {segment['type']}")
        yield origin + start * extent, segment["extent_count"] * extent


def _parse(text: str) -> dict[str, Any]:
    tokens = (token for token in _TOKEN.findall(text) if not token.startswith("#"))
    return _section(tokens)


def _section(tokens: Iterator[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in tokens:
        if name == "}":
            break
        if next(tokens, "") == "{":
            found[name] = _section(tokens)
        else:
            token = next(tokens, "")
            found[name] = _list(tokens) if token == "[" else _value(token)
    return found


def _list(tokens: Iterator[str]) -> list[Any]:
    items = []
    for token in tokens:
        if token == "]":
            break
        if token != ",":
            items.append(_value(token))
    return items


def _value(token: str) -> Any:
    if token.startswith('"'):
        return _ESCAPE.sub(r"\1", token[1:-1])
    return int(token) if token.lstrip("-").isdigit() else token
