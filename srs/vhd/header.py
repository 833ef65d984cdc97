"""The dynamic header with its parent locators, and the header of XenServer's batmap."""

import struct
from dataclasses import dataclass, field
from uuid import UUID

from srs.vhd.errors import BadHeader
from srs.vhd.format import (
    BLOCK,
    NOWHERE,
    NULL_ID,
    SECTOR,
    VERSION_1_0,
    checksum,
    pad,
    with_checksum,
)

MACX, W2KU, W2RU = b"MacX", b"W2ku", b"W2ru"
NO_LOCATOR = b"\0\0\0\0"
PLATFORMS = (NO_LOCATOR, MACX, W2KU, W2RU, b"Mac ", b"Wi2r", b"Wi2k")
HEADER_LENGTH = 1024
LOCATORS_AT = 576
"""Where the eight locators of 24 bytes begin, from the start of the header."""

LONGEST_TEXT = 64 << 10
"""Bytes of a locator's space that anybody could need; a larger one is damage."""

MAX_SLOTS = 1 << 22
"""The slots of 8 TiB: four times what fits into a file, and the field's tool makes 4 TiB."""

FIRST_TABLE = SECTOR + HEADER_LENGTH
"""Where the header of a fresh disk ends and its block table begins."""


def bat_length(slots: int) -> int:
    """Bytes that a block table of ``slots`` entries takes on disk, padding included."""
    return pad(slots * 4)


