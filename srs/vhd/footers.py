"""Finding the footer of a disk and writing both copies of it.

The primary footer is the last 512 bytes of the file or device; 511 when an old writer lost the
final byte, which is zero. Sparse disks keep a backup at byte 0. A disk that is being written, or
was when the power went, has data where the primary was: then the backup speaks for it.
"""

from dataclasses import dataclass, replace

from srs.vhd.backing import Backing
from srs.vhd.errors import BadFooter, Poisoned
from srs.vhd.format import FIXED, SECTOR, Footer

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class FoundFooter:
    """A disk's footer, and the byte where its primary copy lies (None if that copy is lost).

    ``stale_backup``: the backup of a sparse disk is not the same, see :func:`renew_backup`.
    """

    footer: Footer
    primary_at: int | None
    stale_backup: bool = False


def find_footer(backing: Backing, *, poisoned: bool = False) -> FoundFooter:
    """The footer of an open disk: primary, else the 511-byte form, else the backup.

    A valid primary wins over a backup that differs from it (a writer changes the primary first),
    unless the two name different disks: then the primary is a leftover of whoever had these
    extents before, or guest data at the end of a file that lost its own footer in a crash. So is
    one that calls a sparse disk fixed, see :func:`is_flat`.

    Raises:
        BadFooter: no copy is whole; the reason is that of the primary.
        Poisoned: an interrupted journaled resize owns the disk, and ``poisoned`` is not set.
    """
    raw, at = read_primary(backing, backing.size())
    try:
        primary = Footer.unpack(raw, backing.path, poisoned=poisoned)
    except (BadFooter, Poisoned) as error:
        backup = read_backup(backing, poisoned=poisoned)
        own = isinstance(error, Poisoned) and backup and error.unique_id == backup.unique_id
        if backup is None or own:
            raise
        return FoundFooter(backup, None)
    if is_flat(backing, primary, at):
        return FoundFooter(primary, at)
    backup = read_backup(backing, poisoned=poisoned)
    if backup and (primary.disk_type == FIXED or backup.unique_id != primary.unique_id):
        return FoundFooter(backup, None)
    if backup and Footer.old_tap(primary.creator, primary.creator_version):
        primary = replace(primary, hidden=backup.hidden)
    return FoundFooter(primary, at, stale_backup=backup != primary)


def is_flat(backing: Backing, primary: Footer, at: int) -> bool:
    """True if the footer ``primary``, found at byte ``at``, makes the disk a fixed one.

    What stands at byte 0 of a fixed disk is up to its guest, so it counts for nothing where the
    last sector is the host's: on a device, and in a file that ends as fixed disks do. The last
    sector of a file that a cut or another writer left may be a guest's, but a backup at byte 0
    is the host's then. Such files end with a block or a page, on 4 KiB, and fixed disks do not:
    their data do, and the footer comes behind.
    """
    if primary.disk_type != FIXED:
        return False
    belongs = backing.is_block or (primary.size == at and (at + SECTOR) % _PAGE != 0)
    return belongs or read_backup(backing, poisoned=True) is None


def read_primary(backing: Backing, size: int) -> tuple[bytes, int]:
    """The sector where the primary footer of a file of ``size`` bytes belongs, and its place."""
    at = max(0, size - SECTOR)
    tail = backing.read(at, SECTOR)
    if size % SECTOR == SECTOR - 1:
        return tail[1:] + b"\0", at + 1
    return tail, at


def read_backup(backing: Backing, *, poisoned: bool = False) -> Footer | None:
    """The copy at byte 0, which is data in a fixed disk and therefore never one of those."""
    try:
        backup = Footer.unpack(backing.read(0, SECTOR), backing.path, poisoned=poisoned)
    except BadFooter:
        return None
    return None if backup.disk_type == FIXED else backup


def write_footers(backing: Backing, footer: Footer, primary_at: int) -> None:
    """Make ``footer`` the durable footer of the disk, at ``primary_at`` and, if sparse, at 0.

    The primary is the commit point. Until it is whole the backup still holds the old footer;
    the backup is written once the primary is durable, so a cut at any moment leaves one of them.
    """
    raw = footer.pack()
    write_primary(backing, raw, primary_at)
    backing.sync()
    if footer.disk_type != FIXED:
        backing.write(0, raw)
        backing.sync()


def renew_backup(backing: Backing, found: FoundFooter) -> None:
    """Make a backup durable that a cut left behind the primary.

    To be called before the primary is overwritten or moved: should that be cut, the backup speaks
    for the disk, and an old one would take back its size, and with it data.
    """
    if found.stale_backup:
        backing.write(0, found.footer.pack())
        backing.sync()


def write_primary(backing: Backing, raw: bytes, at: int) -> None:
    """Put the packed footer at byte ``at``, which becomes the last sector of a regular file.

    What is behind is cut off when the footer is durable: what was there may be an older one.
    """
    backing.write(at, raw)
    if not backing.is_block and backing.size() != at + SECTOR:
        backing.sync()
        backing.truncate(at + SECTOR)
