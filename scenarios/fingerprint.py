"""Which chains of images are the same but for names: what one shows, the other shows, too.

Each image has an identity and a uuid of its own and knows when it was made; a child repeats
those of its parent. A fingerprint is of all other bytes that a reader looks at, and of the
places where those names are right.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from scenarios.images import SECTOR, Image
from scenarios.medium import Medium, Stored

#: Places in an image's first bytes that say when it or its parent was made, and checksums.
_PASSING: Final = ((24, 28), (64, 68), (SECTOR + 36, SECTOR + 40), (SECTOR + 56, SECTOR + 60))
#: Likewise in the footer at its end.
_PASSING_AT_END: Final = _PASSING[:2]

Places = tuple[tuple[int, int], ...]
_PIECE: Final = 64 << 10


def fingerprints(stored: Medium) -> dict[str, str]:
    """By uuid, one for each image, of itself and all its ancestors."""
    own = {image.uuid: _digest(stored, image) for image in stored.images.values()}
    return {uuid: " ".join(own[link.uuid] for link in stored.chain(uuid)) for uuid in stored.images}


def _digest(stored: Medium, image: Stored) -> str:
    sha = hashlib.sha256()
    said = image.size, image.fault, image.raw, image.readonly, image.marked
    sha.update(repr(said).encode())
    read, names = stored.reader(image), _names(stored, image)
    zeros = bytes(_PIECE)
    for offset, length, passing in _used(stored, image):
        data = read(offset, length)
        if passing is not None:
            data = _nameless(data, names, passing)
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            if piece != zeros[: len(piece)]:
                sha.update(b"%d %d:" % (offset + at, len(piece)))
                sha.update(piece)
    return sha.hexdigest()


def _used(stored: Medium, image: Stored) -> Iterator[tuple[int, int, Places | None]]:
    """(offset, length) of all that a reader may look at; for what has names, what else passes."""
    if image.head is None:
        yield 0, image.size, None
        return
    head = image.head
    (_, structures), *rest = Image(head, stored.reader(image)).used(image.size)
    # Of a table for disks that are much larger only the beginning counts.
    entries, end = 4 * -(-head.size // head.block), head.table + 4 * head.blocks
    yield 0, min(head.table, structures), _PASSING
    yield head.table, entries, None
    yield end, max(0, min(structures, image.size - SECTOR) - end), ()
    for offset, length in rest:
        yield offset, length, _PASSING_AT_END if length == SECTOR else None


def _names(stored: Medium, image: Stored) -> list[tuple[bytes, bytes]]:
    """Names of the image and its parent, each with one of the same length that stands for it."""
    names = []
    for who, link in ((b"S", image), (b"P", stored.parent_of(image))):
        if link is not None and link.head is not None:
            # Device-mapper doubles the dashes; locators are in two encodings.
            texts = link.uuid, link.uuid.replace("-", "--")
            codes = "utf-8", "utf-16-be", "utf-16-le"
            forms = [text.encode(code) for text in texts for code in codes]
            names += [(name, who * len(name)) for name in (*forms, link.head.id)]
    return names


def _nameless(data: bytes, names: list[tuple[bytes, bytes]], passing: Places) -> bytes:
    for name, other in names:
        data = data.replace(name, other)
    kept = bytearray(data)
    for begin, end in passing:
        kept[begin:end] = bytes(end - begin)
    return bytes(kept)
