"""Collecting the garbage of SRs through the XenAPI, and what the collector tells (see srs/gc)."""

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import XenAPI


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


def collect_all(
    session: Any, uuids: Container[str] | None = None
) -> Iterator[tuple[str, Collected | XenAPI.Failure]]:
    """Collect the garbage of all plugged SRs, or those of some uuids, on their masters.

    Yields each SR's uuid, and what was done or why nothing was.
    """
    api = session.xenapi
    (pool,) = api.pool.get_all_records().values()
    for sr in api.SR.get_all_records().values():
        pbds = [api.PBD.get_record(pbd) for pbd in sr["PBDs"]]
        hosts = {pbd["host"] for pbd in pbds if pbd["currently_attached"]}
        if not hosts or (uuids is not None and sr["uuid"] not in uuids):
            continue
        host = pool["master"] if pool["master"] in hosts else hosts.pop()
        try:
            arguments = {"srUuid": sr["uuid"], "hostRef": host}
            text = api.host.call_plugin(host, "gc", "run", arguments)
        except XenAPI.Failure as failure:
            yield sr["uuid"], failure
        else:
            yield sr["uuid"], Collected.parse(text)
