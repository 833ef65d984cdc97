"""Errors of SRs on LUNs: numbers of the SMAPIv1 table, as in srs.errors.

SRError
├── LookupFailure       InvalidSecret 20 · ISCSITarget 141
├── Refused             ISCSIPort 142 · PVMultiIDs 119
├── MissingParameter    ConfigISCSIIQNMissing 97
└── OperationFailed     ISCSIDevice 67 · ISCSILogin 68 · ISCSILogout 69 · ISCSIInitiator 70
                        ISCSIDaemon 71 · ISCSIDiscovery 83 · ISCSIQueryDaemon 86
"""

from srs.errors import LookupFailure, MissingParameter, OperationFailed, Refused


class InvalidSecret(LookupFailure):
    """The toolstack has no secret of that uuid."""

    code = 20
    description = "Invalid secret"
    hint = "Name a secret of the XenAPI in device_config:chappassword_secret."


class ISCSITarget(LookupFailure):
    """Nobody answers at the target's address."""

    code = 141
    description = "Unable to connect to ISCSI service on target"


class ISCSIPort(Refused):
    """A port that is none."""

    code = 142
    description = "Incorrect value for iSCSI port, must be a number between 1 and 65535"


class PVMultiIDs(Refused):
    """The volume group lies on more than one LUN."""

    code = 119
    description = "PVs found with multiple SCSI IDs"
    hint = "Give each SR a LUN of its own."


class ConfigISCSIIQNMissing(MissingParameter):
    """The host has no IQN of its own."""

    code = 97
    description = "Unable to retrieve the host configuration ISCSI IQN parameter"
    hint = "Set other_config:iscsi_iqn of the host, or device_config:localIQN."


class ISCSIDevice(OperationFailed):
    """A LUN's block device did not appear."""

    code = 67
    description = "ISCSI device failed to appear"


class ISCSILogin(OperationFailed):
    """The target refused the login."""

    code = 68
    description = (
        "ISCSI login failed - check access settings for the initiator on the storage, "
        "if CHAP is used verify CHAP credentials"
    )


class ISCSILogout(OperationFailed):
    """A session could not be closed."""

    code = 69
    description = "ISCSI logout failed"


class ISCSIInitiator(OperationFailed):
    """This host cannot take the name that it has to have."""

    code = 70
    description = "Failed to set ISCSI initiator"
    hint = "Unplug the iSCSI SRs that use another name for this host."


class ISCSIDaemon(OperationFailed):
    """iscsid does not start."""

    code = 71
    description = "Failed to start ISCSI daemon"
    hint = "apt-get install open-iscsi"


class ISCSIDiscovery(OperationFailed):
    """The portal did not tell its targets."""

    code = 83
    description = "ISCSI discovery failed"


class ISCSIQueryDaemon(OperationFailed):
    """iscsid does not answer."""

    code = 86
    description = "Failed to query the iscsi daemon"
