"""Every byte of an SR's disks in a few calls: read from the medium, as scenarios/images.py does.

No disk is opened, and only sectors that some image holds travel, those of all images together:
a whole SR takes less time than one disk through its block device. What the data path makes of
them is not seen here.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scenarios.images import SECTOR, Head
from scenarios.medium import Medium, Stored, read_directory, read_volumes
from scenarios.storage import Repository

#: Bytes that one call brings: the wire has room for a few MiB, a guest has little memory.
_BATCH = 1 << 20
_PIECE = 256 << 10
_UNUSED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Place:
    """A range of an image."""

    image: Stored
    offset: int
    length: int


#: What one image holds: offset on the disk -> bytes.
_Layer = dict[int, bytes]


def contents(sr: Repository, uuids: Iterable[str]) -> dict[str, bytes]:
    """What each disk shows.

    Args:
        sr: no disk of it is open for writing.
        uuids: of the disks.

    Raises:
        KeyError: there is no image of that uuid, or it cannot be read.
    """
    stored = _stored(sr)
    chains = {uuid: stored.chain(uuid) for uuid in uuids}
    needed = {image.uuid: image for chain in chains.values() for image in chain}
    layers = _layers(sr, stored, list(needed.values()))
    return {
        uuid: _merged([layers[image.uuid] for image in chain], chain[0].virtual_size)
        for uuid, chain in chains.items()
    }


def _merged(layers: Sequence[_Layer], size: int) -> bytes:
    content = bytearray(size)
    for layer in reversed(layers):
        for offset, data in layer.items():
            content[offset : offset + len(data)] = data
    return bytes(content[:size])


def _stored(sr: Repository) -> Medium:
    if sr.on_volumes:
        return read_volumes(sr.host, sr.device())
    records = sr.api.VDI.get_all_records().values()
    uuids = [record["uuid"] for record in records if record["SR"] == sr.ref]
    return read_directory(sr.host, sr.directory, [f"{sr.directory}/{uuid}.vhd" for uuid in uuids])


def _layers(sr: Repository, stored: Medium, images: Sequence[Stored]) -> dict[str, _Layer]:
    """The sectors of each image, in three rounds: block tables, bitmaps, data."""
    layers = {image.uuid: _Layer() for image in images}
    blocks = [
        (image, number, at * SECTOR)
        for image, table in zip(images, _fetch(sr, stored, map(_table, images)), strict=True)
        for number, (at,) in enumerate(struct.iter_unpack(">I", table))
        if at != _UNUSED
    ]
    bitmaps = _fetch(sr, stored, (_Place(image, at, _bits(image)) for image, _, at in blocks))
    runs = [
        (image, number, at + _bitmap(image), first, count)
        for (image, number, at), bits in zip(blocks, bitmaps, strict=True)
        for first, count in _runs(bits)
    ]
    places = (
        _Place(image, at + first * SECTOR, count * SECTOR) for image, _, at, first, count in runs
    )
    for (image, number, _, first, _), data in zip(runs, _fetch(sr, stored, places), strict=True):
        layers[image.uuid][number * _block(image) + first * SECTOR] = data
    return layers


def _head(image: Stored) -> Head:
    if image.head is None:
        raise KeyError(f"{image.name}: {image.fault or 'no VHD'}")
    return image.head


def _block(image: Stored) -> int:
    return _head(image).block


def _table(image: Stored) -> _Place:
    head = _head(image)
    return _Place(image, head.table, 4 * -(-head.size // head.block))


def _bits(image: Stored) -> int:
    """Bytes of a block's bitmap that count."""
    return _block(image) // SECTOR // 8


def _bitmap(image: Stored) -> int:
    """Bytes that it takes."""
    return -(-_bits(image) // SECTOR) * SECTOR


def _runs(bits: bytes) -> Iterator[tuple[int, int]]:
    """(first, count) of each run of sectors whose bits are set."""
    text = f"{int.from_bytes(bits):0{8 * len(bits)}b}"
    for run in re.finditer("1+", text):
        yield run.start(), run.end() - run.start()


def _fetch(sr: Repository, stored: Medium, places: Iterable[_Place]) -> list[bytes]:
    """The bytes of each place."""
    wanted = list(places)
    pieces = [
        (index, path, at, size)
        for index, place in enumerate(wanted)
        for path, at, size in _pieces(sr, stored, place)
    ]
    found = [bytearray() for _ in wanted]
    for batch in _batches(pieces):
        answers = sr.host.read_pieces([(path, at, size) for _, path, at, size in batch])
        for (index, *_), (_, data) in zip(batch, answers, strict=True):
            found[index] += data
    return [bytes(data) for data in found]


def _pieces(sr: Repository, stored: Medium, place: _Place) -> Iterator[tuple[str, int, int]]:
    """Where a place lies: paths inside, offsets and lengths."""
    if stored.group is None:
        path, ranges = f"{sr.directory}/{place.image.name}", [(place.offset, place.length)]
    else:
        volume = stored.group.volumes[place.image.name]
        path, ranges = sr.device(), list(volume.places(place.offset, place.length))
    for start, length in ranges:
        for at in range(start, start + length, _PIECE):
            yield path, at, min(_PIECE, start + length - at)


def _batches(
    pieces: Sequence[tuple[int, str, int, int]],
) -> Iterator[list[tuple[int, str, int, int]]]:
    batch: list[tuple[int, str, int, int]] = []
    room = _BATCH
    for piece in pieces:
        if piece[3] > room:
            yield batch
            batch, room = [], _BATCH
        batch.append(piece)
        room -= piece[3]
    if batch:
        yield batch
