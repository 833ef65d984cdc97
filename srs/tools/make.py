"""`vhd-util create` and `snapshot`."""

from errno import EINVAL, ENOSPC

from srs.tools.frame import complain, report, say
from srs.tools.options import Options, UsageError
from srs.vhd.build import create as make_disk
from srs.vhd.build import snapshot as make_child
from srs.vhd.errors import VHDError

_MIB = 1 << 20


def size_in_mib(options: Options, letter: str) -> int:
    """The bytes that ``letter`` gives in MiB; UsageError for 0, which no disk has."""
    size = options.number(letter) * _MIB
    if letter in options and not size:
        raise UsageError(f"option -{letter}: a size is at least 1")
    return size


def create(options: Options) -> int:
    """Make a dynamic disk (``-r``: a fixed one) of ``-s`` MiB with room to grow to ``-S``."""
    name, size, most = options["n"], size_in_mib(options, "s"), size_in_mib(options, "S")
    if most and most < size:
        say("Error: <-S size> must be greater than <-s size>")
        return EINVAL
    try:
        if "r" in options:
            from srs.vhd.fixed import create_fixed

            create_fixed(name, size)
        else:
            make_disk(name, size, max_size=most)
    except VHDError as error:
        complain(f"{name}: failed to create: {-error.errno}")
        return report(options, error)
    return 0


def snapshot(options: Options) -> int:
    """Make ``-n`` an empty disk on top of ``-p``, unless the chain would be longer than ``-l``."""
    name, parent, raw = options["n"], options["p"], "m" in options
    if "l" in options and not raw:
        from srs.vhd.info import query

        limit, depth = options.number("l"), query(parent, depth=True).depth or 0
        if depth >= limit:
            say(f"snapshot depth exceeded: current depth: {depth}, limit: {limit}")
            return ENOSPC
    make_child(
        name,
        parent,
        max_size=size_in_mib(options, "S"),
        raw_parent=raw,
        link_empty="e" in options,
    )
    return 0
