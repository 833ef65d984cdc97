"""Drivers whose revert does not work, made from the real ones. Runs inside the guest.

<type>-nocap    does not advertise VDI_REVERT, and has none
<type>-says38   advertises VDI_REVERT, and answers "not implemented" (38) when called
<type>-fails    advertises VDI_REVERT, and fails (82) when called
"""

from dataclasses import replace

from srs import registry
from srs.cowvdi import CowVDI
from srs.errors import VDISnapshot
from srs.sr import SR
from srs.vdi import VDI

_TYPES = ("file", "ext", "lvhd", "nfs", "lvhdohba", "lvhdoiscsi")


class VDIWithoutRevert(CowVDI):
    """A disk whose revert is the base class's: Unimplemented, 38."""

    revert = VDI.revert


class VDIThatFails(CowVDI):
    """A disk whose revert always fails, and has changed nothing."""

    def revert(self, target: str) -> None:
        """vdi_revert: a fault."""
        raise VDISnapshot(f"{target} was not reverted: this driver never does")


def _variant(driver: type[SR], suffix: str, disk: type[CowVDI], *, advertise: bool) -> type[SR]:
    kept = (name for name in driver.info.capabilities if advertise or name != "VDI_REVERT")

    class Variant(driver):  # type: ignore[misc, valid-type]  # a class made at run time
        info = replace(driver.info, type=f"{driver.info.type}-{suffix}", capabilities=tuple(kept))

        def vdi(self, uuid: str) -> VDI:
            return disk(self, uuid)

    return Variant


for _name in _TYPES:
    _driver = registry.get(_name)
    registry.register(_variant(_driver, "nocap", VDIWithoutRevert, advertise=False))
    registry.register(_variant(_driver, "says38", VDIWithoutRevert, advertise=True))
    registry.register(_variant(_driver, "fails", VDIThatFails, advertise=True))
