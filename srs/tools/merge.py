"""`vhd-util coalesce`, `fill` and `copy`: moving data between disks."""

import sys

from srs import vhd
from srs.tools.frame import put, say
from srs.tools.options import Options, UsageError


def coalesce(options: Options) -> int:
    """Merge ``-n`` into its parent, into the ancestor ``-a``, or with all into a new ``-o``.

    ``-s`` allocates blocks without zeroing them, which is what the engine does anyway.
    """
    if "a" in options and "o" in options:
        raise UsageError("an output takes the data of all ancestors")
    if "s" in options:
        say("opening for sparse writes")
    merged = vhd.coalesce(
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
