"""What the toolstack asks of a host: run a storage driver, plug a disk into dom0, read it.

Exception
└── HostError             the host could not do it; the text says what and why
    ├── BackendUnavailable    the host is down: whether the call had any effect is unknown
    ├── DeviceBusy            unplug: something on the host still has the device open
    └── PluginFailed          a host plugin failed, with an error of the XenAPI
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class HostError(Exception):
    """The host could not do what it was asked to."""


class BackendUnavailable(HostError):
    """The host is down or went down during the call."""


class DeviceBusy(HostError):
    """The device stays plugged in because something has it open."""


class PluginFailed(HostError):
    """A host plugin did not do what it was asked to. `code` and `params` are the XenAPI's."""

    def __init__(self, *params: str, code: str = "XENAPI_PLUGIN_FAILURE") -> None:
        super().__init__(code, *params)
        self.code = code
        self.params = params


@dataclass(frozen=True, slots=True)
class PluginReply:
    """What a driver process left: its two streams and its exit status (negative: a signal)."""

    stdout: str
    stderr: str
    returncode: int


class HostBackend(Protocol):
    """One host, as the toolstack sees it. All calls block; all may be made from any thread."""

    hostname: str

    def driver_types(self) -> list[str]:
        """The SR types that the host has a driver for, for example ["ext", "lvhd"]."""

    def sm_call(self, driver: str, document: str) -> PluginReply:
        """Run the driver of SR type `driver` with an XML-RPC methodCall document (SMAPIv1).

        Raises:
            BackendUnavailable: the host is down, or went down before the driver answered.
        """

    def plugin_call(self, plugin: str, fn: str, args: Mapping[str, str]) -> str:
        """Run a function of a host plugin, even while a driver runs that waits for it.

        Raises:
            PluginFailed: the plugin failed, or there is none of that name.
            BackendUnavailable: the host is down.
        """

    def plug(self, attached: Mapping[str, object], *, writable: bool) -> str:
        """Make a block device of an activated VDI and return its path, e.g. /dev/nbd0.

        `attached` is the struct that the driver's vdi_attach returned.
        """

    def unplug(self, device: str, *, force: bool = False) -> None:
        """Take the block device away again. Its data is durable on return.

        With `force` it goes even if data cannot be written: that is logged.

        Raises:
            DeviceBusy: something has it open; the device is still there.
            HostError: data could not be written; the device is still there.
        """

    def copy(self, source: str, destination: str, size: int) -> None:
        """Copy the first `size` bytes of one block device of the host to another, durably."""

    def used_blocks(self, device: str, size: int, *, base: str = "") -> Sequence[int]:
        """The numbers of the blocks of `size` bytes that hold anything but zeros.

        With another device for a `base`: those that differ from it. What lies past its end
        counts as zeros.
        """

    def read_blocks(self, device: str, offset: int, length: int) -> bytes:
        """Bytes of a plugged device; fewer only at its end."""

    def write_blocks(self, device: str, offset: int, data: bytes) -> None:
        """Write to a plugged device; durable once it was unplugged.

        Of zeros only those are written that change something: a thin disk stays thin.
        """

    def clear_blocks(self, device: str, offset: int, length: int) -> None:
        """`write_blocks` of nothing but zeros."""
