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
from srs.vhd.format import BLOCK, DIFFERENCING, DYNAMIC, FIXED, MAX_SIZE, SECTOR
from srs.vhd.info import Info, query
from srs.vhd.modify import set_hidden, set_parent, set_physical_size
from srs.vhd.resize import resize, revert_journal
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
    "SizeRefused",
    "StorageFailed",
    "Truncated",
    "Usage",
    "VHDError",
    "check",
    "coalesce",
    "copy",
    "create",
    "open_chain",
    "open_raw",
    "query",
    "resize",
    "revert_journal",
    "set_hidden",
    "set_parent",
    "set_physical_size",
    "snapshot",
]
