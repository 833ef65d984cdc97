"""An SR's disk, read from its file on this machine: no driver, no cache, no data path between.

A logical volume or a file is a list of stretches: where in it, where on the disk, how long. Of
volumes LVM's metadata tell, of files the guest's file system.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from scenarios.lvmtext import Volume, read_group
from testbed.devices.sparse import grains

#: A page of a block table without a block.
_UNUSED: Final = b"\xff" * 4096


class Stretch(NamedTuple):
    """Bytes `offset` to `offset + length` of a file or volume lie at `at` on the disk."""

    offset: int
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class File:
    """A file on a disk.

    Attributes:
        size: bytes.
        links: names that it has.
        stretches: in order; what is in none are zeros.
    """

    size: int
    links: int
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class DiskFile:
    """See the module. Implements `scenarios.medium.Source`.

    Attributes:
        fd: descriptor of the disk's file, to which requests come one by one.
        files: those of the file system on it, by path; None if it bears volumes, which are
            read where they lie on the disk, by whatever name the disk has inside.
    """

    fd: int
    files: Mapping[str, File] | None = None

    def read(self, path: str, offset: int, length: int, /) -> bytes:
        """Bytes of a file, or of the disk. Raises FileNotFoundError."""
        file = self._find(path)
        found = bytearray(max(0, min(length, file.size - offset)))
        for begin, at, size in file.stretches:
            first, last = max(begin, offset), min(begin + size, offset + len(found))
            if first < last:
                piece = os.pread(self.fd, last - first, at + first - begin)
                found[first - offset : last - offset] = piece
        return bytes(found)

    def read_pieces(self, places: Sequence[tuple[str, int, int]], /) -> list[tuple[int, bytes]]:
        """`Member.read_pieces`."""
        found = []
        for path, offset, length in places:
            size = self._find(path).size
            found.append((size, self.read(path, offset if offset >= 0 else size + offset, length)))
        return found

    def _find(self, path: str) -> File:
        if self.files is None:
            size = os.fstat(self.fd).st_size
            return File(size, 1, (Stretch(0, 0, size),))
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def stored_files(self) -> dict[str, Any]:
        """Of each file: size, number of links, and a hash of its bytes."""
        return {
            path: [file.size, file.links, self._hash(file.stretches)]
            for path, file in (self.files or {}).items()
        }

    def stored_volumes(self) -> dict[str, Any]:
        """Of each logical volume: size, permission, tags, and a hash of its bytes."""
        group = read_group(lambda offset, length: os.pread(self.fd, length, offset))
        return {
            name: [volume.size, volume.readonly, sorted(volume.tags), self._hash(_of(volume))]
            for name, volume in group.volumes.items()
        }

    def _hash(self, stretches: Sequence[Stretch]) -> str:
        sha = hashlib.sha256()
        for offset, start, length in stretches:
            for at, data in grains(self.fd, start, start + length):
                sha.update(b"%d:" % (offset + at - start))
                # A volume's block table has room for a disk of 2 TiB, which takes long to hash.
                sha.update(b"unused" if data == _UNUSED[: len(data)] else data)
        return sha.hexdigest()


def _of(volume: Volume) -> list[Stretch]:
    found, offset = [], 0
    for at, length in volume.segments:
        found.append(Stretch(offset, at, length))
        offset += length
    return found


def files_of(layout: Mapping[str, Any], directory: str, device: Volume) -> dict[str, File]:
    """The files of a directory, by path.

    Args:
        layout: what the guest's operation of that name says.
        directory: of it.
        device: what the file system is on, as a volume of the disk.
    """
    files = {}
    for name, (size, links, extents) in layout.items():
        stretches = []
        for offset, begin, length in extents:
            for at, piece in device.places(begin, length):
                stretches.append(Stretch(offset, at, piece))
                offset += piece
        files[f"{directory}/{name}"] = File(size, links, tuple(stretches))
    return files
