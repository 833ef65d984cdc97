"""For tests of the toolstack and of its clients: a server whose host is in memory."""

from xapi.testing.commands import Ended, Xe
from xapi.testing.memory import (
    CAPABILITIES,
    CBT,
    UNIMPLEMENTED,
    Disk,
    Fault,
    MemoryHost,
    UnixTransport,
)
from xapi.testing.rig import Rig, failure, serve

__all__ = [
    "CAPABILITIES",
    "CBT",
    "UNIMPLEMENTED",
    "Disk",
    "Ended",
    "Fault",
    "MemoryHost",
    "Rig",
    "UnixTransport",
    "Xe",
    "failure",
    "serve",
]
