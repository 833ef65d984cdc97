"""What a collector does to the images of an SR; files.py and volumes.py know how.

Whoever calls holds the SR's lock. Journal entries, as XenServer's collectors write them:

    coalesce_<X>_1      X's data are being copied into its parent; nobody waits for it
    relink_<X>_1        they are all there: X's children are about to stand on the parent
    leaf_<L>_<P>        L's data are going into P, which is about to become L

`relink` must be kept: as soon as one child was moved, X is no longer its parent's only child,
and nothing else tells that it may be emptied all the same.
"""

from typing import Final, Protocol

from srs.journal import Journal
from srs.vdi import Disk

COALESCE: Final = "coalesce"
RELINK: Final = "relink"
LEAF: Final = "leaf"
#: The value of entries that say all with their name.
MARK: Final = "1"
#: An image that a leaf-coalesce has replaced is called so until it is removed.
OLD: Final = "OLD_"


class Medium(Protocol):
    """The images of one SR, as a collector changes them."""

    @property
    def journal(self) -> Journal:
        """Where the entries are."""

    def path(self, disk: Disk) -> str:
        """File or device of an image, readable until the merge ends."""

    def begin_merge(self, disk: Disk, parent: Disk) -> None:
        """Make the parent ready for the disk's data: as large, writable, and with room.

        If it has to grow, the disks that read through it are paused.

        Raises:
            SRNoSpace: the data would not fit.
            VDISize: the parent cannot be made that large.
        """

    def hold(self, disk: Disk) -> None:
        """Keep the disk and what it stands on readable when the SR's lock is given back."""

    def end_merge(self, disk: Disk, parent: Disk) -> None:
        """Undo hold, and what begin_merge did for the merge's duration."""

    def relink(self, child: Disk, parent: Disk) -> None:
        """Make the child stand on the parent, which holds all that it must read."""

    def settle(self, disks: list[Disk]) -> None:
        """Links below these disks have changed: make what they stand on now readable."""

    def remove(self, disks: list[Disk]) -> None:
        """Remove images that nobody reads, children before parents."""

    def take_place(self, disk: Disk, parent: Disk) -> None:
        """The parent, which holds the disk's data, becomes the disk. The disk is paused.

        Atomic: after a crash, `end_leaf` finds either the disk above its parent or the new one.
        """

    def end_leaf(self, leaf: str, parent: str) -> None:
        """End one of them, or one whose entry has no value: nothing was done. The entry stays."""

    def allocated(self, disk: Disk) -> int:
        """Bytes of data in the image itself."""
