"""The VHD engine: dynamic and differencing disks as XenServer's tools read and write them.

    vhd.create("base.vhd", 10 << 30)
    with vhd.open_chain("base.vhd", writable=True) as disk:
        disk.write(0, b"boot sector")
    vhd.snapshot("leaf.vhd", "base.vhd")

All sizes, offsets and lengths are bytes. Errors are :class:`VHDError` with fields, a hint and
the ``errno`` that the field's tools give. Pure standard library.
"""

from srs.vhd.build import create, snapshot
from srs.vhd.chain import Chain, open_chain, open_raw
from srs.vhd.check import Report, check
from srs.vhd.coalesce import coalesce
from srs.vhd.copy import copy
from srs.vhd.errors import (
    BadBlock,
    BadFooter,
    BadHeader,
    BadLog,
    ChainLoop,
    InvalidImage,
    JournalDamaged,
    JournalError,
    JournalExists,
    JournalMismatch,
    NoSpace,
    NotAnAncestor,
    NotDifferencing,
    NotSparse,
    OutOfRange,
    ParentError,
    ParentMismatch,
    ParentMissing,
    ParentPathRefused,
    Poisoned,
    ReadOnly,
    SizeRefused,
    StorageFailed,
    Truncated,
    VHDError,
)
from srs.vhd.examination import Finding
from srs.vhd.extents import extents
from srs.vhd.fill import fill
from srs.vhd.fixed import create_fixed
from srs.vhd.format import BLOCK, DIFFERENCING, DYNAMIC, FIXED, MAX_SIZE, SECTOR
from srs.vhd.info import Info, query
from srs.vhd.modify import set_hidden, set_parent, set_physical_size
from srs.vhd.raw import wipe
from srs.vhd.repair import repair
from srs.vhd.resize import resize, revert_journal
from srs.vhd.scan import ScanFailed, Scanned, Volume, find_files, scan, scan_volumes
from srs.vhd.usage import Usage

__all__ = [
    "BLOCK",
    "DIFFERENCING",
    "DYNAMIC",
    "FIXED",
    "MAX_SIZE",
    "SECTOR",
    "BadBlock",
    "BadFooter",
    "BadHeader",
    "BadLog",
    "Chain",
    "ChainLoop",
    "Finding",
    "Info",
    "InvalidImage",
    "JournalDamaged",
    "JournalError",
    "JournalExists",
    "JournalMismatch",
    "NoSpace",
    "NotAnAncestor",
    "NotDifferencing",
    "NotSparse",
    "OutOfRange",
    "ParentError",
    "ParentMismatch",
    "ParentMissing",
    "ParentPathRefused",
    "Poisoned",
    "ReadOnly",
    "Report",
    "ScanFailed",
    "Scanned",
    "SizeRefused",
    "StorageFailed",
    "Truncated",
    "Usage",
    "VHDError",
    "Volume",
    "check",
    "coalesce",
    "copy",
    "create",
    "create_fixed",
    "extents",
    "fill",
    "find_files",
    "open_chain",
    "open_raw",
    "query",
    "repair",
    "resize",
    "revert_journal",
    "scan",
    "scan_volumes",
    "set_hidden",
    "set_parent",
    "set_physical_size",
    "snapshot",
    "wipe",
]
