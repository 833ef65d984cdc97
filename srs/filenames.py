"""Names of files, looked at and changed so that a server which fails or restarts does no harm.

On NFS a request whose answer was lost is sent again. A server that has restarted meanwhile does
not know it: it answers that the source of the rename is not there, that the target of the link
is, that the file to be removed is gone. Whoever gets such an answer looks whether what was
wanted is what there is.

And a server that is gone is no answer to the question whether a file is there.
"""

import os


def exists(path: str) -> bool:
    """Whether there is a file of this name.

    Raises:
        OSError: nobody can tell. (os.path.exists says no then.)
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def rename(source: str, target: str) -> None:
    """As os.rename.

    Raises:
        OSError: it has not happened.
    """
    file = os.stat(source)
    try:
        os.rename(source, target)
    except FileNotFoundError:
        if not (exists(target) and os.path.samestat(os.stat(target), file)):
            raise


def link(source: str, target: str) -> None:
    """As os.link.

    Raises:
        OSError: it has not happened.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        if not os.path.samefile(source, target):
            raise


def remove(path: str) -> bool:
    """Remove a file; says whether it was there.

    Raises:
        OSError: it still is.
    """
    there = exists(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return there
    return True
