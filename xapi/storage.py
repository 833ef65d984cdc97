"""SMAPIv2: storage as the XenAPI calls see it, whatever kind of driver stands behind.

An SR is named by its uuid, a VDI by its SR and location. `task` names the XenAPI call on whose
behalf all this happens. Sizes are bytes.

    Exception
    └── StorageError
        ├── Unimplemented     the driver has no such operation; nothing was changed
        └── BackendError      the driver failed, with the error's XenAPI code and parameters
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from xapi.datatypes import NULL
from xapi.errors import XenAPIError, sr_not_supported


class StorageError(Exception):
    """A storage operation did not happen."""


class Unimplemented(StorageError):
    """The driver does not implement the operation, for this SR or for this VDI."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} is not implemented by the driver")
        self.operation = operation


class BackendError(StorageError):
    """The driver failed. `code` and `params` are the XenAPI's."""

    def __init__(self, code: str, params: Sequence[str]) -> None:
        super().__init__(f"{code} [{', '.join(params)}]")
        self.code = code
        self.params = tuple(params)


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver says about itself. Capabilities are "NAME" or "NAME/version"."""

    name: str
    description: str
    vendor: str
    copyright: str
    driver_version: str
    required_api_version: str
    capabilities: tuple[str, ...]
    configuration: Mapping[str, str]
    image_formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewVDI:
    """The VDI that a driver shall create. `virtual_size` is the least size, in bytes."""

    virtual_size: int
    type: str
    name_label: str = ""
    name_description: str = ""
    read_only: bool = False
    sm_config: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class VDIName:
    """How a driver names a VDI that it made: its record is in the database already."""

    uuid: str
    location: str


class Storage(Protocol):
    """All that the XenAPI calls ask of storage. Every method blocks until the driver is done.

    Raises (every method):
        Unimplemented: the driver cannot do that.
        BackendError: the driver tried and failed, or could not be run.
    """

    def query(self, driver: str) -> DriverInfo:
        """What the driver for this SR type can do."""

    def sr_create(self, task: str, sr: str, size: int) -> None:
        """Make an empty SR on the device that its PBD names."""

    def sr_delete(self, task: str, sr: str) -> None:
        """Destroy an attached SR and what it holds; afterwards it is not attached."""

    def sr_attach(self, task: str, sr: str) -> None:
        """Make the SR's VDIs reachable on the host."""

    def sr_detach(self, task: str, sr: str) -> None:
        """The contrary of `sr_attach`."""

    def sr_scan(self, task: str, sr: str) -> None:
        """Bring the SR's records in line with what is on disk."""

    def sr_update(self, task: str, sr: str) -> None:
        """Write the SR's records into its own metadata."""

    def sr_probe(
        self,
        task: str,
        driver: str,
        device_config: Mapping[str, str],
        sm_config: Mapping[str, str],
    ) -> str:
        """What SRs a device holds, as an XML document of the driver's own kind."""

    def vdi_create(self, task: str, sr: str, vdi: NewVDI) -> VDIName:
        """Make a VDI of zeros."""

    def vdi_introduce(
        self, task: str, sr: str, uuid: str, location: str, sm_config: Mapping[str, str]
    ) -> VDIName:
        """Make a record for a VDI that exists on disk."""

    def vdi_delete(self, task: str, sr: str, vdi: str) -> None:
        """Destroy a VDI."""

    def vdi_snapshot(
        self, task: str, sr: str, vdi: str, driver_params: Mapping[str, str]
    ) -> VDIName:
        """Make a VDI with the present content of another one, which may be attached."""

    def vdi_clone(self, task: str, sr: str, vdi: str, driver_params: Mapping[str, str]) -> VDIName:
        """Make a writable VDI with the content of another one."""

    def vdi_revert(
        self, task: str, sr: str, snapshot: str, target: str, driver_params: Mapping[str, str]
    ) -> None:
        """Give `target` the content of `snapshot`, keeping its identity. Idempotent."""

    def vdi_resize(self, task: str, sr: str, vdi: str, size: int, *, online: bool) -> VDIName:
        """Make a VDI larger, `online` while it is attached; the driver records its new size."""

    def vdi_update(self, task: str, sr: str, vdi: str) -> None:
        """Write the VDI's record into the SR's own metadata."""

    def vdi_generate_config(self, task: str, sr: str, vdi: str) -> str:
        """What a host needs in order to attach the VDI while there is no toolstack."""

    def vdi_enable_cbt(self, task: str, sr: str, vdi: str) -> None:
        """Begin to note which blocks of a VDI change."""

    def vdi_disable_cbt(self, task: str, sr: str, vdi: str) -> None:
        """Stop that, and forget what was noted."""

    def vdi_data_destroy(self, task: str, sr: str, vdi: str) -> None:
        """Destroy a snapshot's data, and keep the note of what changed up to it."""

    def vdi_list_changed_blocks(self, task: str, sr: str, older: str, newer: str) -> str:
        """A bitmap in base64, one bit for 64 KiB: what may differ between two VDIs."""

    def vdi_epoch_begin(self, task: str, sr: str, vdi: str) -> None:
        """A VM is about to start: give a disk that is reset on boot its first content back."""

    def vdi_attach(self, task: str, sr: str, vdi: str, *, writable: bool) -> Mapping[str, object]:
        """Prepare a VDI for use on the host; the struct tells the host how to reach it."""

    def vdi_detach(self, task: str, sr: str, vdi: str) -> None:
        """The contrary of `vdi_attach`."""

    def vdi_activate(self, task: str, sr: str, vdi: str, *, writable: bool) -> None:
        """Open the data path of an attached VDI."""

    def vdi_deactivate(self, task: str, sr: str, vdi: str) -> None:
        """Close the data path."""


@contextmanager
def as_xenapi_errors(sr: str, vdi: str = NULL) -> Iterator[None]:
    """Storage errors of the block become errors of the XenAPI; `sr` and `vdi` are references."""
    try:
        yield
    except Unimplemented as error:
        if error.operation.startswith("sr_"):
            raise sr_not_supported(sr) from error
        raise XenAPIError("UNIMPLEMENTED_IN_SM_BACKEND", (sr,)) from error
    except BackendError as error:
        params = (sr, vdi) if error.code == "VDI_MISSING" else error.params
        raise XenAPIError(error.code, params) from error
