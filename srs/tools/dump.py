"""The metadata of a disk as text, sound or not: `read -p`, and `check` when it has found a fault.

Drivers match `Disk type` and `Block size` with regular expressions, so labels, their width of 20
columns and the colon are fixed.
"""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

from srs.vhd import locator
from srs.vhd.backing import Backing
from srs.vhd.batmap import covered_bytes, map_checksum
from srs.vhd.errors import VHDError
from srs.vhd.format import DIFFERENCING, DYNAMIC, EPOCH, FIXED, SECTOR, Footer, checksum
from srs.vhd.header import HEADER_LENGTH, NO_LOCATOR, BatmapHeader, Header, Locator, bat_length

Number = Callable[[int], str]

_TYPES = {
    FIXED: "Fixed hard disk",
    DYNAMIC: "Dynamic hard disk",
    DIFFERENCING: "Differencing hard disk",
}
_SYSTEMS = {0x5769326B: "Windows", 0x4D616320: "Macintosh"}
_LONGEST_NAME = 4096
_LONGEST_MAP = 128 << 10


def headers(backing: Backing, number: Number = str) -> Iterator[str]:
    """The lines for an open disk; numbers that ``-x`` concerns pass through ``number``.

    Whatever is unreadable is shown as the zeros that stand in its place.
    """
    raw = _footer(backing)
    yield from _footer_lines(raw, number)
    *_, size, _, _, _, kind, _, _, _, _, _ = Footer.LAYOUT.unpack(raw)
    if kind not in (DYNAMIC, DIFFERENCING):
        return
    header = _at(backing, int.from_bytes(raw[16:24], "big"), HEADER_LENGTH)
    yield from _header_lines(header, number)
    if kind == DIFFERENCING:
        yield from _locator_lines(backing, header, number)
    yield from _batmap_lines(backing, header, size, number)


def _at(backing: Backing, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``, with zeros for those that cannot be read."""
    if offset >= 1 << 63:
        return bytes(length)
    try:
        return backing.read(offset, length).ljust(length, b"\0")
    except VHDError:
        return bytes(length)


def _footer(backing: Backing) -> bytes:
    """The primary footer, or the backup where the primary is none."""
    size = backing.size()
    primary = _at(backing, size - size % SECTOR - (0 if size % SECTOR else SECTOR), SECTOR)
    if size < SECTOR or primary[:8] not in (Footer.COOKIE, Footer.POISON):
        return _at(backing, 0, SECTOR)
    return primary


def _title(text: str) -> Iterator[str]:
    yield text
    yield "-" * len(text)


def _line(label: str, value: object) -> str:
    return f"{label:20}: {value}"


def _version(version: int) -> str:
    return f"Major: {version >> 16}, Minor: {version & 0xFFFF}"


def _sum(raw: bytes, at: int) -> str:
    return _compare(int.from_bytes(raw[at : at + 4], "big"), checksum(raw, at))


def _compare(stored: int, computed: int) -> str:
    verdict = "Good!" if stored == computed else "Bad!"
    return f"{stored:#x}|{computed:#x} ({verdict})"


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace")


def _when(timestamp: int) -> str:
    return time.ctime(EPOCH + timestamp)


def _features(features: int) -> str:
    names = "".join(f" <{name}>" for bit, name in ((1, "TEMP"), (2, "RESV")) if features & bit)
    return f"(0x{features:08x}){names}"


def _footer_lines(raw: bytes, number: Number) -> Iterator[str]:
    cookie, features, version, offset, stamp, creator, made, system, *rest = Footer.LAYOUT.unpack(
        raw
    )
    original, size, cylinders, heads, sectors, kind, _, identity, saved, hidden, _ = rest
    yield from _title("VHD Footer Summary:")
    yield _line("Cookie", _text(cookie))
    yield _line("Features", _features(features))
    yield _line("File format version", _version(version))
    yield _line("Data offset", number(offset))
    yield _line("Timestamp", _when(stamp))
    yield _line("Creator Application", f"'{_text(creator)}'")
    yield _line("Creator version", _version(made))
    yield _line("Creator OS", _SYSTEMS.get(system, "Unknown!"))
    yield _line("Original disk size", f"{original >> 20} MB ({number(original)} Bytes)")
    yield _line("Current disk size", f"{size >> 20} MB ({number(size)} Bytes)")
    yield _line("Geometry", f"Cyl: {cylinders}, Hds: {heads}, Sctrs: {sectors}")
    reached = cylinders * heads * sectors * SECTOR
    yield _line("", f"= {reached >> 20} MB ({number(reached)} Bytes)")
    yield _line("Disk type", _TYPES.get(kind, "Unknown type!"))
    yield _line("Checksum", _sum(raw, Footer.CHECKSUM_AT))
    yield _line("UUID", UUID(bytes=identity))
    yield _line("Saved state", "Yes" if saved else "No")
    yield _line("Hidden", hidden)
    yield ""


def _header_lines(raw: bytes, number: Number) -> Iterator[str]:
    cookie, offset, table, version, slots, block, _, parent, stamp, name, _ = Header.LAYOUT.unpack(
        raw
    )
    yield from _title("VHD Header Summary:")
    yield _line("Cookie", _text(cookie))
    yield _line("Data offset (unusd)", number(offset))
    yield _line("Table offset", number(table))
    yield _line("Header version", _version(version))
    yield _line("Max BAT size", number(slots))
    yield _line("Block size", f"{number(block)} ({block >> 20} MB)")
    yield _line("Parent name", name.decode("utf-16-be", "replace").partition("\0")[0])
    yield _line("Parent UUID", UUID(bytes=parent))
    yield _line("Parent timestamp", _when(stamp))
    yield _line("Checksum", _sum(raw, Header.CHECKSUM_AT))
    yield ""


def _locator_lines(backing: Backing, header: bytes, number: Number) -> Iterator[str]:
    yield from _title("VHD Parent Locators:")
    for index in range(8):
        at = 576 + index * 24
        entry = Locator.unpack(header[at : at + 24])
        if entry.platform == NO_LOCATOR:
            continue
        name = None
        if entry.length <= min(entry.capacity, _LONGEST_NAME):
            name = locator.decode(entry.platform, _at(backing, entry.offset, entry.length))
        yield _line("locator:", index)
        yield _line("       code", _text(entry.platform))
        yield _line("       data_space", number(entry.space))
        yield _line("       data_length", number(entry.length))
        yield _line("       data_offset", number(entry.offset))
        yield _line("       decoded name", name or "")
        yield ""


def _batmap_lines(backing: Backing, header: bytes, size: int, number: Number) -> Iterator[str]:
    table, slots = (int.from_bytes(header[at:to], "big") for at, to in ((16, 24), (28, 32)))
    batmap = BatmapHeader.unpack(_at(backing, table + bat_length(slots), SECTOR))
    if batmap is None:
        return
    covered = _at(backing, batmap.map_offset, min(covered_bytes(size), _LONGEST_MAP))
    yield from _title("VHD Batmap Summary:")
    yield _line("Batmap offset", number(batmap.map_offset))
    yield _line("Batmap size (secs)", number(batmap.map_sectors))
    yield _line("Batmap version", f"0x{batmap.VERSION:08x}")
    yield _line("Checksum", _compare(batmap.checksum, map_checksum(covered)))
    yield ""
