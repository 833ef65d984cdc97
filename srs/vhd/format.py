"""Constants of the VHD format, its sums and its footer.

A sparse (dynamic or differencing) disk; a sector is 512 bytes, integers are big-endian:

    0       backup footer           512     equal to the primary footer
    512     dynamic header          1024
    1536    block table (BAT)       4 * slots, padded to a sector
            batmap header           512     XenServer's extension
            batmap                  one bit per slot, whole sectors
            parent locators         three texts, each padded to a sector
            block, block ...        bitmap of 512 bytes, then 2 MiB of data
    end     primary footer          512     the last 512 bytes of file or device

The data of each block begins on a 4096-byte boundary, so its bitmap lies at a sector B with
B % 8 == 7. A fixed disk is its data followed by the primary footer. References: the Microsoft
VHD specification 1.0 for footer, header, block table and locators; the disks that XenServer's
tools write for the creator, the hidden byte, the batmap and the alignment.
"""

import struct
from dataclasses import dataclass, replace
from uuid import UUID

from srs.vhd.errors import BadFooter, Poisoned

SECTOR = 512
BLOCK = 2 << 20
BLOCK_SECTORS = BLOCK // SECTOR
STRIDE_SECTORS = 1 + BLOCK_SECTORS
"""What a block takes in the file, in sectors: its bitmap and its data."""

UNUSED = 0xFFFFFFFF
"""The block table's entry for a block that is not in this file."""

NOWHERE = 0xFFFFFFFFFFFFFFFF
"""The data offset of a structure that leads to no other."""

EPOCH = 946684800
"""2000-01-01T00:00:00Z in Unix seconds: zero of every VHD timestamp."""

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
MAX_SIZE = 2040 << 30
"""The largest virtual disk: above it a full child's blocks outgrow 32-bit sector numbers."""

MAX_PREALLOCATED = 2 << 40
VERSION_1_0 = 0x00010000
CREATOR = b"tap\0"
CREATOR_VERSION = 0x00010003
NULL_ID = UUID(int=0)


