"""Whether a directory's file system has hard links, and what is done where it has none.

The first attach of a shared file SR tries one, and writes the answer beside the disks for all
hosts: `sm-hardlink.conf` holds 1 or 0. Where the file is missing there are hard links: local
file systems have them.

Splitting a disk gives its file a second name, that of the base copy. Without hard links the
file gets that name in place of its own, and the disk is missing until its new leaf stands:
before anything else is done with it, recovery gives it its file back.
"""

import os
from contextlib import suppress
from typing import Final

from srs import filenames
from srs.journal import fsync_directory

_ANSWER: Final = "sm-hardlink.conf"
_NEW: Final = ".new"


def detect(directory: str, scratch: str) -> bool | None:
    """Try a hard link, unless the answer is known; None if it is.

    Args:
        directory: the SR's.
        scratch: name of a file that no other host makes.
    """
    answer = os.path.join(directory, _ANSWER)
    if filenames.exists(answer):
        return None
    path = os.path.join(directory, scratch)
    able = _try(path)
    with open(path, "w", encoding="ascii") as file:
        file.write("1" if able else "0")
        file.flush()
        os.fsync(file.fileno())
    filenames.rename(path, answer)  # the commit point; of two hosts', either says the same
    fsync_directory(directory)
    return able


def _try(path: str) -> bool:
    with open(path, "wb"):
        pass
    try:
        os.link(path, path + _NEW)
    except FileExistsError:
        return True  # of an attempt that died
    except OSError:
        return False
    else:
        return True
    finally:
        for name in (path + _NEW, path):
            with suppress(FileNotFoundError):
                os.unlink(name)


def has_links(directory: str) -> bool:
    """Whether files of a directory may have two names."""
    try:
        with open(os.path.join(directory, _ANSWER), encoding="ascii") as file:
            return file.read(1) != "0"
    except FileNotFoundError:
        return True


def give_away(disk: str, base: str) -> None:
    """Make a disk's file the base copy's, too, or where that cannot be, the base copy's alone."""
    if has_links(os.path.dirname(disk)):
        filenames.link(disk, base)
    else:
        filenames.rename(disk, base)


def is_split(disk: str, base: str) -> bool:
    """Whether both have files of their own: a leaf stands where the disk's file was."""
    both = filenames.exists(disk) and filenames.exists(base)
    return both and not os.path.samefile(disk, base)


def take_back(disk: str, base: str) -> None:
    """Undo `give_away`, for good: the disk has its file, and the base copy is gone."""
    if filenames.exists(disk):
        filenames.remove(base)
    elif filenames.exists(base):
        filenames.rename(base, disk)
    fsync_directory(os.path.dirname(disk))
