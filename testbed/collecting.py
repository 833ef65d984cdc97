"""What an SR's garbage collector did, as the host tells it (see srs/gc)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Collected:
    """A collector's report; images by their uuids.

    Attributes:
        garbage: removed, because nobody read them.
        coalesced: base copies whose data went down into their parents.
        leaves: disks that took the places of their parents.
        failed: what was left alone -> why.
        ended: `done`: there was nothing left to do; `aborted`: something else needed the SR;
            `off`: SR.other_config says gc=false.
    """

    garbage: tuple[str, ...]
    coalesced: tuple[str, ...]
    leaves: tuple[str, ...]
    failed: Mapping[str, str]
    ended: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The answer of the plugin `gc`, function `run`."""
        fields = json.loads(text)
        return cls(
            tuple(fields["garbage"]),
            tuple(fields["coalesced"]),
            tuple(fields["leaves"]),
            dict(fields["failed"]),
            str(fields["ended"]),
        )

    def __str__(self) -> str:
        done = (
            f"{len(self.garbage)} removed, {len(self.coalesced)} coalesced, "
            f"{len(self.leaves)} leaf-coalesced"
        )
        failed = [f"\n  {uuid}: {why}" for uuid, why in self.failed.items()]
        return "".join([done, "" if self.ended == "done" else f" ({self.ended})", *failed])
