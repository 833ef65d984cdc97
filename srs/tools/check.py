"""`vhd-util check`: is this disk sound?"""

from collections.abc import Iterator
from errno import EINVAL

from srs.tools import dump
from srs.tools.frame import say
from srs.tools.options import Options, UsageError
from srs.vhd.backing import Backing
from srs.vhd.check import Report
from srs.vhd.check import check as examine
from srs.vhd.errors import VHDError
from srs.vhd.usage import Usage


def check(options: Options) -> int:
    """Say that the disk is valid, or all that is wrong with it and what its metadata are.

    ``-i`` trusts the backup footer, ``-I`` any parent, ``-t`` any clock; ``-B`` leaves out the
    search for blocks that overlap; ``-p`` looks at all ancestors, ``-b`` at sectors that hold
    nothing; ``-s`` counts sectors.
    """
    if "B" in options and ("s" in options or "b" in options):
        raise UsageError("-B excludes -s and -b")
    report = examine(
        options["n"],
        ignore_footer="i" in options,
        ignore_parent_id="I" in options,
        ignore_timestamps="t" in options,
        overlaps="B" not in options,
        blocks="b" in options,
        parents="p" in options,
        usage="s" in options,
    )
    for one in (report, *report.ancestors):
        for line in _verdict(one, quiet="s" in options):
            say(line)
    for usage in report.usage:
        say(_usage(usage))
    findings = (finding for one in (report, *report.ancestors) for finding in one.findings)
    first = next(findings, None)
    return 0 if first is None else first.errno or EINVAL


def _verdict(report: Report, *, quiet: bool) -> Iterator[str]:
    if not report.findings:
        if not (quiet or report.fixed):
            yield f"{report.path} is valid"
        return
    yield from map(str, report.findings)
    try:
        with Backing(report.path) as backing:
            yield f"{report.path} appears invalid; dumping metadata"
            yield from dump.headers(backing)
    except VHDError:
        return  # The finding has said that it cannot be opened.


def _usage(usage: Usage) -> str:
    def count(what: str, sectors: int, whole: int) -> str:
        return f"{what}: {sectors:#x} ({100 * sectors / whole if whole else 0:.2f}%)"

    line = f"{usage.path}: secs allocated: {usage.allocated:#x} "
    line += count("secs written", usage.written, usage.allocated)
    if usage.not_in_parent is not None and usage.not_in_ancestors is not None:
        line += " " + count("secs not in parent", usage.not_in_parent, usage.written)
        line += " " + count("secs not in ancestors", usage.not_in_ancestors, usage.written)
    return line
