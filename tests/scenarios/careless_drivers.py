"""Drivers with a defect that only a power cut shows, made from the real ones.

Runs inside the guest. Both remove the old image of a disk that is reverted first, and only then
put the new one in its place: nobody notices, as long as the power stays.

    file-hasty    lvhd-hasty
"""

import os
from dataclasses import replace as changed

from srs import lvhd_layout as layout
from srs import registry
from srs.file import FileSR
from srs.journal import fsync_directory
from srs.lvhd import LVHDSR
from srs.vdi import Disk


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


for _driver in (HastyFileSR, HastyLVHDSR):
    registry.register(_driver)
