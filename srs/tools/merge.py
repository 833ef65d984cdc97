"""`vhd-util coalesce`, `copy` and `fill`: moving data between disks."""

import os
import sys
from errno import EINVAL, EOPNOTSUPP

from srs.tools.frame import complain, put, say
from srs.tools.options import Options, UsageError


def coalesce(options: Options) -> int:
    """Merge ``-n`` into its parent, into the ancestor ``-a``, or with all into a new ``-o``.

    ``-s`` allocates blocks without zeroing them, which is what the engine does anyway.
    """
    if "a" in options and "o" in options:
        raise UsageError("an output takes the data of all ancestors")
    if "s" in options:
        say("opening for sparse writes")
    from srs.vhd.coalesce import coalesce as merge

    merged = merge(
        options["n"],
        ancestor=options.get("a"),
        output=options.get("o"),
        progress=_progress if "p" in options else None,
    )
    if "p" in options:
        say("")
    put(f"Coalesced {merged} sectors".encode())
    return 0


def _progress(done: int, total: int) -> None:
    put(f"\r{100 * done / max(total, 1):6.2f}%".encode())
    sys.stdout.flush()


def copy(options: Options) -> int:
    """Make ``-N`` a new dynamic disk with the content of ``-n``, ancestors included."""
    name, new = options["n"], options["N"]
    if "k" in options or "E" in options:
        complain(f"{options.who}: encryption is not supported")
        return EOPNOTSUPP
    if os.path.isfile(new):
        complain(f"{options.who}: {new} exists")
        say(f"error creating {new}: {-EINVAL}")
        return EINVAL
    from srs.vhd.copy import copy as copy_disk

    copy_disk(name, new)
    return 0


def fill(options: Options) -> int:
    """Give a disk everything it has from its ancestors, or with ``-b`` just allocate blocks.

    ``-b`` takes the absent blocks of the sectors from ``-f`` up to ``-t``, all by default, with
    the bytes that file or device holds there. ``-B`` asks for their bitmaps, which are always
    written.
    """
    from srs.vhd.fill import allocate
    from srs.vhd.fill import fill as write_all

    if "b" in options:
        last = options.number("t") if "t" in options else None
        allocate(options["n"], options.number("f"), last)
    else:
        write_all(options["n"])
    return 0
