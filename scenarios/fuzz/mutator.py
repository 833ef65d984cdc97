"""Changes that get past the checksums.

Flipped bits alone would only ever test that a checksum is compared. So a field is given a value
that makes trouble, in structures found the way a reader finds them, and then the sums of footers,
header and batmap are made right again; now and then they are left wrong.
"""

import random
import struct
from collections.abc import Callable

from scenarios.fuzz.picture import Picture
from srs.vhd.batmap import covered_bytes, map_checksum
from srs.vhd.format import BLOCK, SECTOR, checksum
from srs.vhd.header import bat_length

_FOOTER_FIELDS = (
    *((8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 4), (40, 8), (48, 8), (56, 4)),
    *((60, 4), (68, 16), (84, 1), (85, 1), (86, 1)),
)
_HEADER_FIELDS = ((8, 8), (16, 8), (24, 4), (28, 4), (32, 4), (40, 16), (56, 4), (64, 8))
_LOCATOR_FIELDS = ((0, 4), (4, 4), (8, 4), (12, 4), (16, 8))
_BATMAP_FIELDS = ((8, 8), (16, 4), (20, 4), (28, 1), (29, 1), (30, 4))
_PATHS = ("./parent.vhd", "./disk.vhd", "./raw", ".", "..", "/dev/null", "./pipe", "", "./no\0pe")
_LOG_FIELDS = ((0, 4), (16, 4), (32, 4), (40, 8), (48, 1))
_JOURNAL_FIELDS = ((8, 16), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8), (56, 8))
_ENTRY_FIELDS = ((8, 4), (12, 4), (16, 8))
_ENTRY_COOKIE = bytes.fromhex("aaaa12344321aaaa")
_PLATFORMS = (b"MacX", b"W2ku", b"W2ru", b"Wi2k", b"\0\0\0\0")


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """A changed input; the same for the same arguments."""
    chance = random.Random(seed)
    picture = Picture.unpack(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        chance.choice(_CHANGES)(picture, chance)
    if chance.random() < 0.95:
        seal(picture)
    changed = picture.pack()
    return changed if len(changed) <= max_size else data


def seal(picture: Picture) -> None:
    """Make the checksums right of whatever has the cookie of a footer, a header or a batmap."""
    size = 0
    for _, raw in picture.pieces:
        for at in range(0, len(raw) - SECTOR + 1, SECTOR):
            cookie = bytes(raw[at : at + 8])
            if cookie in (b"conectix", b"v_poison"):
                _put_sum(raw, at, SECTOR, 64)
                (size,) = struct.unpack_from(">Q", raw, at + 48)
            elif cookie == b"cxsparse" and len(raw) >= at + 1024:
                _put_sum(raw, at, 1024, 36)
            elif cookie == b"tdbatmap":
                _seal_batmap(raw, at, size)
    _seal_journal(picture)


def _put_sum(raw: bytearray, start: int, length: int, at: int) -> None:
    struct.pack_into(">I", raw, start + at, checksum(bytes(raw[start : start + length]), at))


def _seal_batmap(raw: bytearray, at: int, size: int) -> None:
    """The map follows its header in every seed; what is not drawn of it is zero."""
    covered = raw[at + SECTOR : at + SECTOR + min(covered_bytes(size), 1 << 20)]
    struct.pack_into(">I", raw, at + 24, map_checksum(covered))


def _seal_journal(picture: Picture) -> None:
    """Entries are not aligned; the bytes of one that are not drawn are zeros."""
    for _, raw in picture.pieces:
        at = raw.find(_ENTRY_COOKIE)
        while 0 <= at <= len(raw) - 32:
            (length,) = struct.unpack_from(">I", raw, at + 12)
            total = sum(raw[at : at + 24]) + sum(raw[at + 28 : at + 32 + length])
            struct.pack_into(">I", raw, at + 24, ~total & 0xFFFFFFFF)
            at = raw.find(_ENTRY_COOKIE, at + 32)


def _value(chance: random.Random, old: int, width: int, picture: Picture) -> int:
    """A number that makes trouble in a field of ``width`` bytes."""
    top = 1 << 8 * width
    near = chance.choice((0, 1, SECTOR, 4096, BLOCK, picture.length, top >> 1, top - 1))
    scaled = chance.choice((near, near // SECTOR, near // BLOCK))
    return (
        chance.choice(
            (
                scaled + chance.randint(-2, 2),
                scaled + SECTOR * chance.randint(-4, 4),
                old ^ 1 << chance.randrange(8 * width),
                old + chance.choice((-SECTOR, -1, 1, SECTOR)),
                old << chance.randrange(1, 24),
                chance.randrange(top),
                1 << chance.randrange(8 * width),
            )
        )
        % top
    )


def _set(picture: Picture, chance: random.Random, raw: bytearray, at: int, width: int) -> None:
    if at + width <= len(raw):
        old = int.from_bytes(raw[at : at + width], "big")
        raw[at : at + width] = _value(chance, old, width, picture).to_bytes(width, "big")


def _find(picture: Picture, *cookies: bytes) -> list[tuple[bytearray, int]]:
    """Where structures with one of the cookies begin, in sectors that are drawn."""
    return [
        (raw, at)
        for _, raw in picture.pieces
        for at in range(0, len(raw), SECTOR)
        if raw[at : at + 8] in cookies
    ]


def _footer(picture: Picture, chance: random.Random) -> None:
    """Both footers, most of the time; else one, so that they differ."""
    found = _find(picture, b"conectix", b"v_poison")
    if not found:
        return
    if chance.random() < 0.3:
        found = [chance.choice(found)]
    offset, width = chance.choice(_FOOTER_FIELDS)
    raw, at = found[0]
    _set(picture, chance, raw, at + offset, width)
    value = raw[at + offset : at + offset + width]
    if chance.random() < 0.05:
        offset, value = 0, bytearray(b"v_poison")
    elif offset == 60:
        value = bytearray(chance.randrange(1, 6).to_bytes(4, "big"))
    for raw, at in found:
        raw[at + offset : at + offset + len(value)] = value


def _header(picture: Picture, chance: random.Random) -> None:
    for raw, at in _find(picture, b"cxsparse"):
        offset, width = chance.choice(_HEADER_FIELDS)
        _set(picture, chance, raw, at + offset, width)


def _locator(picture: Picture, chance: random.Random) -> None:
    for raw, at in _find(picture, b"cxsparse"):
        slot = at + 576 + 24 * chance.choice((0, 1, 2, 2, 7))
        offset, width = chance.choice(_LOCATOR_FIELDS)
        if offset == 0 and slot + 4 <= len(raw):
            raw[slot : slot + 4] = chance.choice(_PLATFORMS)
        else:
            _set(picture, chance, raw, slot + offset, width)


def _path(picture: Picture, chance: random.Random) -> None:
    """Another path where the first locator's text lies, with its length."""
    for raw, at in _find(picture, b"cxsparse"):
        slot = at + 576
        if slot + 24 > len(raw):
            continue
        text = b"file://" + chance.choice(_PATHS).encode()
        offset = int.from_bytes(raw[slot + 16 : slot + 24], "big")
        struct.pack_into(">4sII", raw, slot, b"MacX", SECTOR, len(text))
        picture.pieces.append((offset, bytearray(text)))


def _table(picture: Picture, chance: random.Random) -> None:
    """An entry of the block table, or a copy of another one."""
    for header, at in _find(picture, b"cxsparse"):
        if at + 1024 > len(header):
            continue
        table, slots = struct.unpack_from(">Q4xI", header, at + 16)
        entry = table + 4 * chance.randrange(min(slots, 8) or 1)
        for offset, raw in picture.pieces:
            inside = entry - offset
            if inside >= 0 and inside + 4 <= len(raw):
                if chance.random() < 0.5 and len(raw) >= inside + 8:
                    raw[inside : inside + 4] = raw[inside + 4 : inside + 8]
                _set(picture, chance, raw, inside, 4)


def _batmap(picture: Picture, chance: random.Random) -> None:
    for raw, at in _find(picture, b"tdbatmap"):
        if chance.random() < 0.5 and len(raw) > at + SECTOR:
            raw[at + SECTOR] = chance.randrange(256)
        else:
            offset, width = chance.choice(_BATMAP_FIELDS)
            _set(picture, chance, raw, at + offset, width)


def _log(picture: Picture, chance: random.Random) -> None:
    """A field of a log of changed blocks, which has no cookie, and little-endian numbers."""
    for offset, raw in picture.pieces:
        if offset < 48 and not raw.startswith((b"conectix", b"vjournal")):
            at, width = chance.choice(_LOG_FIELDS)
            if offset <= at and at - offset + width <= len(raw):
                _set(picture, chance, raw, at - offset, width)
                raw[at - offset : at - offset + width] = raw[at - offset : at - offset + width][
                    ::-1
                ]


def _journal(picture: Picture, chance: random.Random) -> None:
    """A field of a journal's header, or of one of its entries."""
    for _, raw in picture.pieces:
        starts = [at for at in range(len(raw)) if raw.startswith(_ENTRY_COOKIE, at)]
        if starts and chance.random() < 0.7:
            start, (offset, width) = chance.choice(starts), chance.choice(_ENTRY_FIELDS)
            _set(picture, chance, raw, start + offset, width)
        elif raw.startswith(b"vjournal"):
            offset, width = chance.choice(_JOURNAL_FIELDS)
            _set(picture, chance, raw, offset, width)


def _length(picture: Picture, chance: random.Random) -> None:
    """Another length of the file; its last sector moves along, half of the time."""
    old = picture.length
    choices = (old - 1, old + 1, old // 2, old + SECTOR, old + BLOCK, old - SECTOR, 1 << 34)
    picture.length = max(0, chance.choice((*choices, chance.randrange(1 << 24))))
    if picture.pieces and chance.random() < 0.5:
        offset, raw = picture.pieces[-1]
        picture.pieces[-1] = (max(0, offset + picture.length - old), raw)


def _bytes(picture: Picture, chance: random.Random) -> None:
    """Any bytes of any piece: bitmaps, texts, what nobody should look at."""
    if picture.pieces:
        _, raw = chance.choice(picture.pieces)
        if raw:
            at = chance.randrange(len(raw))
            _set(picture, chance, raw, at, chance.choice((1, 2, 4, 8)))


def _grow(picture: Picture, chance: random.Random) -> None:
    """Many slots for a large disk, as far as the drawn table and the file allow."""
    slots = chance.choice((2, 3, 64, 128, 4097, 1 << 20))
    for raw, at in _find(picture, b"cxsparse"):
        if at + 32 <= len(raw):
            struct.pack_into(">I", raw, at + 28, slots)
    for raw, at in _find(picture, b"conectix"):
        struct.pack_into(">Q", raw, at + 48, slots * BLOCK)
    picture.length = max(picture.length, 4096 + bat_length(slots))


def _drop(picture: Picture, chance: random.Random) -> None:
    if picture.pieces:
        del picture.pieces[chance.randrange(len(picture.pieces))]


def _act(picture: Picture, chance: random.Random) -> None:
    picture.act = chance.randrange(256)


Change = Callable[[Picture, random.Random], None]
_CHANGES: tuple[Change, ...] = (
    *(_footer, _header, _locator, _path, _table, _batmap, _length, _bytes, _grow, _drop),
    *(_footer, _header, _locator, _table, _table, _act, _act, _act, _log, _log),
    *(_journal, _journal),
)
