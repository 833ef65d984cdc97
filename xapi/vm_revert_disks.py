"""What VM.revert does to disks: every one of them reverted, or all as they were.

    Exception
    └── XenAPIError     what a driver failed with; the disks are as they were

Of the VM's own records nothing is written here: only those of the VDIs that are made, and
messages about what was left.

1. The disks that their drivers cannot revert are cloned. Nobody sees the clones yet.
2. Of each disk that is going to be reverted in place a snapshot is taken, to come back to.
   The last one needs none: a driver's revert by itself is all or nothing.
3. They are reverted, one after the other.

A failure in any step brings back, from their snapshots, those that were reverted before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from xapi import messages, revert, vdi_copy, vdi_steps
from xapi.datatypes import NULL
from xapi.errors import XenAPIError
from xapi.message import Call
from xapi.storage import as_xenapi_errors
from xapi.vm_revert_plan import Source

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RevertedDisks:
    """The disks after `run`: `fresh` are clones by snapshot, `in_place` those that kept their ref.

    Either `finish` or `undo` ends it.
    """

    call: Call
    fresh: dict[str, str] = field(default_factory=dict)
    in_place: list[str] = field(default_factory=list)
    image: str = NULL
    # Of the disks that are reverted in place: a snapshot of what they held before.
    _before: dict[str, str] = field(default_factory=dict)

    def run(self, sources: Sequence[Source], image: str) -> None:
        """Revert all disks and clone the suspend VDI `image`, unless it is NULL.

        Raises:
            XenAPIError: as the driver said; everything is as it was.
        """
        try:
            self._run(sources, image)
        except BaseException:
            self.undo()
            raise

    def _run(self, sources: Sequence[Source], image: str) -> None:
        native = [source for source in sources if source.native]
        for source in sources:
            if not source.native:
                self._clone(source.snapshot)
        if image != NULL:
            self.image = vdi_copy.clone(self.call, image, {})
        for source in native[:-1]:
            self._keep(source.live)
        for source in native:
            if revert.in_place(self.call, source.snapshot, source.live, {}):
                self.in_place.append(source.live)
            else:
                self._clone(source.snapshot)

    def undo(self) -> None:
        """Bring back what was changed, as far as the drivers let us; remove what was made."""
        for live in reversed(self.in_place):
            if not self._bring_back(live):
                self._before.pop(live, None)  # its only other copy: for the user to revert to
        for made in (*self.fresh.values(), *self._before.values(), self.image):
            if self.call.xapi.db.exists("VDI", made):
                vdi_steps.remove_quietly(self.call, made)

    def finish(self) -> None:
        """The database says that the disks are reverted: what was kept of before can go."""
        for live, kept in self._before.items():
            try:
                vdi_steps.remove(self.call, kept)
            except XenAPIError as error:
                self._report_left(live, kept, error)

    def _clone(self, snapshot: str) -> None:
        params = {"epochhint": self.call.xapi.db.new_uuid()}
        self.fresh[snapshot] = vdi_copy.clone(self.call, snapshot, params)

    def _keep(self, live: str) -> None:
        xapi = self.call.xapi
        sr, sr_uuid, location = vdi_steps.names(xapi, live)
        with as_xenapi_errors(sr, live):
            name = xapi.storage.vdi_snapshot(self.call.task, sr_uuid, location, {})
        kept = self._before[live] = vdi_steps.introduced(self.call, name)
        xapi.db.put(
            "VDI",
            kept,
            name_label=f"{xapi.db.get('VDI', live, 'name_label')} before a revert",
            is_a_snapshot=True,
            snapshot_of=live,
        )

    def _report_left(self, live: str, kept: str, error: XenAPIError) -> None:
        db = self.call.xapi.db
        if not db.exists("VDI", kept):
            return
        text = (
            f"It holds what VDI {db.get('VDI', live, 'uuid')} was before a revert, "
            f"and could not be destroyed: {error}"
        )
        uuid: str = db.get("VDI", kept, "uuid")
        _log.warning("VDI %s: %s", uuid, text)
        messages.post(self.call.xapi, "VM_REVERT_SNAPSHOT_LEFT", 3, "VDI", uuid, text)

    def _bring_back(self, live: str) -> bool:
        kept = self._before.get(live)
        try:
            if kept and revert.in_place(self.call, kept, live, {}):
                return True
            reason = "there is no way back"
        except XenAPIError as error:
            reason = str(error)
        db = self.call.xapi.db
        text = f"A VM.revert failed, and this disk could not be brought back: {reason}."
        if kept:
            text += f" Revert it to its snapshot {db.get('VDI', kept, 'uuid')}: VDI.revert."
        uuid: str = db.get("VDI", live, "uuid")
        _log.error("VDI %s: %s", uuid, text)
        messages.post(self.call.xapi, "VM_REVERT_DISK_NOT_BROUGHT_BACK", 2, "VDI", uuid, text)
        return False
