"""Drivers without a revert, made from the real ones. Runs inside the guest.

<type>-nocap    does not advertise VDI_REVERT, and has none
<type>-says38   advertises VDI_REVERT, and answers "not implemented" (38) when called
"""

from dataclasses import replace

from srs import registry
from srs.cow import CowVDI
from srs.sr import SR
from srs.vdi import VDI

_TYPES = ("file", "ext", "lvhd")


class VDIWithoutRevert(CowVDI):
    """A disk whose revert is the base class's: Unimplemented, 38."""

    revert = VDI.revert


def _without_revert(driver: type[SR], suffix: str, *, advertise: bool) -> type[SR]:
    kept = (name for name in driver.info.capabilities if advertise or name != "VDI_REVERT")

    class Unable(driver):  # type: ignore[misc, valid-type]  # a class made at run time
        info = replace(driver.info, type=f"{driver.info.type}-{suffix}", capabilities=tuple(kept))

        def vdi(self, uuid: str) -> VDI:
            return VDIWithoutRevert(self, uuid)

    return Unable


for _name in _TYPES:
    _driver = registry.get(_name)
    registry.register(_without_revert(_driver, "nocap", advertise=False))
    registry.register(_without_revert(_driver, "says38", advertise=True))
