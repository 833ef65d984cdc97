"""The SMAPIv1 error table as exceptions.

    Exception
    └── SRError                         code, description, opterr, hint -> text
        ├── LookupFailure               ... what was asked for is not there
        │   ├── InvalidDev 19 · SRUnavailable 47 · VDIUnavailable 46 · VolNotFound 92
        │   └── LVMNoVolume 100 · DNSError 140 · VDIMissing 144
        ├── Busy                        ... it is there, but somebody uses it
        │   └── SRInUse 16 · VDIInUse 24 · LockErr 37 · SRNotEmpty 39 · LVMRefCount 104
        ├── Refused                     ... the request cannot be carried out as it stands
        │   ├── InvalidArg 1 · Unimplemented 38 · SRExists 42 · VDIExists 43 · SRNoSpace 44
        │   ├── LVMMaster 58 · VDIType 66 · VDISize 79 · SnapshotChainTooLong 109
        │   └── BadRequest 143 · IllegalXMLChar 447
        ├── MissingParameter            ... device_config lacks a key
        │   └── ConfigDeviceMissing 90 · ConfigLocationMissing 94 · ConfigTargetMissing 95
        │       ConfigTargetIQNMissing 96 · ConfigServerPathMissing 101
        │       ConfigServerMissing 102 · ConfigSCSIid 107 · ConfigParamsMissing 115
        └── OperationFailed             ... it was tried, and something below failed
            ├── SRScan 40 · LVMCreate 50 · LVMDelete 51 · LVMMount 52 · LVMUnMount 53
            ├── LVMWrite 54 · LVMFilesystem 57 · LVMResize 59
            ├── FileSRCreate 61 · FileSRRmDir 62 · FileSRDelete 63
            ├── LVMGroupCreate 77 · VDICreate 78 · VDIDelete 80 · VDIClone 81
            ├── VDISnapshot 82 · VDIResize 110 · LVMRead 117 · APISession 150
            ├── MetadataError 181 · SMGeneral 202
            ├── FistPoint 203 · LeafGCSkip 204 · TapdiskAlreadyRunning 445 · TapdiskFailed 453
            └── GenericException 1200 · those of srs.cbterrors, 457 to 460, and srs.scsierrors

The number and the description travel as an XML-RPC fault; clients match on both, so both are
the field's own (reference: the error table that XenServer's storage manager installs). A
caller adds what only it knows as `opterr`; a class adds what to do next as `hint`.
"""

from typing import ClassVar


class SRError(Exception):
    """An error with a number of the SMAPIv1 table.

    Attributes:
        code: the fault code.
        description: what the table says about the code.
        hint: what the caller can do about it, empty where there is nothing to say.
        opterr: what happened this time, empty where the description says it all.
        stderr: a document for the caller's third error parameter (probes return XML there).
    """

    code: ClassVar[int] = 22
    description: ClassVar[str] = "The storage manager failed"
    hint: ClassVar[str] = ""

    def __init__(self, opterr: object = "", *, stderr: str = "") -> None:
        self.opterr = str(opterr)
        self.stderr = stderr
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The fault's text: the description, with ` [opterr=...]` where there is one."""
        return f"{self.description} [opterr={self.opterr}]" if self.opterr else self.description


class LookupFailure(SRError):
    """What was asked for is not there."""


class InvalidDev(LookupFailure):
    """A block device that does not exist, or is none."""

    code = 19
    description = "Invalid device"
    hint = "Name a block device that this host has in device_config:device."


class SRUnavailable(LookupFailure):
    """The SR's directory or volume group is not here."""

    code = 47
    description = "The SR is not available"
    hint = "Plug the PBD of this host."


class VDIUnavailable(LookupFailure):
    """The disk is not on this SR, or not in a state to be used."""

    code = 46
    description = "The VDI is not available"
    hint = "Scan the SR, then try again."


class VolNotFound(LookupFailure):
    """A volume is not in its volume group."""

    code = 92
    description = "Volume not found"


