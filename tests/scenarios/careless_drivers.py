"""Drivers with a defect that only a power cut shows, made from the real ones.

Runs inside the guest. Nobody notices, as long as the power stays.

    file-hasty    lvhd-hasty    the old image of a disk that is reverted goes first, and only then
                                the new one takes its place
    lvhd-forgetful              commits of LVM's metadata are not flushed: what is written after one
                                may last, and the commit may not
    file-forgetful              entries of the journal are not synced. The name is durable with the
                                next sync of anything, the value is not: ext4 orders data before
                                names only where a file replaces another
"""

import os
from dataclasses import replace as changed
from typing import Any

from srs import lvhd_layout as layout
from srs import lvm, registry
from srs.file import FileSR
from srs.journal import FileJournal, fsync_directory
from srs.lvhd import LVHDSR
from srs.lvhd_store import VolumeStore
from srs.vdi import Disk
from srs.volumes import VolumeGroup


class HastyFileSR(FileSR):
    """See the module."""

    info = changed(FileSR.info, type="file-hasty")

    def replace(self, target: Disk, like: Disk) -> Disk:
        """The old image goes before the new one is there."""
        os.unlink(self.store.path_of(target))
        fsync_directory(self.path)
        return super().replace(target, like)


class HastyLVHDSR(LVHDSR):
    """See the module."""

    info = changed(LVHDSR.info, type="lvhd-hasty")

    def replace(self, target: Disk, like: Disk) -> Disk:
        """The old image goes before the new one has its name."""
        incoming, name = layout.incoming_name(target.uuid), layout.vhd_name(target.uuid)
        self.store.group.activate(incoming)
        self.store.write_leaf(self.store.group.path(incoming), like)
        new = self.store.vhd_in(self.store.group.volume(incoming), target.uuid)
        self.store.group.release()
        self.store.group.remove(name)
        self.store.group.rename(incoming, name)
        return changed(new, utilisation=self.store.volume_of(target.uuid).size)


class ForgetfulJournal(FileJournal):
    """See the module."""

    def create(self, kind: str, id: str, value: str) -> None:
        """The entry, without a sync of the file."""
        with open(self._path(kind, id), "x", encoding="ascii") as file:
            file.write(f"{value}\n")
        fsync_directory(self._directory)


class ForgetfulFileSR(FileSR):
    """See the module."""

    info = changed(FileSR.info, type="file-forgetful")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.store.journal = ForgetfulJournal(self.path, self.store.journal._kinds)


class ForgetfulGroup(VolumeGroup):
    """See the module."""

    def _commit(self, *words: str) -> None:
        """The change, without a flush of the devices."""
        try:
            lvm.lvm(*words)
        except BaseException:
            self.reread()
            raise


class ForgetfulLVHDSR(LVHDSR):
    """See the module."""

    info = changed(LVHDSR.info, type="lvhd-forgetful")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.group = ForgetfulGroup(self.group.name)
        self.store = VolumeStore(self.group, self.store.counts, self._is_written)


for _driver in (HastyFileSR, HastyLVHDSR, ForgetfulFileSR, ForgetfulLVHDSR):
    registry.register(_driver)
