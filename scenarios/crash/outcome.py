"""What a recovery has led to, in one hash: SRs of equal outcome have an equal future.

That is what makes it enough to look closely at one of them. Left out is only what no driver
goes by: when something happened, and where on the disk an image lies.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from scenarios.lvmtext import Volume, read_group
from scenarios.storage import Repository
from testbed.devices.sparse import grains

#: Fields of a record that differ from one database to the next, or that others imply.
_PASSING: Final = {"SR", "VBDs", "snapshots", "snapshot_time", "parent", "VDIs", "PBDs"}
#: On files what the file system says of itself: where it put what, which no driver goes by.
_ROOM: Final = {"physical_size", "physical_utilisation"}


def outcome(sr: Repository, image: Path) -> str:
    """A hash of all that the SR holds, and of what the database says of it.

    Args:
        sr: plugged in, no disk in use.
        image: the file of its disk, to which requests come one by one.
    """
    everything = sr.api.VDI.get_all_records()
    records = {r["uuid"]: _plain(r, everything) for r in everything.values() if r["SR"] == sr.ref}
    if sr.on_volumes:
        stored = _volumes(image)
    else:
        stored = sr.host.kernel.call("hash_files", directory=f"/run/sr-mount/{sr.uuid}")
    passing = _PASSING if sr.on_volumes else _PASSING | _ROOM
    own = {
        name: value for name, value in sr.api.SR.get_record(sr.ref).items() if name not in passing
    }
    text = json.dumps([own, records, stored], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(record: dict[str, Any], everything: dict[str, Any]) -> dict[str, Any]:
    """A record without references: those of two databases differ."""
    of = everything.get(record["snapshot_of"], {}).get("uuid", "")
    kept = {name: value for name, value in record.items() if name not in _PASSING}
    return {**kept, "snapshot_of": of}


def _volumes(image: Path) -> dict[str, Any]:
    """Of each volume on a disk: size, permission, tags, and a hash of its bytes."""
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        group = read_group(lambda offset, length: os.pread(fd, length, offset))
        return {
            name: [volume.size, volume.readonly, sorted(volume.tags), _hash(volume, fd)]
            for name, volume in group.volumes.items()
        }
    finally:
        os.close(fd)


def _hash(volume: Volume, fd: int) -> str:
    sha = hashlib.sha256()
    base = 0
    for start, length in volume.segments:
        for at, data in grains(fd, start, start + length):
            sha.update(b"%d:" % (base + at - start))
            sha.update(data)
        base += length
    return sha.hexdigest()
