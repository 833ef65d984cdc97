"""`vhd-util set`, `modify`, `resize`, `revert`, `repair` and `update`."""

from collections.abc import Callable
from errno import EINVAL, ENOSYS
from functools import partial

from srs.tools.disks import peek
from srs.tools.frame import report, say
from srs.tools.make import size_in_mib
from srs.tools.options import Options, UsageError
from srs.vhd.errors import VHDError
from srs.vhd.labels import set_marker
from srs.vhd.modify import set_hidden, set_parent, set_physical_size
from srs.vhd.reset import drop_data


def set_field(options: Options) -> int:
    """Set the byte ``hidden`` of the footers or ``marker`` of the batmap header."""
    name, field, value = options["n"], options["f"], options["v"]
    setters = {"hidden": set_hidden, "marker": set_marker}
    if field not in setters:
        say(f"invalid field {field}")
        return EINVAL
    if not (value.isascii() and value.isdigit()) or len(value) > 3 or int(value) > 255:
        say(f"invalid value {value}")
        return EINVAL
    setters[field](name, int(value))
    return 0


def modify(options: Options) -> int:
    """Drop all data (``-z``), then move the footer (``-s``), then relink (``-p``)."""
    name = options["n"]
    with peek(name):
        pass  # A disk that does not open has a message of its own.
    steps: list[tuple[str, Callable[[], None]]] = []
    if "z" in options:
        steps.append(("zero VHD", partial(drop_data, name)))
    if "s" in options:
        size = options.number("s")
        move = partial(set_physical_size, name, size)
        steps.append((f"set physical size to {size}", move))
    if "p" in options:
        parent = options["p"]
        link = partial(set_parent, name, parent, raw_parent="m" in options)
        steps.append((f"set parent to '{parent}'", link))
    for what, step in steps:
        try:
            step()
        except VHDError as error:
            say(f"failed to {what}: {-error.errno}")
            return report(options, error)
    return 0


def resize(options: Options) -> int:
    """Grow a disk: within its table (``-f``), or with a journal beyond it (``-j``)."""
    name, size = options["n"], size_in_mib(options, "s")
    from srs.vhd.resize import resize as change_size

    if ("j" in options) == ("f" in options):
        raise UsageError("one of -j and -f is needed")
    if "f" in options:
        change_size(name, size)
        return 0
    with peek(name) as disk:
        if disk.image is None:
            say(f"creating journal failed: {-EINVAL}")
            return EINVAL
        if size < disk.footer.size:
            say("dynamic shrink not fully implemented")
            return ENOSYS
    change_size(name, size, journal=options["j"])
    return 0


def revert(options: Options) -> int:
    """Undo an interrupted journaled resize."""
    from srs.vhd.resize import revert_journal

    revert_journal(options["n"], options["j"])
    return 0


def repair(options: Options) -> int:
    """Write both footers anew, from the one that speaks for the disk (``-b``: the backup)."""
    from srs.vhd.repair import repair as write_footers

    write_footers(options["n"], backup="b" in options)
    return 0


def update(options: Options) -> int:
    """Bring bitmaps of the first writers up to date; those that can be opened here are."""
    with peek(options["n"]):
        return 0
