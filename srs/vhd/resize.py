"""Changing the virtual size of a disk.

Within the room of its block table a disk grows by a rewrite of its footers. Everything else,
growing beyond it or shrinking, rewrites all metadata in place, and moves the blocks that stand
where the larger tables will. What is overwritten goes into an undo journal first:

1. The journal is written whole and made durable (srs/vhd/journal.py).
2. Both footers are poisoned, durably. From here on nobody opens the disk.
3. Blocks in the way are copied to the end, all metadata are written, and a sync makes that
   durable.
4. The new primary footer is written, then the backup: the commit point.
5. The journal is dropped. Only then does a shrunk file lose its tail.

After a cut between 2 and 4 the disk is poisoned and :func:`revert_journal` brings the old one
back. A disk that is not poisoned is whole: a journal beside it is unfinished or no longer
needed, and undoing it could destroy what was written since.

A differencing disk never becomes shorter than its parent: what that holds behind the new end would
come back when the disk grows again.
"""

import os
from contextlib import suppress
from errno import ENOENT
from uuid import UUID

from srs.vhd.backing import AnyPath, Backing, exists_as_file
from srs.vhd.errors import (
    JournalDamaged,
    JournalExists,
    JournalMismatch,
    Poisoned,
    SizeRefused,
    StorageFailed,
    VHDError,
)
from srs.vhd.footers import find_footer, write_footers, write_primary
from srs.vhd.format import BLOCK, MAX_SIZE, SECTOR, Footer, round_to_block
from srs.vhd.image import Image
from srs.vhd.journal import BACKUP, PRIMARY, Journal, Place, drop, read_header, save
from srs.vhd.modify import replace_footer
from srs.vhd.parent import open_parent
from srs.vhd.rearrange import carry_out, plan_for


def resize(path: AnyPath, size: int, *, journal: AnyPath | None = None) -> None:
    """Make the virtual disk ``size`` bytes large, rounded up to 2 MiB.

    Without ``journal`` it can grow as far as its block table has room (see ``max_size`` of
    :func:`create`), which costs two sectors. ``journal``, the path of a file to be made or of a
    block device, lets it have any size: blocks in the way of larger tables move to the end, and
    blocks behind the end of a smaller disk are gone. Such a resize that fails is undone, unless
    only its very last sync did: then the disk keeps its new size. After a crash, or where the
    medium refuses that, too, :func:`revert_journal` does it.

    Raises:
        SizeRefused: outside what is said above, above 2040 GiB, or smaller than it is and than
            its parent.
        JournalExists: ``journal`` is a file that exists.
        NotSparse: a fixed disk.
        BadHeader: a disk that is to be rearranged, but was not arranged by XenServer's tools.
        VHDError: disk or journal cannot be opened or written, or the parent of a differencing
            disk that is to shrink cannot be opened.
    """
    path = os.fspath(path)
    if journal is not None and exists_as_file(os.fspath(journal)):
        raise JournalExists(os.fspath(journal))
    with Backing(path, writable=True) as backing:
        found = find_footer(backing)
        image = Image(backing, found)
        size = round_to_block(size)
        limit = min(image.header.slots * BLOCK, MAX_SIZE)
        if image.size <= size <= limit:
            image.clear_slots(size)
            if image.batmap is not None:
                image.batmap.extend(size)
            replace_footer(backing, found, found.footer.resized(size))
        elif journal is not None:
            _rearrange(image, size, os.fspath(journal))
        else:
            raise SizeRefused(path, size, image.size, limit)


