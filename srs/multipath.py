"""Several paths to one LUN as one device: device-mapper's multipath target.

    OSError      device-mapper refuses

A map is named after the SCSI id, and its uuid begins with `mpath-` as that of `multipathd`'s
does. The kernel spreads requests over the paths, and stops using one that fails. Nobody
watches the paths in between: one that works again is used again when the map is assembled
anew, which the driver does at sr_attach and sr_scan.

Not multipathd: it learns of paths, and of their units, from udev alone; where there is none
it knows nothing, and where there is one installing it would make it take the machine's disks.
"""

from collections.abc import Sequence

from srs import devicemapper
from srs.scsi import Path

_SECTOR = 512


def assemble(paths: Sequence[Path]) -> str:
    """Make the map of a LUN, or bring it up to date; returns its device, /dev/dm-N.

    Args:
        paths: all paths to one LUN; those on which it told no size when it was asked last are
            left out, unless it is so on every one.

    Raises:
        OSError: device-mapper refuses.
    """
    name = paths[0].scsi_id
    paths = [path for path in paths if path.size] or paths
    size = min(path.size for path in paths)
    # No features, no hardware handler, one group in which every path takes its turn.
    members = " ".join(f"{path.device} 1" for path in paths)
    parameters = f"0 0 1 1 round-robin 0 {len(paths)} 1 {members}"
    table = [(0, size // _SECTOR, "multipath", parameters)]
    number = devicemapper.find(name)
    if number is None:
        return devicemapper.create(name, table, uuid=f"mpath-{name}")
    devicemapper.switch(name, table)
    return number


def exists(scsi_id: str) -> bool:
    """Whether a LUN has a map."""
    return devicemapper.find(scsi_id) is not None


def dissolve(scsi_id: str) -> None:
    """Remove the map of a LUN, if it has one.

    Raises:
        OSError: EBUSY while it is in use.
    """
    if exists(scsi_id):
        devicemapper.remove(scsi_id)
