"""Images as files in one directory, and how they change so that a crash loses nothing.

    Exception
    ├── VDIUnavailable 46      no such image
    ├── SRScan 40              one image of many cannot be read
    ├── VDISize 79             an image cannot be made that large
    └── Unimplemented 38       resizing a raw disk

A new image is written as `<name>.new`, made durable, and renamed: the rename is the commit
point, and a leftover `.new` is rubbish. That one step is all that a revert needs, because
rename(2) drops the old image in it. Splitting a disk D into base B and leaves takes several:

    1  journal clone_<D> = <B>_<twin>
    2  link(D, B)                          B and D are one file
    3  D.new, twin.new: leaves above B; twin.new -> twin
    4  rename(D.new, D)                    commit point: D is a leaf above B
    5  hide B
    6  drop the journal

Until step 4 recovery removes B and the leaves; after it, it hides B. B cannot be hidden
earlier: it shares its footer with D.

Images have block tables for their size. Growing one may have to move blocks; until that is
done a file `.journal-<uuid>` can undo it.
"""

import errno
import os
from contextlib import suppress
from typing import Final, NoReturn

from srs import fist, vhd
from srs.errors import SRScan, Unimplemented, VDISize, VDIUnavailable
from srs.journal import FileJournal, fsync_directory
from srs.snapshot import Branch
from srs.vdi import Disk, uuid_in

_NEW: Final = ".new"
_SPLIT: Final = "clone"
#: What a leaf-coalesce has replaced, see srs.gc.files: no disk of its own.
_OLD: Final = "OLD_"
_NO_TWIN: Final = "-"
#: Names of the undo journals of resizes begin so.
_RESIZE: Final = ".journal-"


class FileStore:
    """The images in a directory; whoever uses it holds the SR's lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._journal = FileJournal(directory, (_SPLIT,))

    def path(self, name: str) -> str:
        """A file of the directory."""
        return os.path.join(self._directory, name)

    def path_of(self, disk: Disk) -> str:
        """The file of a disk."""
        return self.path(f"{disk.uuid}.{'raw' if disk.raw else 'vhd'}")

    def _vhd(self, uuid: str) -> str:
        return self.path(f"{uuid}.vhd")

    # -- looking

    def exists(self, uuid: str) -> bool:
        """Whether there is an image of this uuid."""
        return any(os.path.exists(self.path(f"{uuid}.{kind}")) for kind in ("vhd", "raw"))

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
        path = self._vhd(uuid)
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
        return bool(vhd.query(self._vhd(disk.uuid), resolve_parent=False, allocated=True).allocated)

    def depth(self, disk: Disk) -> int:
        """How many images a reader follows."""
        return vhd.query(self._vhd(disk.uuid), depth=True).depth or 1

    # -- changing

    def allocate(self, uuid: str, size: int, *, raw: bool) -> Disk:
        """Make an empty image."""
        if raw:
            return self._put_raw(uuid, size)
        return self.put_leaf(uuid, Disk("", size, 0))

    def _put_raw(self, uuid: str, size: int) -> Disk:
        name = f"{uuid}.raw"
        with open(self.path(name + _NEW), "wb") as file:
            file.truncate(size)
        self._commit(name)
        return self.disk(uuid)

    def put_leaf(self, uuid: str, like: Disk) -> Disk:
        """Make the image `uuid`, or put it in the place of the old one: an empty leaf like `like`.

        Args:
            uuid: the disk.
            like: a disk without data of its own, whose size and ancestors it gets.
        """
        name = f"{uuid}.vhd"
        try:
            if like.parent:
                vhd.snapshot(self.path(name + _NEW), self.path_of(like))
            else:
                vhd.create(self.path(name + _NEW), like.size)
            self._commit(name)
        except BaseException:
            self._remove(name + _NEW)
            raise
        return self.disk(uuid)

    def _commit(self, name: str) -> None:
        """Put a new file in its place: it is whole, then it is there, then that is durable."""
        fd = os.open(self.path(name + _NEW), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(self.path(name + _NEW), self.path(name))
        fsync_directory(self._directory)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            return

    def destroy(self, disk: Disk) -> None:
        """Remove an image."""
        self._remove(os.path.basename(self.path_of(disk)))
        fsync_directory(self._directory)

    def grow(self, disk: Disk, size: int) -> Disk:
        """Make an image larger; after a crash in the middle :meth:`recover` undoes it."""
        if disk.raw:
            raise Unimplemented("raw disks in files do not grow")
        try:
            vhd.resize(self._vhd(disk.uuid), size, journal=self.path(_RESIZE + disk.uuid))
        except vhd.SizeRefused as error:
            raise VDISize(error) from error
        return self.disk(disk.uuid)

    def insert_base(self, disk: Disk, base: str, twin: str) -> Branch:
        """Split a disk; see the module's text for the steps."""
        self._journal.create(_SPLIT, disk.uuid, f"{base}_{twin or _NO_TWIN}")
        with fist.undone_by(lambda: self._settle(disk.uuid, base, twin)):
            fist.point("FileSR_fail_hardlink", _no_hardlinks)
            os.link(self._vhd(disk.uuid), self._vhd(base))
            fist.point("FileSR_fail_snap1", _full)
            if twin:
                vhd.snapshot(self._vhd(twin) + _NEW, self._vhd(base))
                self._commit(f"{twin}.vhd")
            fist.point("FileSR_fail_snap2", _full)
            vhd.snapshot(self._vhd(disk.uuid) + _NEW, self._vhd(base))
            self._commit(f"{disk.uuid}.vhd")  # the commit point
        self._settle(disk.uuid, base, twin)
        return Branch(self.disk(disk.uuid), self.disk(base), self.disk(twin) if twin else None)

    def _settle(self, leaf: str, base: str, twin: str) -> None:
        """End a split: undo it before its commit point, finish it after; drop the journal."""
        if os.path.exists(self._vhd(base)):
            if os.path.samefile(self._vhd(leaf), self._vhd(base)):
                for name in (f"{twin}.vhd", f"{twin}.vhd{_NEW}", f"{leaf}.vhd{_NEW}"):
                    self._remove(name)
                self._remove(f"{base}.vhd")
                fsync_directory(self._directory)
            else:
                vhd.set_hidden(self._vhd(base), True)
        self._journal.remove(_SPLIT, leaf)

    def is_pending(self, uuid: str) -> bool:
        """Whether a split or a resize of the image was begun."""
        resizing = os.path.exists(self.path(_RESIZE + uuid))
        return resizing or any(entry.id == uuid for entry in self._journal.entries())

    def recover(self) -> list[str]:
        """End what a crash interrupted; returns the disks that it was about."""
        touched = []
        for entry in self._journal.entries():
            base, _, twin = entry.value.partition("_")
            self._settle(entry.id, base, "" if twin == _NO_TWIN else twin)
            touched += [entry.id]
        for name in os.listdir(self._directory):
            if name.endswith(_NEW):
                self._remove(name)
            elif name.startswith(_RESIZE):
                uuid = name.removeprefix(_RESIZE)
                # An image that cannot be brought back is poisoned, and says so to its users.
                with suppress(vhd.VHDError):
                    vhd.revert_journal(self._vhd(uuid), self.path(name))
                touched.append(uuid)
        return touched


def _no_hardlinks() -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _full() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
