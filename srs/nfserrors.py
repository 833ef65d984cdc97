"""Errors of NFS, from the SMAPIv1 table.

SRError
├── LookupFailure                   (srs.errors)
│   └── NFSTarget 108
├── Refused                         (srs.errors)
│   └── NFSVersion 72 · NFSAttached 75
└── OperationFailed                 (srs.errors)
    ├── NFSMount 73 · NFSUnMount 74 · NFSDelete 76 · NFSCreate 88
    └── SharedFileSystemNoWrite 461
"""

from srs.errors import LookupFailure, OperationFailed, Refused


class NFSTarget(LookupFailure):
    """Nobody serves NFS at that address."""

    code = 108
    description = "Unable to detect an NFS service on this target"
    hint = "Name a server in device_config:server that this host reaches on TCP port 2049."


class NFSVersion(Refused):
    """A version that there is not, or that the server does not speak."""

    code = 72
    description = "NFS version unsupported"
    hint = "device_config:nfsversion is 3, 4, 4.0, 4.1 or 4.2, and the server must offer it."


class NFSAttached(Refused):
    """The SR that is to be made is mounted."""

    code = 75
    description = "NFS mount point already attached"


class NFSMount(OperationFailed):
    """The server, or the kernel, refused the mount."""

    code = 73
    description = "NFS mount error"
    hint = "Is device_config:serverpath exported to this host, and are the options right?"


class NFSUnMount(OperationFailed):
    """Somebody uses the directory."""

    code = 74
    description = "NFS unmount error"
    hint = "Detach the VDIs of the SR, and let go of files below its mount point."


class NFSDelete(OperationFailed):
    """The SR's directory on the server stays."""

    code = 76
    description = "Failed to remove NFS mount point"


class NFSCreate(OperationFailed):
    """The SR's directory on the server could not be made."""

    code = 88
    description = "Failed to create the SR's directory on the NFS server"


class SharedFileSystemNoWrite(OperationFailed):
    """The directory can be mounted, but not written."""

    code = 461
    description = "The file system for SR cannot be written to"
    hint = "Export it for writing, with root as root (no_root_squash)."
