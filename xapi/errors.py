"""XenAPI errors: a code, its parameters, and what the code means.

    Exception
    └── XenAPIError        what a client gets as ErrorDescription: [code, *params]

XenAPI has hundreds of error codes and one envelope, so a code is data here, not a class:
`CODES` gives each code its text, the names of its parameters and, where there is something
useful to say, what to do next. The functions below build the errors that several modules
raise; their arguments are the parameters, in the order of the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Code(NamedTuple):
    """What an error code says: its text, its parameters' names, what to do about it."""

    text: str
    params: tuple[str, ...] = ()
    hint: str = ""


CODES: dict[str, Code] = {
    "CHANGE_PASSWORD_REJECTED": Code("The new password is not acceptable.", ("msg",)),
    "DB_UNIQUENESS_CONSTRAINT_VIOLATION": Code(
        "Another object has that value, which only one may have.", ("table", "field", "value")
    ),
    "DEVICE_ALREADY_ATTACHED": Code("The device is already attached.", ("device",)),
    "DEVICE_ALREADY_DETACHED": Code("The device is not attached.", ("device",)),
    "DEVICE_ALREADY_EXISTS": Code(
        "The VM has a device of that number already.",
        ("device",),
        "Leave the choice to the server: userdevice=autodetect.",
    ),
    "DEVICE_DETACH_REJECTED": Code(
        "The host did not let go of the device.",
        ("type", "ref", "msg"),
        "Close whatever has the device open, then unplug again; unplug_force gives up data "
        "that cannot be written.",
    ),
    "EVENTS_LOST": Code(
        "So much has happened that nobody knows it all any more.",
        hint="Read the objects anew, and go on from an empty token.",
    ),
    "EVENT_FROM_TOKEN_PARSE_FAILURE": Code("No event.from has given that token.", ("token",)),
    "EVENT_SUBSCRIPTION_PARSE_FAILURE": Code(
        'A subscription is "*", "class" or "class/reference".', ("subscription",)
    ),
    "FIELD_TYPE_ERROR": Code("The value does not have the type of the field.", ("field",)),
    "HANDLE_INVALID": Code(
        "The reference does not name an object of that class.",
        ("class", "handle"),
        "The object may have been destroyed: look it up again by uuid.",
    ),
    "HA_DISABLE_IN_PROGRESS": Code("High availability is being switched off."),
    "HA_ENABLE_IN_PROGRESS": Code("High availability is being switched on."),
    "HA_IS_ENABLED": Code("High availability is on.", (), "Disable high availability first."),
    "HOST_DISABLED": Code("The host is disabled.", ("host",), "Enable the host first."),
    "HOST_IS_LIVE": Code("The host is up.", ("host",)),
    "HOST_NOT_LIVE": Code("The host does not answer.", ("host",)),
    "HOST_OFFLINE": Code(
        "The host cannot be reached.", ("host",), "Start the host, then repeat the call."
    ),
    "INTERNAL_ERROR": Code("The server met an unexpected error.", ("message",)),
    "INVALID_DEVICE": Code("That is no device number.", ("device",)),
    "INVALID_VALUE": Code("The value is not valid here.", ("field", "value")),
    "LOCATION_NOT_UNIQUE": Code("The SR has a VDI at that location already.", ("SR", "location")),
    "MAC_INVALID": Code("That is no MAC address.", ("MAC",)),
    "MAP_DUPLICATE_KEY": Code(
        "The map has that key already.",
        ("type", "param_name", "uuid", "key"),
        "Remove the key first.",
    ),
    "MEMORY_CONSTRAINT_VIOLATION": Code("The memory limits contradict each other.", ("rule",)),
    "MESSAGE_DEPRECATED": Code("The message does nothing any more."),
    "MESSAGE_METHOD_UNKNOWN": Code("There is no such message.", ("method",)),
    "MESSAGE_PARAMETER_COUNT_MISMATCH": Code(
        "The message takes another number of parameters.", ("method", "expected", "received")
    ),
    "NETWORK_CONTAINS_PIF": Code("The network is that of a physical interface.", ("pifs",)),
    "NETWORK_CONTAINS_VIF": Code(
        "VMs are connected with the network.", ("vifs",), "Unplug the VIFs first."
    ),
    "NOT_SUPPORTED_DURING_UPGRADE": Code(
        "The pool's hosts are being upgraded.", (), "Finish the upgrade of all hosts first."
    ),
    "OPERATION_BLOCKED": Code(
        "The VM's owner has blocked the operation.",
        ("ref", "code"),
        "Remove it from the VM's blocked_operations.",
    ),
    "OPERATION_NOT_ALLOWED": Code("The operation is not allowed now.", ("reason",)),
    "OTHER_OPERATION_IN_PROGRESS": Code(
        "Another operation is using the object.",
        ("class", "object", "operation_type", "operation_ref"),
        "Wait until it has ended.",
    ),
    "PBD_EXISTS": Code("The host has a PBD for this SR already.", ("sr", "host", "pbd")),
    "PERMISSION_DENIED": Code("The caller may not do this.", ("message",)),
    "REVERT_ONLY_ALLOWED_ON_SNAPSHOT": Code("Only a snapshot can be reverted to."),
    "SESSION_AUTHENTICATION_FAILED": Code("Authentication failed", ("user", "msg")),
    "SESSION_INVALID": Code("The session does not exist or has ended.", ("handle",)),
    "SESSION_NOT_REGISTERED": Code(
        "The session has not registered for events.", ("handle",), "Call event.register first."
    ),
    "SR_BACKEND_FAILURE": Code("", ("status", "text", "stderr")),
    "SR_DEVICE_IN_USE": Code("The device of the SR is in use."),
    "SR_HAS_MULTIPLE_PBDS": Code(
        "More than one host has a PBD of this SR.", ("sr",), "Destroy all its PBDs but one."
    ),
    "SR_HAS_NO_PBDS": Code("No host has this SR plugged in.", ("sr",), "Plug a PBD of the SR."),
    "SR_HAS_PBD": Code("The SR is still plugged in.", ("sr",), "Unplug its PBDs first."),
    "SR_INDESTRUCTIBLE": Code("The SR is marked as indestructible.", ("sr",)),
    "SR_IS_CACHE_SR": Code("The host keeps its cache on the SR.", ("host",)),
    "SR_NOT_EMPTY": Code("The SR still holds VDIs.", ("sr",), "Destroy its VDIs first."),
    "SR_NOT_SHARABLE": Code(
        "The SR is not shared, and another host has it plugged in.", ("sr", "host")
    ),
    "SR_OPERATION_NOT_SUPPORTED": Code("The SR's driver cannot do this.", ("sr",)),
    "SR_UNKNOWN_DRIVER": Code("There is no driver for SRs of that type.", ("type",)),
    "SR_UUID_EXISTS": Code("There is an SR of that uuid already.", ("uuid",)),
    "TASK_CANCELLED": Code("The task was cancelled.", ("task",)),
    "UNIMPLEMENTED_IN_SM_BACKEND": Code("The SR's driver does not implement this.", ("sr",)),
    "UUID_INVALID": Code("No object of that class has the uuid.", ("type", "uuid")),
    "VALUE_NOT_SUPPORTED": Code("The value is not supported.", ("field", "value", "reason")),
    "VBD_CDS_MUST_BE_READONLY": Code("A CD can only be attached read-only."),
    "VBD_IS_EMPTY": Code("The device holds no medium.", ("vbd",)),
    "VBD_NOT_EMPTY": Code("The device holds a medium already.", ("vbd",), "Eject it first."),
    "VBD_NOT_REMOVABLE_MEDIA": Code("The device's medium cannot be removed.", ("vbd",)),
    "VBD_NOT_UNPLUGGABLE": Code("The device may not be unplugged.", ("vbd",)),
    "VDI_CBT_ENABLED": Code("The VDI's changes are being tracked.", ("vdi",), "Disable CBT first."),
    "VDI_IN_USE": Code(
        "The VDI is in use.", ("vdi", "operation"), "Unplug the VBDs that use the VDI."
    ),
    "VDI_INCOMPATIBLE_TYPE": Code("VDIs of this type cannot do that.", ("vdi", "type")),
    "VDI_IO_ERROR": Code("Reading or writing the VDI's content failed.", ("device",)),
    "VDI_IS_A_PHYSICAL_DEVICE": Code("The VDI stands for a physical device.", ("vdi",)),
    "VDI_HAS_RRDS": Code("The VDI holds performance data.", ("vdi",)),
    "VDI_IS_SHARABLE": Code("The VDI is sharable.", ("vdi",)),
    "VDI_MISSING": Code("The VDI's storage is gone.", ("sr", "vdi")),
    "VDI_NO_CBT_METADATA": Code("No changes of the VDI were tracked.", ("vdi",)),
    "VDI_NOT_MANAGED": Code("The VDI is internal to its SR's driver.", ("vdi",)),
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION": Code(
        "VDIs that are reset on boot cannot do that."
    ),
    "VDI_READONLY": Code("The VDI is read-only.", ("vdi",)),
    "VDI_TOO_LARGE": Code("The VDI is too large.", ("vdi", "maximum size")),
    "VDI_TOO_SMALL": Code("The VDI is too small.", ("vdi", "minimum size")),
    "VM_BAD_POWER_STATE": Code("The VM is in another power state.", ("vm", "expected", "actual")),
    "VM_HAS_VUSBS": Code("The VM has USB devices.", ("vm",)),
    "VM_IS_SNAPSHOT": Code("The VM is a snapshot, which cannot do that.", ("vm", "operation")),
    "VM_IS_TEMPLATE": Code("The VM is a template, which cannot do that.", ("vm", "operation")),
    "VM_NO_SUSPEND_SR": Code(
        "There is no SR for the VM's memory image.",
        ("vm",),
        "Set the VM's suspend_SR or the pool's suspend_image_SR to a plugged SR.",
    ),
    "VM_REQUIRES_SR": Code("The VM needs an SR that the host has not plugged in.", ("vm", "sr")),
    "VM_REVERT_FAILED": Code(
        "The VM could not be reverted; its disks are as they were.",
        ("snapshot", "vm"),
        "The server's log says what failed.",
    ),
    "VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED": Code(
        "Guests cannot be asked to hold still.", ("vm",), "Take a common snapshot: VM.snapshot."
    ),
    "XENAPI_MISSING_PLUGIN": Code("The host has no such plugin.", ("plugin",)),
    "XENAPI_PLUGIN_FAILURE": Code("The host's plugin failed.", ("fn", "error", "text")),
}


