"""Coalesce: a base copy X goes down into its parent P, and its children stand on P.

    1  journal coalesce_X; P is made ready            under the SR's lock
    2  X's data are copied into P                     without it: nobody sees a difference
    3  journal relink_X in place of coalesce_X        under the lock again
    4  the disks above X are paused; X's children get P for a parent, one by one
    5  drop the journal, remove X

While the data are copied X still covers all that P gets, and neither of them has another
child: that is the rule by which X was chosen. A disk that is reverted, snapshot or deleted
meanwhile stands on X like its siblings, so the children are looked up in step 4, not before.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from errno import EIO
from typing import NoReturn

from srs import fist, locks, records, vhd
from srs.cow import CowSR
from srs.gc.medium import COALESCE, MARK, RELINK, Medium
from srs.gc.tree import Forest
from srs.session import Record
from srs.vdi import Disk

#: Called with the blocks that are behind, and all of them; what it raises ends the copy.
Progress = Callable[[int, int], None]


class Bases:
    """What is done to base copies, in the time of one call that holds the SR's lock."""

    def __init__(self, sr: CowSR) -> None:
        self.sr = sr
        self.medium: Medium = sr.medium()
        self.forest = Forest(sr.disks())

    @contextmanager
    def paused_above(self, disk: Disk) -> Iterator[list[Disk]]:
        """Keep the disks still that read through an image; gives them."""
        leaves = self.forest.leaves_above(disk.uuid)
        with ExitStack() as pauses:
            for leaf in leaves:
                ref = self.sr.session.vdi_ref(leaf.uuid)
                pauses.enter_context(self.sr.paused(leaf.uuid, ref))
            yield leaves

    def begin(self, disk: Disk, parent: Disk) -> str:
        """Step 1; the path of the disk, whose data can be copied when this returns."""
        fist.point("LVHDRT_finding_a_suitable_pair")
        # First of all, so that whatever a crash leaves of the rest is given up.
        self.medium.journal.create(COALESCE, disk.uuid, MARK)
        with fist.undone_by(lambda: self.give_up(disk, parent)):
            with self.paused_above(parent) if disk.size > parent.size else nullcontext():
                self.medium.begin_merge(disk, parent)
            self.medium.hold(disk)
        return self.medium.path(disk)

    def give_up(self, disk: Disk, parent: Disk) -> None:
        """The data were not copied, or not all of them: which matters to nobody."""
        self.medium.end_merge(disk, parent)
        self.tell(parent.uuid)
        self.medium.journal.remove(COALESCE, disk.uuid)

    def commit(self, disk: Disk, parent: Disk) -> None:
        """Steps 3 to 5. Of both entries RELINK is the one that counts."""
        fist.point("LVHDRT_before_create_relink_journal")
        self.medium.journal.create(RELINK, disk.uuid, MARK)
        self.medium.journal.remove(COALESCE, disk.uuid)
        self.relink(disk, parent)

    def relink(self, disk: Disk, parent: Disk) -> None:
        """Steps 4 and 5; a second time they do what is left of them.

        Until then the disk was its parent's only child: others there were relinked before a cut,
        which may have left a locator that still leads to the disk.
        """
        others = (child for child in self.forest.children(parent.uuid) if child.uuid != disk.uuid)
        children = [*self.forest.children(disk.uuid), *others]
        with self.paused_above(parent) as leaves:
            fist.point("LVHDRT_relinking_grandchildren")
            for child in children:
                self.medium.relink(child, parent)
            self.medium.end_merge(disk, parent)
            self.medium.settle(leaves)
        known = self._known()
        for uuid in (parent.uuid, *(child.uuid for child in children)):
            if uuid in known:
                records.refresh(self.sr.session, *known[uuid], self.sr.disk(uuid))
        self.medium.journal.remove(RELINK, disk.uuid)
        self.remove([disk])

    def remove(self, disks: list[Disk]) -> None:
        """Remove images that nobody reads, children before parents, and what is known of them."""
        known = self._known()
        self.medium.remove(disks)
        for disk in disks:
            self.sr.forget(disk.uuid)
            locks.remove(disk.uuid)
            if disk.uuid in known:
                records.forget(self.sr.session, known[disk.uuid][0])
        records.adjust_space(self.sr.session, self.sr.ref, self.sr.space(), 0)

    def correct_records(self) -> None:
        """Make the database agree about images that an earlier collector has changed."""
        for uuid, (ref, record) in self._known().items():
            if uuid in self.forest.disks:
                records.refresh(self.sr.session, ref, record, self.forest.disks[uuid])
            elif not record["managed"]:
                self.sr.forget(uuid)
                records.forget(self.sr.session, ref)

    def tell(self, uuid: str) -> None:
        """Make the database agree about one image, which may be gone."""
        session = self.sr.session
        ref = records.find(session, uuid)
        if not self.sr.exists(uuid):
            self.sr.forget(uuid)
            locks.remove(uuid)
            if ref:
                records.forget(session, ref)
        elif ref:
            records.refresh(session, ref, session.vdi_record(ref), self.sr.disk(uuid))

    def _known(self) -> dict[str, tuple[str, Record]]:
        """Uuid -> reference and record of the disks in the database."""
        found = self.sr.session.vdi_records_of(self.sr.ref)
        return {str(record["uuid"]): (ref, record) for ref, record in found.items()}


def copy_down(path: str, progress: Progress) -> int:
    """Step 2: copy the data of an image into its parent, after a look at its metadata.

    Returns the bytes that were copied.

    Raises:
        VHDError: the image is damaged, or one of both cannot be read or written. The parent
            stays whole, and the copy may be repeated.
    """
    report = vhd.check(path, ignore_footer=True, ignore_timestamps=True)
    if not report.valid:
        raise vhd.InvalidImage(path, report.findings[0].text)
    fist.point("LVHDRT_coalescing_VHD_data")
    fist.point("cleanup_coalesceVHD_inject_failure", _fail)
    return vhd.coalesce(path, progress=progress) * vhd.SECTOR


def _fail() -> NoReturn:
    raise vhd.StorageFailed("fist", "coalesce", os.strerror(EIO), EIO)
