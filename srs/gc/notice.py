"""Telling the SR's owner that a collector found no room for its work.

`SM_GC_NO_SPACE` is a message about the SR. There is one at a time: its reference is kept in
SR.sm_config `gc_no_space` until a collector has found room again.
"""

from typing import Final

from srs.cow import CowSR
from srs.session import ignoring

_MESSAGE: Final = "SM_GC_NO_SPACE"
_KEY: Final = "gc_no_space"
_PRIORITY: Final = "3"
_BODY: Final = (
    "Base copies of this SR were not coalesced, because there is not enough free space. "
    "Delete disks or snapshots, or make the SR larger."
)


def no_space(sr: CowSR) -> None:
    """Say it, unless it was said already."""
    if _KEY not in sr.session.call("SR.get_sm_config", sr.ref):
        message = sr.session.call("message.create", _MESSAGE, _PRIORITY, "SR", sr.uuid, _BODY)
        sr.session.call("SR.add_to_sm_config", sr.ref, _KEY, message)


def space_again(sr: CowSR) -> None:
    """Take it back."""
    message = sr.session.call("SR.get_sm_config", sr.ref).get(_KEY)
    if message:
        ignoring(("HANDLE_INVALID",), lambda: sr.session.call("message.destroy", message))
        sr.session.call("SR.remove_from_sm_config", sr.ref, _KEY)
