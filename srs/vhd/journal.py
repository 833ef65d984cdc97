"""The undo journal of a resize: what the disk held wherever the resize is going to write.

    0     header    8s "vjournal" | 8 disk id 16s | 24 footer offset Q | 32 data entries I
                    36 metadata entries I | 40 data at Q | 48 metadata at Q | 56 end Q (little)
    512   entries   Q cookie | 8 kind I | 12 length I | 16 target offset Q | 24 checksum I | 4x,
                    each followed by its ``length`` bytes

Integers are big-endian but for the end. Metadata entries come first, one for each structure of
the disk; then two for each block that moves, its bitmap and its data. The checksum is the one's
complement of the byte sum of entry, checksum taken as zero, and bytes. The format is that of
XenServer's tools, so either can undo what the other left.

A journal is whole before the disk is touched: its header is written, and its name made durable,
when the entries are. A device that begins with zeros is therefore no journal yet. Of a file that
needs to be known before somebody removes it, so its first entry is made durable before it grows.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from srs.vhd.backing import Backing, exists_as_file, sync_directory
from srs.vhd.errors import JournalDamaged, JournalExists
from srs.vhd.format import SECTOR

PRIMARY, BACKUP, HEADER, LOCATOR, BAT, BATMAP_HEADER, BATMAP, DATA = range(1, 9)
"""Kinds of entries, by what of the disk they hold."""

_COOKIE = b"vjournal"
_ENTRY_COOKIE = 0xAAAA12344321AAAA
_HEAD = struct.Struct(">8s16sQIIQQ8s448x")
_ENTRY = struct.Struct(">QIIQI4x")
_FIRST = _ENTRY.size + SECTOR
"""Bytes of the first entry, that of the primary footer."""

_LONGEST = 16 << 20
"""No entry is longer: the largest structure, the table of a 2 TiB disk, takes 4 MiB."""


@dataclass(frozen=True, slots=True)
class Place:
    """``length`` bytes at byte ``offset`` of a disk; ``kind`` is what they are."""

    kind: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal's header: of which disk, where its primary footer was, what was saved."""

    unique_id: UUID
    footer_at: int
    metadata_entries: int = 0
    data_entries: int = 0
    metadata_at: int = SECTOR
    data_at: int = 0
    end: int = SECTOR

    def pack(self) -> bytes:
        """The 512 bytes on disk."""
        counts = (self.data_entries, self.metadata_entries, self.data_at, self.metadata_at)
        end = self.end.to_bytes(8, "little")
        return _HEAD.pack(_COOKIE, self.unique_id.bytes, self.footer_at, *counts, end)

    @classmethod
    def unpack(cls, raw: bytes, path: str) -> "Journal | None":
        """Read a header; None if there is none, because writing the journal was interrupted.

        Raises:
            JournalDamaged: something else stands there.
        """
        if not raw.strip(b"\0"):
            return None
        if len(raw) < SECTOR or raw[:8] != _COOKIE:
            raise JournalDamaged(path, "it has no header")
        _, identity, footer_at, data, metadata, data_at, metadata_at, end = _HEAD.unpack(raw)
        counts = (metadata, data, metadata_at, data_at)
        return cls(UUID(bytes=identity), footer_at, *counts, int.from_bytes(end, "little"))

    @property
    def dropped(self) -> bool:
        """True if the journal says itself that it holds nothing any more."""
        return not self.metadata_entries and not self.data_entries

    def entries(self, file: Backing) -> Iterator[tuple[Place, bytes]]:
        """What was saved, one after the other, each checked.

        Raises:
            JournalDamaged: an entry is not what was written, or lies outside the disk.
        """
        parts = (self.metadata_at, self.metadata_entries), (self.data_at, self.data_entries)
        for at, count in parts:
            for _ in range(count):
                place, data = self._entry(file, at)
                yield place, data
                at += _ENTRY.size + place.length

    def _entry(self, file: Backing, at: int) -> tuple[Place, bytes]:
        head = file.read(at, _ENTRY.size)
        if len(head) < _ENTRY.size:
            raise JournalDamaged(file.path, f"it ends at byte {at}")
        cookie, kind, length, offset, stored = _ENTRY.unpack(head)
        if cookie != _ENTRY_COOKIE or not PRIMARY <= kind <= DATA:
            raise JournalDamaged(file.path, f"no entry at byte {at}")
        if length > _LONGEST or offset + length > self.footer_at + SECTOR:
            reason = f"{length} bytes for byte {offset} of the disk, which was shorter"
            raise JournalDamaged(file.path, reason)
        data = file.read(at + _ENTRY.size, length)
        if len(data) < length or stored != _checksum(head, data):
            raise JournalDamaged(file.path, f"wrong checksum of the entry at byte {at}")
        return Place(kind, offset, length), data


def read_header(file: Backing) -> Journal | None:
    """The header of the journal ``file``; None if writing it was interrupted before that.

    Raises:
        JournalDamaged: something else stands there; of a file that begins with zeros, as many
            do, because no journal grows without a first entry.
    """
    found = Journal.unpack(file.read(0, SECTOR), file.path)
    if found is None and not file.is_block:
        first = file.read(SECTOR, _FIRST)
        grown = file.size() > SECTOR + _FIRST or any(first)
        if grown and not first.startswith(_ENTRY_COOKIE.to_bytes(8, "big")):
            raise JournalDamaged(file.path, "it has neither a header nor a first entry")
    return found


def _checksum(head: bytes, data: bytes) -> int:
    """The checksum of an entry, over whatever stands in its padding, too."""
    return ~(sum(head[:24]) + sum(head[28:]) + sum(data)) & 0xFFFFFFFF


def save(
    path: str, disk: Backing, unique_id: UUID, footer_at: int, places: Sequence[Place]
) -> None:
    """Make the journal ``path`` with what ``disk`` holds at ``places``, metadata first; durable.

    A block device is overwritten, its directory entry being none of ours.

    Raises:
        JournalExists: a file of that name is there, perhaps the only way back to another size.
        NoSpace, StorageFailed: the journal is not whole, and nothing depends on it yet.
    """
    if exists_as_file(path):
        raise JournalExists(path)
    with Backing(path, writable=True, create=True) as file:
        if file.is_block:
            file.write(0, bytes(SECTOR))
            file.sync()
        at = data_at = SECTOR
        for place in places:
            head, data = _entry_of(disk, place)
            file.write(at, head, data)
            if at == SECTOR:
                file.sync()  # From here on a file is known as a journal that was begun.
            at += _ENTRY.size + place.length
            if place.kind != DATA:
                data_at = at
        file.sync()  # XenServer's tools follow a header without a look at all that it leads to.
        metadata = sum(place.kind != DATA for place in places)
        counts = (metadata, len(places) - metadata, SECTOR, data_at)
        file.write(0, Journal(unique_id, footer_at, *counts, at).pack())
        file.sync()
        if not file.is_block:
            sync_directory(path)


def _entry_of(disk: Backing, place: Place) -> tuple[bytes, bytes]:
    data = disk.read(place.offset, place.length).ljust(place.length, b"\0")
    fields = (_ENTRY_COOKIE, place.kind, place.length, place.offset)
    return _ENTRY.pack(*fields, _checksum(_ENTRY.pack(*fields, 0), data)), data


def drop(file: Backing, journal: Journal | None) -> None:
    """End the journal in ``file``: it says itself that it holds nothing, then a file is removed."""
    if journal is not None:
        file.write(0, Journal(journal.unique_id, journal.footer_at).pack())
        file.sync()
    if not file.is_block:
        os.unlink(file.path)
        sync_directory(file.path)