class LVMNoVolume(LookupFailure):
    """A logical volume or a journal entry is not there."""

    code = 100
    description = "Logical volume does not exist"


class DNSError(LookupFailure):
    """The name of a server or target has no address."""

    code = 140
    description = "Incorrect DNS name, unable to resolve."


class VDIMissing(LookupFailure):
    """The record exists, the disk does not."""

    code = 144
    description = "The VDI is missing"


class Busy(SRError):
    """It is there, but somebody uses it."""


class SRInUse(Busy):
    """A device or an SR that something else holds open."""

    code = 16
    description = "The SR device is currently in use"
    hint = "Unmount the device, or detach what is stacked on it."


class VDIInUse(Busy):
    """A disk that is attached somewhere."""

    code = 24
    description = "The VDI is currently in use"
    hint = "Unplug the VBDs of the VDI."


class LockErr(Busy):
    """A lock cannot be taken."""

    code = 37
    description = "The lock/unlock request failed"


class SRNotEmpty(Busy):
    """The SR still holds disks."""

    code = 39
    description = "The SR is not empty"
    hint = "Destroy the VDIs, or forget the SR."


class LVMRefCount(Busy):
    """A volume's reference count cannot be kept."""

    code = 104
    description = "Logical volume reference count failed"


class Refused(SRError):
    """The request cannot be carried out as it stands; nothing was changed."""


class InvalidArg(Refused):
    """An argument that means nothing here."""

    code = 1
    description = "Invalid argument"


class Unimplemented(Refused):
    """The driver has no such operation, or not for this kind of disk."""

    code = 38
    description = "The requested method is not supported/implemented"


class SRExists(Refused):
    """There is an SR in that place already."""

    code = 42
    description = "The SR already exists"


class VDIExists(Refused):
    """There is a disk of that uuid already."""

    code = 43
    description = "The VDI already exists"


class SRNoSpace(Refused):
    """Not enough room."""

    code = 44
    description = "There is insufficient space"
    hint = "Delete VDIs of the SR, or make it larger."


class LVMMaster(Refused):
    """Only the SR's master may do this."""

    code = 58
    description = "The operation must be performed by the SR master"
    hint = "Send the call to the pool's master."


class VDIType(Refused):
    """A type of disk that the SR does not know."""

    code = 66
    description = "Invalid VDI type"
    hint = "sm_config:type is vhd or raw."


class VDISize(Refused):
    """A size out of range."""

    code = 79
    description = "VDI Invalid size"
    hint = "A VDI has between 2 MiB and 2040 GiB, and never shrinks."


class SnapshotChainTooLong(Refused):
    """One more level would exceed what readers of the format allow."""

    code = 109
    description = "The snapshot chain is too long"
    hint = "Delete snapshots, and let the chain coalesce."


class BadRequest(Refused):
    """A document that is no call, or a command nobody knows."""

    code = 143
    description = "A request is badly formed"


class IllegalXMLChar(Refused):
    """A name or description that XML cannot carry."""

    code = 447
    description = "Illegal XML character"


class MissingParameter(Refused):
    """`device_config` lacks a key; each key has its own code."""

    description = "The request is missing a parameter"


class ConfigDeviceMissing(MissingParameter):
    """No `device`."""

    code = 90
    description = "The request is missing the device parameter"


class ConfigLocationMissing(MissingParameter):
    """No `location`."""

    code = 94
    description = "The request is missing the location parameter"


class ConfigTargetMissing(MissingParameter):
    """No `target`."""

    code = 95
    description = "The request is missing the target parameter"


class ConfigTargetIQNMissing(MissingParameter):
    """No `targetIQN`."""

    code = 96
    description = "The request is missing or has an incorrect target IQN parameter"


class ConfigServerPathMissing(MissingParameter):
    """No `serverpath`."""

    code = 101
    description = "The request is missing the serverpath parameter"


class ConfigServerMissing(MissingParameter):
    """No `server`."""

    code = 102
    description = "The request is missing the server parameter"


