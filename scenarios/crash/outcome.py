"""What an SR is, in one hash: SRs of equal hash have an equal future.

That is what makes it enough to let a driver recover one of them, and to look closely at one of
them afterwards. Left out is only what no driver goes by: when something happened, and where on
the disk a volume or file lies.
"""

import hashlib
import json
from typing import Any, Final

from scenarios.crash.bed import Opened
from scenarios.crash.recording import Rows, plain

#: Fields of a record that differ from one database to the next, or that others imply.
_PASSING: Final = {"SR", "VBDs", "snapshots", "snapshot_time", "parent", "VDIs", "PBDs"}
#: On files what the file system says of itself: where it put what, which no driver goes by.
_ROOM: Final = {"physical_size", "physical_utilisation"}


def outcome(sr: Opened) -> str:
    """A hash of all that an SR holds after a recovery, and of what the database says of it.

    Args:
        sr: no disk of it is in use.
    """
    everything = sr.api.VDI.get_all_records()
    records = {r["uuid"]: _plain(r, everything) for r in everything.values() if r["SR"] == sr.ref}
    disk = sr.source
    stored = disk.stored_volumes() if sr.on_volumes else disk.stored_files()
    passing = _PASSING if sr.on_volumes else _PASSING | _ROOM
    own = {
        name: value for name, value in sr.api.SR.get_record(sr.ref).items() if name not in passing
    }
    return _hash([own, records, stored])


def _plain(record: dict[str, Any], everything: dict[str, Any]) -> dict[str, Any]:
    """A record without references: those of two databases differ."""
    of = everything.get(record["snapshot_of"], {}).get("uuid", "")
    kept = {name: value for name, value in record.items() if name not in _PASSING}
    return {**kept, "snapshot_of": of}


def before(stored: dict[str, Any], rows: Rows) -> str:
    """A hash of what a driver finds when it begins to recover an SR.

    Args:
        stored: the disk's files or volumes.
        rows: the database.
    """
    return _hash([stored, plain(rows)])


def _hash(what: object) -> str:
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
