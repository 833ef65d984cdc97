"""The rules that footer, header and batmap must keep, each broken one in the field's words.

Opening a disk asks for less: it takes what it can read safely. These are the rules of a check.
Each function returns the first rule that is broken, as a reason, or None.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from srs.vhd.batmap import map_checksum
from srs.vhd.format import (
    BLOCK,
    CREATOR,
    DIFFERENCING,
    DYNAMIC,
    EPOCH,
    FIXED,
    NOWHERE,
    NULL_ID,
    SECTOR,
    VERSION_1_0,
    Footer,
    checksum,
    geometry,
    pad,
)
from srs.vhd.header import (
    HEADER_LENGTH,
    MACX,
    W2KU,
    W2RU,
    BatmapHeader,
    Header,
    Locator,
    bat_length,
)
from srs.vhd.image import Image

_CLOCK_SKEW = 1800
"""Seconds that a timestamp may lie in the future."""

_RESERVED_FEATURE = 2
_TEMPORARY_FEATURE = 1
_BATMAP_REQUIRED_FROM = 0x00010002
_SUPPORTED_TAP = range(0x00010001, 0x00010004)


@dataclass(frozen=True, slots=True)
class Clock:
    """What counts as the future: timestamps above ``limit`` (seconds since the VHD epoch)."""

    limit: float

    @classmethod
    def at(cls, unix_seconds: float) -> "Clock":
        """A clock that shows ``unix_seconds``, with the usual tolerance."""
        return cls(unix_seconds - EPOCH + _CLOCK_SKEW)


def footer_fault(raw: bytes, clock: Clock) -> str | None:
    """What is wrong with the 512 bytes of a footer."""
    if len(raw) != SECTOR or raw[:8] != Footer.COOKIE:
        return "invalid cookie"
    if not Footer.sealed(raw):
        return "invalid checksum"
    values = Footer.LAYOUT.unpack(raw)
    _, features, version, data_offset, timestamp, creator, creator_version, *_ = values
    size, *chs, disk_type = values[9:14]
    unique_id, saved, hidden, reserved = values[15:]
    by_tap = creator[:3] == CREATOR[:3]
    rules = {
        "invalid 'reserved' feature": features & _RESERVED_FEATURE,
        "invalid extra features": not features & ~(_RESERVED_FEATURE | _TEMPORARY_FEATURE),
        "invalid file format version": version == VERSION_1_0,
        "invalid data offset": disk_type != FIXED or data_offset == NOWHERE,
        "creation time in future": timestamp <= clock.limit,
        "unsupported tap creator version": not by_tap or creator_version in _SUPPORTED_TAP,
        # Other writers put there what they like, as the geometry binds nobody.
        "geometry too large": not by_tap or tuple(chs) <= geometry(size),
        "invalid type": disk_type in (FIXED, DYNAMIC, DIFFERENCING),
        "invalid size": size % SECTOR == 0,
        "invalid 'saved' state": saved == 0,
        "invalid 'hidden' state": hidden in (0, 1),
        "invalid 'reserved' bits": not any(reserved),
        "invalid (NULL) uuid": any(unique_id),
    }
    return _broken(rules)


def same_footer(one: bytes, other: bytes) -> bool:
    """True if two footers say the same.

    Disks of the oldest tools have "hidden" in the backup only, not always in the checksum.
    """
    old = Footer.old_tap(one[28:32], int.from_bytes(one[32:36], "big"))
    return one == other or (old and _without_hidden(one) == _without_hidden(other))


def _without_hidden(raw: bytes) -> bytes:
    return raw[:64] + raw[68:85] + raw[86:]


def header_fault(raw: bytes, end: int) -> str | None:
    """What is wrong with the 1024 bytes of a dynamic header; ``end`` is the byte after the data.

    The rules about the parent are those of :func:`parent_fault`.
    """
    if len(raw) != Header.LAYOUT.size or raw[:8] != Header.COOKIE:
        return "invalid cookie"
    if checksum(raw, Header.CHECKSUM_AT) != int.from_bytes(raw[36:40], "big"):
        return "invalid checksum"
    _, data_offset, bat_offset, version, slots, block_size, *_ = Header.LAYOUT.unpack(raw)
    rules = {
        "invalid header version": version == VERSION_1_0,
        "invalid data offset": data_offset == NOWHERE,
        "invalid table offset": bat_offset >= SECTOR
        and bat_offset % SECTOR == 0
        and bat_offset + bat_length(slots) <= end,
        "invalid block size": block_size == BLOCK,
        "invalid 'reserved' bits": not any(raw[60:64]) and not any(raw[768:]),
    }
    return _broken(rules)


def parent_fault(raw: bytes, differencing: bool, clock: Clock) -> str | None:
    """What is wrong with the parent's description in the header of a disk."""
    *_, unique_id, timestamp, name, locators = Header.LAYOUT.unpack(raw)
    if differencing:
        return _broken(
            {
                "parent creation time in future": timestamp <= clock.limit,
                "invalid parent name": any(name[:2]),
            }
        )
    return _broken(
        {
            "non-null parent name": not any(name),
            "non-null parent locators": not any(locators),
            "non-null parent uuid": unique_id == NULL_ID.bytes,
            "non-null parent timestamp": timestamp == 0,
        }
    )