def _rearrange(image: Image, size: int, journal: str) -> None:
    """Resize with a journal; see the module's text for the steps."""
    backing, plan = image.backing, plan_for(image, size)
    if size < image.size and image.differencing:
        _refuse_below_parent(image, size)
    old_at = image.primary_at
    if old_at is None:
        old_at = replace_footer(backing, find_footer(backing), image.footer)
    keeps_length = backing.is_block or size < image.size
    try:
        places = [Place(PRIMARY, old_at, SECTOR), *plan.saved]
        save(journal, backing, image.unique_id, old_at, places)
        for at in (old_at, 0):
            backing.write(at, image.footer.poisoned())
        backing.sync()
        carry_out(image, plan)
        # The commit point is in here: both footers clean.
        write_footers(backing, plan.footer, old_at if keeps_length else plan.end * SECTOR)
    except BaseException:
        with suppress(VHDError):
            revert_journal(backing.path, journal)
        raise
    with Backing(journal, writable=True) as file:
        drop(file, Journal(image.unique_id, old_at))
    if not backing.is_block and keeps_length:
        write_primary(backing, plan.footer.pack(), plan.end * SECTOR)
        backing.sync()


def _refuse_below_parent(image: Image, size: int) -> None:
    """Raise SizeRefused if the parent of ``image`` is longer than ``size`` bytes."""
    parent = open_parent(image)
    parent.close()
    if size < parent.size:
        raise SizeRefused(image.path, size, round_to_block(parent.size), MAX_SIZE)


def revert_journal(path: AnyPath, journal: AnyPath) -> None:
    """Bring back the disk that an interrupted resize with ``journal`` began with.

    A disk that is whole is left as it is, be it that the resize never touched it or that it was
    finished, and so is one without a journal; only a journal beside it is removed. So this may be
    called again, and after a cut of its own. A device whose journal was dropped holds none, of
    whatever disk.

    Raises:
        JournalMismatch: a journal of another disk.
        JournalDamaged: no whole journal, though the disk needs one, or no journal at all.
        VHDError: disk or journal cannot be opened or written.
    """
    path, journal = os.fspath(path), os.fspath(journal)
    with Backing(path, writable=True) as disk:
        owner, interrupted = _state(disk)
        try:
            file = Backing(journal, writable=True)
        except StorageFailed as error:
            if error.errno == ENOENT and not interrupted:
                return
            raise
        with file:
            found = _header(file, interrupted)
            if found is not None and found.unique_id != owner:
                raise JournalMismatch(journal, str(owner), str(found.unique_id))
            if interrupted:
                if found is None:
                    raise JournalDamaged(journal, "it is empty, but the disk was being resized")
                _undo(disk, file, found)
            elif found is not None:
                _confirm(disk)
            drop(file, found)


def _header(file: Backing, needed: bool) -> Journal | None:
    """The header of a journal, None if none was finished there; raises JournalDamaged."""
    try:
        found = read_header(file)
    except JournalDamaged:
        if needed or not file.is_block:
            raise
        return None  # A device on which none was begun holds somebody's old bytes.
    if found is not None and found.dropped and file.is_block and not needed:
        return None
    return found


def _confirm(disk: Backing) -> None:
    """Have the medium hold the backup footer that was read; raises StorageFailed.

    The last sync of a resize or its undo may have failed. Then the page cache shows a clean
    footer, the medium may keep the poisoned one, and a further sync alone would not write it.
    """
    disk.write(0, disk.read(0, SECTOR))
    disk.sync()


def _state(disk: Backing) -> tuple[UUID, bool]:
    """Which disk it is, and whether a resize was interrupted."""
    try:
        return find_footer(disk).footer.unique_id, False
    except Poisoned as error:
        return error.unique_id, True


def _undo(disk: Backing, file: Backing, journal: Journal) -> None:
    """Write back what was saved, the backup footer last: with it the disk is whole again."""
    footers = {
        place: data for place, data in journal.entries(file) if place.kind in (PRIMARY, BACKUP)
    }
    primary = footers.get(Place(PRIMARY, journal.footer_at, SECTOR))
    backup = footers.get(Place(BACKUP, 0, SECTOR))
    if primary is None or backup is None:
        raise JournalDamaged(file.path, "it lacks a footer")
    for raw in (primary, backup):
        Footer.unpack(raw, file.path)
    for place, data in journal.entries(file):
        if place not in footers:
            disk.write(place.offset, data)
    write_primary(disk, primary, journal.footer_at)
    disk.sync()
    disk.write(0, backup)
    disk.sync()
