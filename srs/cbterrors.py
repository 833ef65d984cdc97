"""Errors of changed block tracking, from the SMAPIv1 table.

SRError
└── OperationFailed                 (srs.errors)
    ├── CBTActivateFailed 457 · CBTDeactivateFailed 458
    └── CBTMetadataInconsistent 459 · CBTChangedBlocksError 460
"""

from srs.errors import OperationFailed


class CBTActivateFailed(OperationFailed):
    """Changed block tracking cannot be switched on."""

    code = 457
    description = "Failed to activate changed block tracking"


class CBTDeactivateFailed(OperationFailed):
    """Changed block tracking cannot be switched off."""

    code = 458
    description = "Failed to deactivate changed block tracking"


class CBTMetadataInconsistent(OperationFailed):
    """The logs cannot be believed."""

    code = 459
    description = "Changed block tracking log is in an inconsistent state"
    hint = "Copy the whole disk; the next snapshot begins afresh."


class CBTChangedBlocksError(OperationFailed):
    """No line of logs leads from one disk to the other."""

    code = 460
    description = "Failed to get list of changed blocks"
    hint = "Copy the whole disk: between these two not every write was tracked."