def batmap_fault(footer: Footer, header: Header, raw: bytes, bits: bytes, end: int) -> str | None:
    """What is wrong with a batmap: its header ``raw`` and its covered ``bits`` as read.

    Disks of other writers have none, and tap 1.1 wrote one of an older kind or none: no fault.
    """
    if not footer.by_tap or footer.creator_version < _BATMAP_REQUIRED_FROM:
        return None
    if len(raw) != SECTOR or raw[:8] != BatmapHeader.COOKIE:
        return "invalid cookie"
    _, offset, sectors, version, stored, *_ = BatmapHeader.LAYOUT.unpack(raw)
    after = header.bat_offset + bat_length(header.slots) + SECTOR
    rules = {
        "invalid version": version == BatmapHeader.VERSION,
        "batmap size zero": sectors > 0,
        "batmap-BAT size mismatch": sectors * SECTOR >= pad(-(-header.slots // 8)),
        "invalid batmap offset": offset == after,
        "invalid batmap size": after + sectors * SECTOR <= end,
        "invalid checksum": stored == map_checksum(bits),
    }
    return _broken(rules)


def locator_fault(entry: Locator, raw: bytes, end: int) -> str | None:
    """What is wrong with a locator that is not all zeros; ``raw`` is its 24 bytes."""
    rules = {
        "invalid platform code": entry.platform in (MACX, W2KU, W2RU),
        "invalid 'reserved' bits": not any(raw[12:16]),
        "invalid data space": entry.capacity > 0,
        "invalid data length": 0 < entry.length <= entry.capacity,
        "invalid data offset": entry.offset % SECTOR == 0 and entry.end <= end,
    }
    return _broken(rules)


def crossing(image: Image) -> Iterator[tuple[str, str]]:
    """Pairs of metadata that share bytes: what is written to one would destroy the other."""
    header = image.header
    table_end = header.bat_offset + bat_length(header.slots)
    areas = [
        (0, SECTOR, "backup footer"),
        (image.footer.data_offset, image.footer.data_offset + HEADER_LENGTH, "header"),
        (header.bat_offset, table_end, "block table"),
    ]
    if image.batmap is not None and image.batmap.header is not None:
        areas.append((table_end, image.batmap.end, "batmap"))
    for slot, entry in enumerate(header.locators):
        if entry.end:
            areas.append((entry.offset, entry.end, f"parent locator {slot}"))
    for (_, stop, name), (start, _, other) in pairwise(sorted(areas)):
        if start < stop:
            yield other, name


def _broken(rules: Mapping[str, object]) -> str | None:
    return next((reason for reason, kept in rules.items() if not kept), None)
