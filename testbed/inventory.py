"""What a host with a lasting directory has plugged in, written down for its next start.

    <directory>/host.json   {"disks": [[file, size, device], ...], "mounts": {path: file, ...},
                             "exports": [path, ...], "read_only": [path, ...]}

The order of the disks is that of their plugging in. `device` is the name that the disk had
inside, which may be another one next time.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srs.journal import fsync_directory
from testbed.devices.disk import Disk
from testbed.errors import DeviceRefused

_NAME = "host.json"


@dataclass(frozen=True, slots=True)
class Inventory:
    """Disks, the paths inside where some are mounted, and exported ones: only for reading?"""

    disks: Sequence[Disk] = ()
    mounts: Mapping[str, Disk] = field(default_factory=dict)
    exports: Mapping[str, bool] = field(default_factory=dict)


def save(directory: Path, inventory: Inventory) -> None:
    """Write it down, in one step: after a crash the file has this state or the one before."""
    document = {
        "disks": [[disk.path.name, disk.size, disk.device] for disk in inventory.disks],
        "mounts": {path: disk.path.name for path, disk in inventory.mounts.items()},
        "exports": list(inventory.exports),
        "read_only": [path for path, read_only in inventory.exports.items() if read_only],
    }
    fresh = directory / f"{_NAME}.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(directory / _NAME)  # the commit point
    fsync_directory(str(directory))


def load(directory: Path) -> Inventory:
    """What was saved last; nothing where nothing was.

    Raises:
        DeviceRefused: the file is not ours, or a disk is missing.
    """
    try:
        document = json.loads((directory / _NAME).read_text(encoding="utf-8"))
        disks = {
            name: Disk(directory / name, size, device) for name, size, device in document["disks"]
        }
        mounts = {path: disks[name] for path, name in document["mounts"].items()}
        read_only = document.get("read_only", ())
        exports = {path: path in read_only for path in document.get("exports", ())}
    except FileNotFoundError:
        return Inventory()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeviceRefused(f"{directory / _NAME} is no host's inventory: {error!r}") from error
    for disk in disks.values():
        if not disk.path.is_file():
            raise DeviceRefused(f"the disk {disk.path} is missing", hint="put it back")
    return Inventory(tuple(disks.values()), mounts, exports)
