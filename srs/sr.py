"""The abstract SR: what every driver is made of, and the answer 38 to what it does not do.

    Exception
    └── Unimplemented (38, srs.errors)    the driver has no such operation

A driver object lives for one call. It gets the request, keeps the SR's lock and a XenAPI
session, and has one method for each SMAPIv1 command that is about an SR.
"""

from dataclasses import dataclass
from typing import ClassVar

from srs.errors import LVMMaster, Unimplemented
from srs.locks import Lock
from srs.protocol import Request
from srs.session import Session
from srs.vdi import VDI


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver says about itself in sr_get_driver_info.

    Attributes:
        type: the SR type, as in `SR.create(type=...)`.
        capabilities: names such as VDI_REVERT; `NAME/2` carries a version.
        configuration: device_config key -> what it means.
    """

    type: str
    name: str
    description: str
    capabilities: tuple[str, ...]
    configuration: dict[str, str]

    def as_struct(self) -> dict[str, object]:
        """The struct that goes over the wire."""
        return {
            "name": self.name,
            "description": self.description,
            "vendor": "sr-testbed",
            "copyright": "(C) the sr-testbed authors",
            "driver_version": "1.0",
            "required_api_version": "1.0",
            "capabilities": list(self.capabilities),
            "configuration": [
                {"key": key, "description": text} for key, text in self.configuration.items()
            ],
        }


class SR:
    """A storage repository during one call.

    Args:
        request: the call; its sr_uuid, sr_ref, session_ref and device_config say which SR
            this is and how to reach the toolstack.
    """

    info: ClassVar[DriverInfo]

    def __init__(self, request: Request) -> None:
        self.request = request
        self.uuid = request.sr_uuid
        self.ref = request.sr_ref
        self.config = request.device_config
        self.session = Session(request.session_ref, request.subtask_of, request.host_ref)
        self.lock = Lock(request.sr_uuid, "sr")

    def require_master(self) -> None:
        """Refuse what only the SR's master may do.

        Raises:
            LVMMaster: this host is none.
        """
        if not self.request.is_master:
            raise LVMMaster(self.request.command)

    def prepare(self) -> None:
        """Bring the SR into a state in which a command may begin; the SR's lock is held."""

    def cleanup(self) -> None:
        """Give back what the command took for itself, whether it succeeded or not."""
        self.session.close()

    def create(self, size: int) -> None:
        """sr_create: make the SR; `size` in bytes is a wish that local SRs ignore."""
        raise Unimplemented("sr_create")

    def delete(self) -> None:
        """sr_delete: destroy the SR and all that is left on it."""
        raise Unimplemented("sr_delete")

    def attach(self) -> None:
        """sr_attach: make the SR usable on this host."""
        raise Unimplemented("sr_attach")

    def detach(self) -> None:
        """sr_detach: the opposite of attach."""
        raise Unimplemented("sr_detach")

    def scan(self) -> None:
        """sr_scan: make the database agree with what is on the SR."""
        raise Unimplemented("sr_scan")

    def update(self) -> None:
        """sr_update: write the SR's own figures to the database."""
        raise Unimplemented("sr_update")

    def probe(self) -> str:
        """sr_probe: an XML document about the SRs behind device_config."""
        raise Unimplemented("sr_probe")

    def content_type(self) -> str:
        """sr_content_type: what the SR holds."""
        return "vhd"

    def vdi(self, uuid: str) -> VDI:
        """The disk of this uuid, which need not exist yet."""
        raise Unimplemented("vdi")
