"""Images as files in one directory, and how they change so that a crash loses nothing.

    Exception
    ├── VDIUnavailable 46      no such image
    ├── SRScan 40              one image of many cannot be read
    ├── VDISize 79             an image cannot be made that large
    └── Unimplemented 38       resizing a raw disk

A new image is written as `<name>.new`, made durable, and renamed: the rename is the commit
point, and a leftover `.new` is rubbish. Splitting a disk and replacing one, which take several
steps, are in srs.file_split and srs.file_replace.

Images have block tables for their size. Growing one may have to move blocks; until that is
done a file `.journal-<uuid>` can undo it.

Whoever uses a store holds the SR's lock.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from srs import filenames, fist, vhd
from srs.errors import SRScan, Unimplemented, VDISize, VDIUnavailable
from srs.gc.medium import LEAF
from srs.journal import RESIZE, REVERT, SPLIT, Entry, FileJournal, fsync_directory
from srs.vdi import MAX_SIZE, Disk, uuid_in

#: What a leaf-coalesce has replaced, see srs.gc.files: no disk of its own.
_OLD: Final = "OLD_"
NEW: Final = ".new"
#: What may be left half written: images and logs.
_UNFINISHED: Final = tuple(kind + NEW for kind in (".vhd", ".raw", ".cbtlog"))
#: Kinds of journal entries, in the order in which they are settled: a leaf-coalesce may have been
#: about to make its base copy larger.
_ORDER: Final = (RESIZE, LEAF, SPLIT, REVERT)
#: Names of the undo journals of the VHD engine begin so.
_UNDO: Final = ".journal-"


class FileStore:
    """The images in a directory, and the journal beside them."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.journal = FileJournal(directory, _ORDER)

    def path(self, name: str) -> str:
        """A file of the directory."""
        return os.path.join(self._directory, name)

    def path_of(self, disk: Disk) -> str:
        """The file of a disk."""
        return self.path(f"{disk.uuid}.{'raw' if disk.raw else 'vhd'}")

    def vhd_path(self, uuid: str) -> str:
        """The file of a VHD."""
        return self.path(f"{uuid}.vhd")

    # -- looking

    def exists(self, uuid: str) -> bool:
        """Whether there is an image of this uuid."""
        return any(filenames.exists(self.path(f"{uuid}.{kind}")) for kind in ("vhd", "raw"))

    def disk(self, uuid: str) -> Disk:
        """An image.

        Raises:
            VDIUnavailable: not there, or not readable.
        """
        try:
            raw = os.stat(self.path(f"{uuid}.raw"))
        except FileNotFoundError:
            return self._vhd_disk(uuid)
        return Disk(uuid, raw.st_size, raw.st_size, raw=True)

    def _vhd_disk(self, uuid: str) -> Disk:
        path = self.vhd_path(uuid)
        try:
            utilisation = os.stat(path).st_size
            info = vhd.query(path, resolve_parent=False)
        except FileNotFoundError:
            raise VDIUnavailable(f"{uuid} is not on this SR") from None
        except vhd.VHDError as error:
            raise VDIUnavailable(str(error)) from error
        parent = uuid_in(info.stored_parent)
        return Disk(uuid, info.size, utilisation, hidden=info.hidden != 0, parent=parent)

    def disks(self) -> list[Disk]:
        """All images.

        Raises:
            SRScan: one cannot be read.
        """
        names = (os.path.splitext(name) for name in sorted(os.listdir(self._directory)))
        try:
            return [
                self.disk(uuid)
                for uuid, kind in names
                if kind in (".vhd", ".raw") and not uuid.startswith(_OLD)
            ]
        except VDIUnavailable as error:
            raise SRScan(error.opterr) from error

    def has_data(self, disk: Disk) -> bool:
        """Whether the image holds any block."""
        path = self.vhd_path(disk.uuid)
        return bool(vhd.query(path, resolve_parent=False, allocated=True).allocated)

    def depth(self, disk: Disk) -> int:
        """How many images a reader follows."""
        return vhd.query(self.vhd_path(disk.uuid), depth=True).depth or 1

    # -- changing

    def allocate(self, uuid: str, size: int, *, raw: bool) -> Disk:
        """Make an empty image."""
        if raw:
            return self._put_raw(uuid, size)
        return self.put_leaf(uuid, Disk("", size, 0))

    def _put_raw(self, uuid: str, size: int) -> Disk:
        name = f"{uuid}.raw"
        with open(self.path(name + NEW), "wb") as file:
            file.truncate(size)
        self._commit(name)
        return self.disk(uuid)

    def put_leaf(self, uuid: str, like: Disk) -> Disk:
        """Make the image `uuid`, or put it in the place of the old one: an empty leaf like `like`.

        Args:
            uuid: the disk.
            like: a base copy, or a disk without data of its own; the leaf gets its size, and
                stands on it or on what it stands on.
        """
        with self.new_leaf(uuid, like):
            pass
        return self.disk(uuid)

    @contextmanager
    def new_leaf(self, uuid: str, like: Disk) -> Iterator[None]:
        """As put_leaf; the block runs when the new image is whole, and not in its place yet."""
        name = f"{uuid}.vhd"
        with fist.undone_by(lambda: self._unlink(name + NEW)):
            if like.parent or like.hidden:
                vhd.snapshot(self.path(name + NEW), self.path_of(like))
            else:
                vhd.create(self.path(name + NEW), like.size)
            yield
            self._commit(name)

    def _commit(self, name: str) -> None:
        """Put a new file in its place: it is whole, then it is there, then that is durable."""
        fd = os.open(self.path(name + NEW), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        filenames.rename(self.path(name + NEW), self.path(name))
        fsync_directory(self._directory)

    def _unlink(self, name: str) -> bool:
        return filenames.remove(self.path(name))

    def remove(self, *names: str) -> None:
        """Remove those of the files that are there, for good."""
        gone = [self._unlink(name) for name in names]
        if any(gone):
            fsync_directory(self._directory)

    def destroy(self, disk: Disk) -> None:
        """Remove an image, and what a resize that failed left beside it."""
        self.remove(
            os.path.basename(self.path_of(disk)), _UNDO + disk.uuid, f"{RESIZE}_{disk.uuid}"
        )

    def grow(self, disk: Disk, size: int) -> Disk:
        """Make an image larger; after a crash in the middle :meth:`undo_growth` helps."""
        if disk.raw:
            raise Unimplemented("raw disks in files do not grow")
        try:
            vhd.resize(self.vhd_path(disk.uuid), size, journal=self.path(_UNDO + disk.uuid))
        except vhd.SizeRefused as error:
            raise VDISize(error) from error
        return self.disk(disk.uuid)

    # -- after a crash

    def pending(self) -> list[Entry]:
        """Entries of the journal, and those that are missing, in the order to settle them in.

        Undo journals that other programs left are resizes, old images leaf-coalesces.
        """
        names = os.listdir(self._directory)
        entries = self.journal.entries(names)
        known = {(entry.kind, entry.id) for entry in entries}
        left = {(RESIZE, name.removeprefix(_UNDO)) for name in names if name.startswith(_UNDO)}
        left |= {(LEAF, uuid_in(name)) for name in names if name.startswith(_OLD)}
        entries += [Entry(*which, "") for which in sorted(left - known)]
        return sorted(entries, key=lambda entry: _ORDER.index(entry.kind))

    def undo_growth(self, entry: Entry) -> bool:
        """Bring back an image that a crash left between two sizes; says whether it is larger.

        Raises:
            VHDError: there is no way back.
            VDIUnavailable: it is lost.
        """
        undo, image = self.path(_UNDO + entry.id), self.vhd_path(entry.id)
        if not filenames.exists(image):
            return False
        if filenames.exists(undo):
            vhd.revert_journal(image, undo)
        return self.disk(entry.id).size > int(entry.value.partition("_")[0] or MAX_SIZE)

    def drop(self, entry: Entry) -> None:
        """Drop an entry."""
        undo = [_UNDO + entry.id] if entry.kind == RESIZE else []
        self.remove(f"{entry.kind}_{entry.id}", *undo)

    def sweep(self) -> None:
        """Remove what was being written when a call died."""
        for name in os.listdir(self._directory):
            # Not what another host writes while it attaches the SR.
            if name.endswith(_UNFINISHED):
                self._unlink(name)