class ConfigSCSIid(MissingParameter):
    """No `SCSIid`."""

    code = 107
    description = "The SCSIid parameter is missing or incorrect"


class ConfigParamsMissing(MissingParameter):
    """Several keys are missing."""

    code = 115
    description = "Missing required parameters"


class OperationFailed(SRError):
    """It was tried, and something below failed."""


class SRScan(OperationFailed):
    """The list of disks could not be read."""

    code = 40
    description = "The SR scan failed"


class LVMCreate(OperationFailed):
    """A logical volume could not be made."""

    code = 50
    description = "Logical Volume creation error"


class LVMDelete(OperationFailed):
    """A volume or group could not be removed."""

    code = 51
    description = "Logical Volume deletion error"


class LVMMount(OperationFailed):
    """A file system could not be mounted, or a volume not activated."""

    code = 52
    description = "Logical Volume mount/activate error"


class LVMUnMount(OperationFailed):
    """The opposite of LVMMount failed."""

    code = 53
    description = "Logical Volume unmount/deactivate error"


class LVMWrite(OperationFailed):
    """A device could not be written."""

    code = 54
    description = "Logical Volume write error"


class LVMFilesystem(OperationFailed):
    """mkfs failed."""

    code = 57
    description = "Logical Volume filesystem creation error"


class LVMResize(OperationFailed):
    """A logical volume could not be resized."""

    code = 59
    description = "Logical Volume resize failed"


class FileSRCreate(OperationFailed):
    """The SR's directory could not be prepared."""

    code = 61
    description = "File System Storage Repository creation error"


class FileSRRmDir(OperationFailed):
    """The SR's directory could not be removed."""

    code = 62
    description = "File System Storage Repository failed to remove directory"


class FileSRDelete(OperationFailed):
    """A file of the SR could not be removed."""

    code = 63
    description = "File System Storage Repository deletion error"


class LVMGroupCreate(OperationFailed):
    """The volume group could not be made."""

    code = 77
    description = "Logical Volume group creation failed"


class VDICreate(OperationFailed):
    """vdi_create failed."""

    code = 78
    description = "VDI Creation failed"


class VDIDelete(OperationFailed):
    """vdi_delete failed."""

    code = 80
    description = "VDI delete operation failed"


class VDIClone(OperationFailed):
    """vdi_clone failed, and was undone."""

    code = 81
    description = "Failed to clone VDI"


class VDISnapshot(OperationFailed):
    """vdi_snapshot or vdi_revert failed, and was undone."""

    code = 82
    description = "Failed to snapshot VDI"


class VDIResize(OperationFailed):
    """vdi_resize failed."""

    code = 110
    description = "Failed to resize the VDI"


class LVMRead(OperationFailed):
    """A device could not be read."""

    code = 117
    description = "Logical Volume read error"


class APISession(OperationFailed):
    """The toolstack refuses the session."""

    code = 150
    description = "Failed to initialize XMLRPC connection"


class MetadataError(OperationFailed):
    """The metadata volume is damaged or full."""

    code = 181
    description = "Error in Metadata volume operation for SR."


class SMGeneral(OperationFailed):
    """No better code fits."""

    code = 202
    description = "General backend error"


class FistPoint(OperationFailed):
    """A test asked for this failure."""

    code = 203
    description = "An active FIST point was reached that causes the process to exit abnormally"


class LeafGCSkip(OperationFailed):
    """A disk was not leaf-coalesced, because it would have to hold still for too long."""

    code = 204
    description = "Gave up on leaf coalesce after leaf grew bigger than before snapshot taken"


class TapdiskAlreadyRunning(OperationFailed):
    """The data path of the disk is up already."""

    code = 445
    description = "The tapdisk is already running"


class TapdiskFailed(OperationFailed):
    """The data path of the disk did not come up, or does not answer."""

    code = 453
    description = "The tapdisk failed"


class GenericException(OperationFailed):
    """Something that no code was meant for; the text is all there is."""

    code = 1200
    description = "Exception raised in the storage manager"
