"""SCSI disks of this host, found through sysfs: nothing is executed, no udev is asked.

    OSError      a device went away while it was looked at

A LUN may be reached on several paths; each is a `Path` with a block device of its own, and all
have the LUN's SCSI id. It is made of what the unit says about itself in page 0x83 of its vital
product data, in the form that `scsi_id` prints (reference: SPC-4, "Device Identification VPD
page"; scsi_id(8)).

    /dev/disk/by-scsid/<SCSI id>/<name>     the device to use for a LUN, made by its driver

LVM on this host looks at SCSI disks by these names alone, and there is one for each LUN: so it
never sees a volume twice, however many paths there are.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_DISKS: Final = "/sys/class/scsi_disk"
_HOSTS: Final = "/sys/class/scsi_host"
#: Where the names are that drivers and LVM use.
BY_ID: Final = "/dev/disk/by-scsid"
_SECTOR: Final = 512

# Of a designator's third and fourth bytes: association, type, code set.
_NAA, _EUI64, _T10 = 3, 2, 1
_PREFERENCE: Final = (_NAA, _EUI64, _T10)
_BINARY: Final = 1

#: Seconds between two looks for a disk that is to appear.
_LOOK: Final = 0.02


@dataclass(frozen=True, slots=True)
class Path:
    """One path to a LUN.

    Attributes:
        name: of the block device, such as sda.
        host: number of the host adapter.
        channel, target, lun: the address behind it.
        scsi_id: of the unit, the same on all its paths.
        serial: the unit's serial number.
        size: bytes.
        directory: of the SCSI device in sysfs.
    """

    name: str
    host: int
    channel: int
    target: int
    lun: int
    scsi_id: str
    vendor: str
    serial: str
    size: int
    directory: str

    @property
    def device(self) -> str:
        """The block device."""
        return f"/dev/{self.name}"

    def refresh(self) -> None:
        """Have the kernel ask the unit for its size again."""
        self._tell("rescan")

    def remove(self) -> None:
        """Have the kernel forget the unit on this path, until its host looks again."""
        self._tell("delete")

    def _tell(self, what: str) -> None:
        with open(f"{self.directory}/{what}", "w", encoding="ascii") as file:
            file.write("1")


def paths(scsi_id: str = "") -> list[Path]:
    """All SCSI disks of this host, or those that lead to one unit, by address."""
    found = sorted(_all(), key=lambda path: (path.host, path.channel, path.target, path.lun))
    return [path for path in found if scsi_id in ("", path.scsi_id)]


def _all() -> Iterator[Path]:
    try:
        addresses = os.listdir(_DISKS)
    except FileNotFoundError:  # this kernel has no SCSI at all
        return
    for address in addresses:
        # One that disappears meanwhile is not there.
        with suppress(OSError, ValueError, IndexError):
            yield _path(address)


def _path(address: str) -> Path:
    directory = os.path.realpath(f"{_DISKS}/{address}/device")
    (name,) = os.listdir(f"{directory}/block")
    serial = _read(f"{directory}/vpd_pg80")[4:].decode(errors="replace").strip("\0 ")
    vendor = _text(f"{directory}/vendor")
    host, channel, target, lun = (int(part) for part in address.split(":"))
    scsi_id = unit_id(_read(f"{directory}/vpd_pg83"))
    if not scsi_id:
        scsi_id = _as_name(f"S{vendor:8}{_text(f'{directory}/model'):16}{serial}")
    size = int(_text(f"{directory}/block/{name}/size")) * _SECTOR
    return Path(name, host, channel, target, lun, scsi_id, vendor, serial, size, directory)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # the unit has no such page
        return b""


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def unit_id(page: bytes) -> str:
    """The SCSI id in a page 0x83; empty if there is none for the unit itself."""
    found: dict[int, str] = {}
    at, end = 4, 4 + int.from_bytes(page[2:4], "big")
    while at + 4 <= min(end, len(page)):
        code_set, kind, length = page[at] & 0x0F, page[at + 1], page[at + 3]
        data = page[at + 4 : at + 4 + length]
        of_unit = not kind & 0x30
        if of_unit and data:
            text = data.hex() if code_set == _BINARY else data.decode(errors="replace")
            found.setdefault(kind & 0x0F, _as_name(text))
        at += 4 + length
    return next((f"{kind}{found[kind]}" for kind in _PREFERENCE if kind in found), "")


def _as_name(text: str) -> str:
    """What a unit says about itself as part of a path."""
    words = "_".join(text.strip("\0 ").split())
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "-.") else "_" for char in words
    )


def rescan(hosts: Callable[[int], bool] = lambda host: True) -> None:
    """Have host adapters look for units; returns when they have looked.

    Args:
        hosts: which, by number.
    """
    for name in os.listdir(_HOSTS) if os.path.isdir(_HOSTS) else ():
        if hosts(int(name.removeprefix("host"))):
            with suppress(OSError), open(f"{_HOSTS}/{name}/scan", "w", encoding="ascii") as file:
                file.write("- - -")


def wait_for(look: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until something has appeared; the kernel makes block devices in the background.

    Returns:
        False when it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True


def element(name: str, fields: Mapping[str, object]) -> list[str]:
    """Lines of an XML element with fields that hold text: what lists of units are made of."""
    inner = [f"    <{key}>{escape(str(value))}</{key}>" for key, value in fields.items()]
    return [f"  <{name}>", *inner, f"  </{name}>"]


def id_of(device: str) -> str:
    """The SCSI id of the unit behind a block device; empty if it is none."""
    real = os.path.realpath(device)
    return next((path.scsi_id for path in paths() if path.device == real), "")


def publish(scsi_id: str, device: str, name: str) -> str:
    """Make `device` the one to use for a unit, in place of another; returns the new path."""
    directory = f"{BY_ID}/{scsi_id}"
    os.makedirs(directory, exist_ok=True)
    link = f"{directory}/{name}"
    if not (os.path.islink(link) and os.readlink(link) == device):
        with suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(device, link)
    for other in os.listdir(directory):
        if other != name:
            os.unlink(f"{directory}/{other}")
    return link


def published(scsi_id: str) -> str:
    """The path to use for a unit; empty if there is none."""
    try:
        names = os.listdir(f"{BY_ID}/{scsi_id}")
    except FileNotFoundError:
        return ""
    return f"{BY_ID}/{scsi_id}/{names[0]}" if names else ""


def withdraw(scsi_id: str) -> None:
    """Undo publish."""
    link = published(scsi_id)
    if link:
        os.unlink(link)
    with suppress(FileNotFoundError):
        os.rmdir(f"{BY_ID}/{scsi_id}")
