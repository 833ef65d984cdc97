"""Is this disk sound? Every rule of the format, looked at without changing a byte.

The findings have the words and the order of the field's own tool, so that whoever knows one
knows the other. Different on purpose: all findings are reported, not only the first; a partial
last block counts; sectors are compared whole.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from errno import EINVAL, ELOOP
from itertools import islice
from stat import S_ISBLK, S_ISREG

from srs.vhd.backing import AnyPath, Backing, identity_of
from srs.vhd.errors import VHDError
from srs.vhd.examination import Examination, Finding, Options
from srs.vhd.usage import Usage, chain_usage
from srs.vhd.validity import Clock

_MOST = 100
"""Findings reported of one disk: a table full of garbage has a million to offer."""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to :func:`check` about the disk ``path``.

    ``findings`` are at most 100, those of the most basic structures first. ``fixed`` tells that it
    is a fixed disk, which has little to check. ``parent`` is the canonical path of the VHD that
    it stands on, if that was found. ``ancestors`` are the reports about its parents, nearest
    first, and ``usage`` the statistics, root first; both are empty unless asked for.
    """

    path: str
    findings: tuple[Finding, ...]
    fixed: bool = False
    parent: str | None = None
    ancestors: tuple["Report", ...] = ()
    usage: tuple[Usage, ...] = ()

    @property
    def valid(self) -> bool:
        """True if neither the disk nor an ancestor that was checked breaks a rule."""
        return not self.findings and all(report.valid for report in self.ancestors)


def check(
    path: AnyPath,
    *,
    ignore_footer: bool = False,
    ignore_parent_id: bool = False,
    ignore_timestamps: bool = False,
    overlaps: bool = True,
    blocks: bool = False,
    parents: bool = False,
    usage: bool = False,
) -> Report:
    """Examine the disk ``path``; whatever is wrong is reported, nothing is raised.

    Args:
        path: a VHD of any kind, on a file or a block device.
        ignore_footer: let the backup footer speak for a disk that has lost its primary, as one
            has that is open for writing, or was when its host died.
        ignore_parent_id: do not compare the parent's identity with the recorded one.
        ignore_timestamps: do not mind timestamps in the future.
        overlaps: look for blocks that share sectors of the file.
        blocks: read the sectors whose bits are clear; they must be zeros. On an LV they are
            whatever its extents held before.
        parents: examine all ancestors, too.
        usage: count sectors, for a sound disk.
    """
    clock = Clock.at(float("inf") if ignore_timestamps else time.time())
    options = Options(ignore_footer, ignore_parent_id, overlaps, blocks, clock)
    report = _check(os.fspath(path), options)
    return replace(
        report,
        ancestors=tuple(_ancestors(report, options)) if parents else (),
        usage=chain_usage(report.path) if usage and report.valid and not report.fixed else (),
    )


def _ancestors(report: Report, options: Options) -> Iterator[Report]:
    """The reports about the ancestors of a disk, up to the first that breaks a rule."""
    seen = {identity_of(report.path)}
    while report.valid and report.parent is not None:
        report = _check(report.parent, options)
        if identity_of(report.path) in seen:
            text = f"invalid parent {report.path}: it is its own ancestor"
            report = Report(report.path, (Finding(text, ELOOP),))
        seen.add(identity_of(report.path))
        yield report


def _check(path: str, options: Options) -> Report:
    """The report about one disk."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        number = error.errno or EINVAL
        return Report(path, (Finding(f"cannot stat {path}: {number}", number),))
    if not (S_ISREG(mode) or S_ISBLK(mode)):
        return Report(path, (Finding(f"{path} is not a regular file or block device"),))
    try:
        with Backing(path) as backing:
            examination = Examination(backing, options)
            findings = tuple(islice(examination.findings(), _MOST))
            return Report(path, findings, examination.fixed, examination.parent)
    except VHDError as error:
        return Report(path, (Finding(str(error), error.errno),))
