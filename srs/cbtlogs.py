"""Where an SR keeps the logs of changed block tracking: files, or volumes.

    Exception
    ├── LVMError · LVMNoRoom (srs.lvm)      the group refused, or is full
    └── VHDError (srs.vhd)                  a log cannot be written

The log of a disk is `<uuid>.cbtlog`, beside the disk. A log appears complete or not at all, and
each of these changes is durable when it returns.
"""

import os
from typing import Final, Protocol

from srs import filenames
from srs import lvhd_layout as layout
from srs.journal import fsync_directory
from srs.vdi import uuid_in
from srs.vhd import cbt
from srs.volumes import EXTENT, VolumeGroup

SUFFIX: Final = ".cbtlog"
_NEW: Final = ".new"


class Logs(Protocol):
    """The logs of an SR, by the uuids of their disks."""

    def uuids(self) -> list[str]:
        """The disks that have a log."""

    def exists(self, uuid: str) -> bool:
        """Whether a disk has a log."""

    def place(self, uuid: str) -> str:
        """The file or device where a disk's log is or would be."""

    def open(self, uuid: str, *, keep: bool = False) -> str:
        """Make a log readable until the call ends, or with `keep` beyond; returns its place."""

    def create(self, uuid: str, size: int) -> None:
        """Make an empty log for a disk of this size (bytes), in place of an old one."""

    def rename(self, old: str, new: str) -> None:
        """Make the log of one disk that of another, which has none."""

    def remove(self, uuid: str) -> None:
        """Remove a log, if it is there."""

    def close(self, uuid: str) -> None:
        """Nobody on this host needs the log to stay readable any longer."""


class FileLogs:
    """Logs as files in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def uuids(self) -> list[str]:
        """See Logs."""
        names = os.listdir(self._directory)
        return sorted(uuid for name in names if name == (uuid := uuid_in(name)) + SUFFIX)

    def exists(self, uuid: str) -> bool:
        """See Logs."""
        return filenames.exists(self.place(uuid))

    def place(self, uuid: str) -> str:
        """See Logs."""
        return os.path.join(self._directory, uuid + SUFFIX)

    def open(self, uuid: str, *, keep: bool = False) -> str:
        """See Logs: files need no opening."""
        return self.place(uuid)

    def create(self, uuid: str, size: int) -> None:
        """See Logs."""
        path = self.place(uuid)
        cbt.create(path + _NEW, size)
        filenames.rename(path + _NEW, path)
        fsync_directory(self._directory)

    def rename(self, old: str, new: str) -> None:
        """See Logs."""
        filenames.rename(self.place(old), self.place(new))
        fsync_directory(self._directory)

    def remove(self, uuid: str) -> None:
        """See Logs."""
        if filenames.remove(self.place(uuid)):
            fsync_directory(self._directory)

    def close(self, uuid: str) -> None:
        """See Logs: files need no closing."""


class VolumeLogs:
    """Logs as volumes of a group; one extent is enough for the largest disk."""

    def __init__(self, group: VolumeGroup) -> None:
        self._group = group

    def uuids(self) -> list[str]:
        """See Logs."""
        return sorted(filter(None, map(layout.log_disk_of, self._group.volumes)))

    def exists(self, uuid: str) -> bool:
        """See Logs."""
        return layout.log_name(uuid) in self._group.volumes

    def place(self, uuid: str) -> str:
        """See Logs."""
        return self._group.path(layout.log_name(uuid))

    def open(self, uuid: str, *, keep: bool = False) -> str:
        """See Logs."""
        self._group.activate(layout.log_name(uuid), keep=keep)
        return self.place(uuid)

    def create(self, uuid: str, size: int) -> None:
        """See Logs. Until its content is written the volume is rubbish, and marked so."""
        self.remove(uuid)
        name = layout.log_name(uuid)
        path = self._group.create(name, EXTENT, tags=(layout.LOG_TAG, layout.UNFINISHED_TAG))
        try:
            cbt.create(path, size)
            self._group.change_tag(name, remove=layout.UNFINISHED_TAG)
        except BaseException:
            self._group.remove(name)
            raise

    def rename(self, old: str, new: str) -> None:
        """See Logs."""
        self._group.deactivate(layout.log_name(old))
        self._group.rename(layout.log_name(old), layout.log_name(new))

    def remove(self, uuid: str) -> None:
        """See Logs."""
        if self.exists(uuid):
            self._group.remove(layout.log_name(uuid))

    def close(self, uuid: str) -> None:
        """See Logs."""
        if self.exists(uuid):
            self._group.deactivate(layout.log_name(uuid))
