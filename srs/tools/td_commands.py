"""The sub-commands of `td-util`, each another spelling of one of `vhd-util`."""

from srs.tools import change, make
from srs.tools import query as queries
from srs.tools.options import Options, UsageError


def _as_vhd(options: Options, usage: str, *letters: str) -> Options:
    """The same for `vhd-util`, whose ``usage`` this is: operands become arguments of ``letters``.

    Raises:
        UsageError: another image type than vhd, or not one operand for each letter.
    """
    kind, *operands = options.operands or [""]
    if kind != "vhd":
        raise UsageError(f"image type {kind!r} is not vhd")
    if len(operands) != len(letters):
        raise UsageError(f"{len(letters)} operands are needed, not {len(operands)}")
    words = [f"-{flag}" for flag in options.letters]
    for letter, operand in zip(letters, operands, strict=True):
        words += [f"-{letter}", operand]
    translated = Options(options.who, usage, words)
    translated.complete()
    return translated


def create(options: Options) -> int:
    """Make a disk of so many MiB."""
    return make.create(_as_vhd(options, "-n NAME -s MIB [-r]", "s", "n"))


def snapshot(options: Options) -> int:
    """Make an empty disk on top of another, or of what that one is an empty child of."""
    return make.snapshot(_as_vhd(options, "-n NAME -p PARENT [-m]", "n", "p"))


def query(options: Options) -> int:
    """Ask for size (v), parent (p), hidden (f), depth (d); b believes the backup footer."""
    return queries.query(_as_vhd(options, "-n NAME [-vpfdb]", "n"))


def set_field(options: Options) -> int:
    """Set a field, which is hidden."""
    return change.set_field(_as_vhd(options, "-n NAME -f FIELD -v VALUE", "n", "f", "v"))
