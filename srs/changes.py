"""Which blocks changed from one disk to another, as the logs tell: vdi_list_changed_blocks.

    Exception
    ├── CBTChangedBlocksError 460      no line of logs leads from one disk to the other
    └── CBTMetadataInconsistent 459    a log that cannot be believed

Two logs are neighbours only if both say so. A log that was removed, or replaced by a new one of
the same name, is so never taken for the one that continued a snapshot's.
"""

from base64 import b64encode
from uuid import UUID

from srs.cbterrors import CBTChangedBlocksError, CBTMetadataInconsistent
from srs.cbtlogs import Logs
from srs.session import Session
from srs.tracking import is_written
from srs.vhd import BadLog, cbt


def changed_blocks(logs: Logs, session: Session, older: str, newer: str) -> str:
    """A bitmap in base64, a bit for each 64 KiB of the newer disk, the first of them 0x80.

    Raises:
        CBTChangedBlocksError: not every write between the two was tracked.
        CBTMetadataInconsistent: a log on the way cannot be believed.
    """
    if older == newer:
        raise CBTChangedBlocksError(f"{older} is compared with itself")
    try:
        return _collect(logs, session, older, newer)
    except BadLog as error:
        raise CBTMetadataInconsistent(error) from error


def _collect(logs: Logs, session: Session, older: str, newer: str) -> str:
    if not logs.exists(older):
        raise CBTChangedBlocksError(f"{older} has no log")
    bits = size = 0
    uuid, log, seen = older, cbt.get(logs.open(older)), {older}
    while uuid != newer:
        following = str(log.child)
        if following in seen or not logs.exists(following):
            raise CBTChangedBlocksError(f"no log leads from {uuid} to {newer}")
        log, bitmap = cbt.read(logs.open(following))
        if log.parent != UUID(uuid):
            raise CBTChangedBlocksError(f"the log of {following} does not continue {uuid}")
        if log.size < size or not (log.consistent or _is_live(session, following)):
            raise CBTMetadataInconsistent(following)
        bits |= int.from_bytes(bitmap, "little")
        size, uuid = log.size, following
        seen.add(following)
    return b64encode(cbt.changed(bits.to_bytes(cbt.bitmap_length(size), "little"))).decode()


def _is_live(session: Session, uuid: str) -> bool:
    """Whether somebody writes to the disk now: then its log is open, and not consistent."""
    return is_written(session.vdi_record(session.vdi_ref(uuid)))
