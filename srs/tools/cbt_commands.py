"""The sub-commands of `cbt-util`: logs of the pieces of a disk that were written."""

from errno import EINVAL
from uuid import UUID

from srs.tools.frame import complain, put, say
from srs.tools.options import Options, UsageError
from srs.vhd import cbt
from srs.vhd.errors import SizeRefused


def create(options: Options) -> int:
    """Make an empty log for a disk of so many bytes."""
    cbt.create(options["n"], options.number("s"))
    return 0


def get(options: Options) -> int:
    """Print one field: id of parent or child, flag, size, or the bitmap as bytes."""
    asked = [letter for letter in "pcfsb" if letter in options]
    if len(asked) != 1:
        raise UsageError("exactly one of -p, -c, -f, -s and -b is needed")
    if asked == ["b"]:
        put(cbt.get_bitmap(options["n"]))
        return 0
    log = cbt.get(options["n"])
    say(str({"p": log.parent, "c": log.child, "f": log.consistent, "s": log.size}[asked[0]]))
    return 0


def set_fields(options: Options) -> int:
    """Change fields, all at once; the size may only grow."""
    name = options["n"]
    try:
        cbt.set_fields(
            name,
            parent=_identity(options, "p"),
            child=_identity(options, "c"),
            consistent=_flag(options),
            size=options.number("s") if "s" in options else None,
        )
    except SizeRefused as error:
        if error.size < error.minimum:
            complain(f"Size smaller than current file size ({error.minimum})")
            return EINVAL
        raise
    return 0


def coalesce(options: Options) -> int:
    """Add the bits of the parent's log to those of the child's."""
    cbt.coalesce(options["p"], options["c"])
    return 0


def _identity(options: Options, letter: str) -> UUID | None:
    """The id that ``letter`` gives; in the field one that cannot be read changes nothing."""
    text = options.get(letter)
    if text is None:
        return None
    digits = text.replace("-", "")
    if len(digits) != 32 or set(digits) - set("0123456789abcdefABCDEF"):
        complain(f"{options.who}: {text!r} is no id, and changes nothing")
        return None
    return UUID(digits)


def _flag(options: Options) -> int | None:
    """The flag that ``-f`` gives, a number of 32 bits with a sign."""
    text = options.get("f")
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10:
        raise UsageError(f"option -f: {text!r} is no number")
    flag = int(text)
    if not -(1 << 31) <= flag < 1 << 31:
        raise UsageError(f"option -f: {text!r} has more than 32 bits")
    return flag