def map_sectors(slots: int) -> int:
    """Sectors of a batmap for ``slots`` blocks."""
    return max(1, pad(-(-slots // 8)) // SECTOR)


def batmap_length(slots: int) -> int:
    """Bytes that the batmap of ``slots`` blocks takes on disk, its header included."""
    return SECTOR + map_sectors(slots) * SECTOR


@dataclass(frozen=True, slots=True)
class Locator:
    """Where one spelling of the parent's path is stored.

        0 platform 4s | 4 data space I | 8 data length I | 12 reserved I | 16 data offset Q

    ``length`` and ``offset`` are bytes. ``space`` is kept as stored: disks in the wild give
    sectors when it is below 512 and bytes otherwise.
    """

    platform: bytes = NO_LOCATOR
    space: int = 0
    length: int = 0
    offset: int = 0

    LAYOUT = struct.Struct(">4sIIIQ")

    def pack(self) -> bytes:
        """The 24 bytes in the header."""
        return self.LAYOUT.pack(self.platform, self.space, self.length, 0, self.offset)

    @classmethod
    def unpack(cls, raw: bytes) -> "Locator":
        """Read one of the header's eight entries."""
        platform, space, length, _, offset = cls.LAYOUT.unpack(raw)
        return cls(platform, space, length, offset)

    @property
    def capacity(self) -> int:
        """Bytes set aside for the text; 0 when the stored number makes no sense."""
        if self.space < SECTOR:
            return self.space * SECTOR
        return 0 if self.space % SECTOR else self.space

    @property
    def end(self) -> int:
        """The byte after the space set aside, 0 for an empty slot."""
        return self.offset + self.capacity if self.platform != NO_LOCATOR else 0


@dataclass(frozen=True, slots=True)
class Header:
    """The dynamic header: where the block table is, and which disk is the parent.

        0 cookie 8s | 8 data offset Q, all ones | 16 table offset Q | 24 version I | 28 slots I
        32 block size I | 36 checksum I | 40 parent id 16s | 56 parent timestamp I | 60 zero I
        64 parent name, UTF-16BE, 512s | 576 eight locators of 24 | 768 reserved 256s

    A differencing disk with the null id stands on a raw image. ``parent_timestamp`` is the
    parent file's modification time when the link was made; nobody compares it.
    """

    slots: int
    bat_offset: int = FIRST_TABLE
    parent_id: UUID = NULL_ID
    parent_timestamp: int = 0
    parent_name: str = ""
    locators: tuple[Locator, ...] = field(default=(Locator(),) * 8)

    COOKIE = b"cxsparse"
    LAYOUT = struct.Struct(">8sQQIIII16sI4x512s192s256x")
    CHECKSUM_AT = 36

    def pack(self) -> bytes:
        """The 1024 bytes on disk."""
        raw = self.LAYOUT.pack(
            *(self.COOKIE, NOWHERE, self.bat_offset, VERSION_1_0, self.slots, BLOCK, 0),
            *(self.parent_id.bytes, self.parent_timestamp, self.parent_name.encode("utf-16-be")),
            b"".join(locator.pack() for locator in self.locators),
        )
        return with_checksum(raw, self.CHECKSUM_AT)

    @classmethod
    def unpack(cls, raw: bytes, path: str) -> "Header":
        """Read a header; ``path`` names the file in errors.

        Raises:
            BadHeader: damaged, of another version, with another block size than 2 MiB (the
                batmap and all of XenServer's arithmetic know no other), or with a locator of
                an unknown platform.
        """
        if len(raw) != cls.LAYOUT.size or raw[:8] != cls.COOKIE:
            raise BadHeader(path, "no cookie")
        values = cls.LAYOUT.unpack(raw)
        _, data_offset, bat_offset, version, slots, block_size, stored, *parent = values
        parent_id, timestamp, name, entries = parent
        if stored != checksum(raw, cls.CHECKSUM_AT):
            raise BadHeader(path, "wrong checksum")
        if data_offset != NOWHERE or version != VERSION_1_0:
            raise BadHeader(path, f"version {version:#x} with data offset {data_offset:#x}")
        if block_size != BLOCK:
            raise BadHeader(path, f"blocks of {block_size} bytes, only {BLOCK} are supported")
        if bat_offset % SECTOR or bat_offset < SECTOR:
            raise BadHeader(path, f"block table at byte {bat_offset}")
        locators = tuple(Locator.unpack(entries[at : at + 24]) for at in range(0, 192, 24))
        for locator in locators:
            if locator.platform not in PLATFORMS:
                raise BadHeader(path, f"locator for unknown platform {locator.platform!r}")
        text = name.decode("utf-16-be", "replace").partition("\0")[0]
        return cls(slots, bat_offset, UUID(bytes=parent_id), timestamp, text, locators)


@dataclass(frozen=True, slots=True)
class BatmapHeader:
    """The header of the batmap, which follows the block table of disks made by ``tap``.

        0 cookie 8s | 8 map offset Q | 16 map sectors I | 20 version I | 24 map checksum I
        28 marker B | 29 key cookie B | 30 key nonce 32s | 62 key hash 32s | 94 reserved 418s

    ``key_cookie`` 1 says that the disk is encrypted with the key of that hash.
    """

    map_offset: int
    map_sectors: int
    checksum: int = 0xFFFFFFFF
    marker: int = 0
    key_cookie: int = 0
    key_nonce: bytes = bytes(32)
    key_hash: bytes = bytes(32)

    COOKIE = b"tdbatmap"
    VERSION = 0x00010002
    LAYOUT = struct.Struct(">8sQIIIBB32s32s418x")

    def pack(self) -> bytes:
        """The 512 bytes on disk."""
        return self.LAYOUT.pack(
            *(self.COOKIE, self.map_offset, self.map_sectors, self.VERSION, self.checksum),
            *(self.marker, self.key_cookie, self.key_nonce, self.key_hash),
        )

    @classmethod
    def unpack(cls, raw: bytes) -> "BatmapHeader | None":
        """Read a batmap header; None if it is none of this version, which is no error.

        The map only spares readers some bitmaps, so a disk without a usable one is whole.
        """
        if len(raw) != SECTOR:
            return None
        cookie, offset, sectors, version, *rest = cls.LAYOUT.unpack(raw)
        if cookie != cls.COOKIE or version != cls.VERSION or offset % SECTOR:
            return None
        return cls(offset, sectors, *rest)