class XenAPIError(Exception):
    """An error with a code of the XenAPI; over the wire ErrorDescription = [code, *params]."""

    def __init__(self, code: str, params: Sequence[str] = ()) -> None:
        super().__init__(code, *params)
        self.code = code
        self.params = tuple(params)

    @property
    def description(self) -> list[str]:
        """The ErrorDescription of the wire."""
        return [self.code, *self.params]

    @property
    def hint(self) -> str:
        """What the caller can do about it, or ""."""
        return CODES[self.code].hint if self.code in CODES else ""

    def __str__(self) -> str:
        text = f"{self.code} [{', '.join(self.params)}]"
        return f"{text}: {self.hint}" if self.hint else text


def handle_invalid(cls: str, ref: str) -> XenAPIError:
    """`ref` names no object of class `cls`."""
    return XenAPIError("HANDLE_INVALID", (cls, ref))


def uuid_invalid(cls: str, uuid: str) -> XenAPIError:
    """No object of class `cls` has this uuid."""
    return XenAPIError("UUID_INVALID", (cls, uuid))


def internal_error(text: str) -> XenAPIError:
    """Something that should not happen; `text` goes to the client."""
    return XenAPIError("INTERNAL_ERROR", (text,))


def field_type_error(field: str) -> XenAPIError:
    """A value, parameter or field of the wrong type."""
    return XenAPIError("FIELD_TYPE_ERROR", (field,))


def other_operation(cls: str, ref: str, operation: str, task: str) -> XenAPIError:
    """`operation` of `task` is using the object. The server retries this one by itself."""
    return XenAPIError("OTHER_OPERATION_IN_PROGRESS", (cls, ref, operation, task))


def permission_denied(text: str = "") -> XenAPIError:
    """The session may not do this."""
    return XenAPIError("PERMISSION_DENIED", (text,))


def not_allowed(reason: str) -> XenAPIError:
    """The object's state forbids it; `reason` says which."""
    return XenAPIError("OPERATION_NOT_ALLOWED", (reason,))


def vdi_in_use(vdi: str, operation: str) -> XenAPIError:
    """An attached VBD forbids `operation` on the VDI."""
    return XenAPIError("VDI_IN_USE", (vdi, operation))


def sr_has_no_pbds(sr: str) -> XenAPIError:
    """No host has the SR plugged in."""
    return XenAPIError("SR_HAS_NO_PBDS", (sr,))


def sr_not_supported(sr: str) -> XenAPIError:
    """The SR's driver lacks the capability."""
    return XenAPIError("SR_OPERATION_NOT_SUPPORTED", (sr,))