def pad(length: int) -> int:
    """``length`` rounded up to whole sectors, in bytes."""
    return -(-length // SECTOR) * SECTOR


def blocks_of(size: int) -> int:
    """The number of blocks that a disk of ``size`` bytes has, the last perhaps partial."""
    return -(-size // BLOCK)


def round_to_block(size: int) -> int:
    """``size`` rounded up to whole 2 MiB blocks, in bytes."""
    return blocks_of(size) * BLOCK


def align_block(sector: int) -> int:
    """The first sector at or after ``sector`` where a bitmap may lie: its data follow on 4 KiB."""
    return sector + (7 - sector) % 8


def checksum(raw: bytes, at: int) -> int:
    """One's complement of the byte sum of ``raw``, its checksum field at ``at`` taken as zero."""
    return ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF


def with_checksum(raw: bytes, at: int) -> bytes:
    """``raw`` with its checksum field at ``at`` filled in."""
    return raw[:at] + checksum(raw, at).to_bytes(4, "big") + raw[at + 4 :]


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track of a disk of ``size`` bytes.

    Informational: the size field is the disk's size. The sector count is cut to 32 bits first,
    as the specification's own arithmetic does, so 2 TiB has no cylinders.
    """
    total = min((-(-size // SECTOR) & 0xFFFFFFFF) or 1, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    sectors, tracks = 17, total // 17
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads, tracks = 31, 16, total // 31
    if tracks >= heads * 1024:
        sectors, heads, tracks = 63, 16, total // 63
    return tracks // heads, heads, sectors


@dataclass(frozen=True, slots=True)
class Footer:
    """The 512 bytes that make a file a VHD: identity, size and kind.

        0 cookie 8s | 8 features I | 12 version I | 16 data offset Q | 24 timestamp I
        28 creator 4s | 32 creator version I | 36 creator OS I | 40 original size Q | 48 size Q
        56 cylinders H, heads B, sectors B | 60 type I | 64 checksum I | 68 id 16s
        84 saved state B | 85 hidden B | 86 reserved 426s

    Sizes are bytes, ``timestamp`` seconds since :data:`EPOCH`, the id is stored in textual order.
    ``hidden`` is XenServer's: 1 marks an inner node, or a leaf that waits for the garbage
    collector. ``chs`` is the geometry of another writer who has his own, None for that of
    :func:`geometry`.
    """

    features: int
    data_offset: int
    timestamp: int
    creator: bytes
    creator_version: int
    creator_os: int
    original_size: int
    size: int
    disk_type: int
    unique_id: UUID
    saved: int = 0
    hidden: int = 0
    reserved: bytes = bytes(426)
    chs: tuple[int, int, int] | None = None

    COOKIE = b"conectix"
    POISON = b"v_poison"
    LAYOUT = struct.Struct(">8sIIQI4sIIQQHBBII16sBB426s")
    CHECKSUM_AT = 64

    @classmethod
    def new(cls, size: int, disk_type: int, unique_id: UUID, timestamp: int) -> "Footer":
        """The footer of a fresh sparse disk, with the creator that XenServer's tools expect."""
        creator = (CREATOR, CREATOR_VERSION, 0)
        return cls(2, SECTOR, timestamp, *creator, size, size, disk_type, unique_id)

    def resized(self, size: int) -> "Footer":
        """The footer of the same disk with another size, and the geometry of that."""
        return replace(self, size=size, chs=None)

    def pack(self) -> bytes:
        """The 512 bytes on disk, checksum computed."""
        raw = self.LAYOUT.pack(
            *(self.COOKIE, self.features, VERSION_1_0, self.data_offset, self.timestamp),
            *(self.creator, self.creator_version, self.creator_os),
            *(self.original_size, self.size, *(self.chs or geometry(self.size))),
            *(self.disk_type, 0),
            *(self.unique_id.bytes, self.saved, self.hidden, self.reserved),
        )
        return with_checksum(raw, self.CHECKSUM_AT)

    def poisoned(self) -> bytes:
        """The 512 bytes that keep everybody away while a journaled resize is under way."""
        return with_checksum(self.POISON + self.pack()[len(self.POISON) :], self.CHECKSUM_AT)

    @classmethod
    def unpack(cls, raw: bytes, path: str, *, poisoned: bool = False) -> "Footer":
        """Read a footer; ``path`` names the file in errors.

        Raises:
            BadFooter: cookie, checksum, version, type or size are wrong.
            Poisoned: it belongs to an interrupted journaled resize, and ``poisoned`` is not set,
                as it is by those who only want to see what there is.
        """
        if len(raw) != SECTOR or raw[:8] not in (cls.COOKIE, cls.POISON):
            raise BadFooter(path, "no cookie")
        values = cls.LAYOUT.unpack(raw)
        cookie, features, version, data_offset, timestamp, *creator = values[:8]
        original_size, size, cylinders, heads, sectors, disk_type, _, unique_id, *rest = values[8:]
        chs = (cylinders, heads, sectors)
        if not cls.sealed(raw):
            raise BadFooter(path, "wrong checksum")
        if cookie == cls.POISON and not poisoned:
            raise Poisoned(path, UUID(bytes=unique_id))
        if version >> 16 != VERSION_1_0 >> 16:
            raise BadFooter(path, f"version {version:#x}")
        if disk_type not in (FIXED, DYNAMIC, DIFFERENCING):
            raise BadFooter(path, f"disk type {disk_type}")
        if size % SECTOR:
            raise BadFooter(path, f"size {size} is not a whole number of sectors")
        return cls(
            *(features, data_offset, timestamp, *creator, original_size, size, disk_type),
            *(UUID(bytes=unique_id), *rest, None if chs == geometry(size) else chs),
        )

    @classmethod
    def sealed(cls, raw: bytes) -> bool:
        """True if the checksum of a raw footer is right.

        The first tools of XenServer changed the hidden byte without renewing the checksum, so
        for their disks it also counts with that byte taken as zero.
        """
        stored = int.from_bytes(raw[cls.CHECKSUM_AT : cls.CHECKSUM_AT + 4], "big")
        if stored == checksum(raw, cls.CHECKSUM_AT):
            return True
        visible = raw[:85] + b"\0" + raw[86:]
        old = cls.old_tap(raw[28:32], int.from_bytes(raw[32:36], "big"))
        return old and stored == checksum(visible, cls.CHECKSUM_AT)

    @staticmethod
    def old_tap(creator: bytes, version: int) -> bool:
        """True for tap 0.1 and 1.1, whose disks keep "hidden" in the backup footer only."""
        return creator[:3] == CREATOR[:3] and version in (0x00000001, 0x00010001)

    @property
    def by_tap(self) -> bool:
        """True for a disk made by XenServer's tools, or by this engine."""
        return self.creator[:3] == CREATOR[:3]
