"""Plugin `on-slave`: what a host's driver asks of another host that has the SR plugged in.

is_open {srUuid, vdiUuid}             "True" where the host has the VDI active, else "False"
multi {vgName, action1, lvName1, uuid1, ns1, action2, ...}
                                      what to do with volumes, in this order, as drivers of
                                      XenServer's own storage manager ask for it
refresh_lun_size_by_SCSIid {SCSIid}   look again how large a LUN is

Actions: `activate` and `deactivate` count users of the volume `uuid` in the namespace `ns`, and
do what they say for the first and the last; `deactivateNoRefcount` and `refresh` only do it;
`cleanupLockAndRefcount` forgets count and locks. (This project's own drivers need none of
them: `tapdisk-pause` has a host give volumes back and take them as they are now.)
"""

import glob
import os
from collections.abc import Callable
from dataclasses import replace

from srs import locks, lvm
from srs.datapath import tap
from srs.plugins import UnknownFunction, by_function
from srs.refcount import RefCounts

Arguments = dict[str, str]


def _is_open(arguments: Arguments) -> str:
    return str(tap.is_active(arguments["srUuid"], arguments["vdiUuid"]))


def _multi(arguments: Arguments) -> str:
    number = 1
    while f"action{number}" in arguments:
        volume = f"{arguments['vgName']}/{arguments.get(f'lvName{number}', '')}"
        uuid, namespace = (arguments.get(f"{key}{number}", "") for key in ("uuid", "ns"))
        action = _ACTIONS.get(arguments[f"action{number}"])
        if action is None:
            raise UnknownFunction(arguments[f"action{number}"])
        action(volume, uuid, namespace)
        number += 1
    return "True"


def _change_count(uuid: str, namespace: str, step: int) -> int:
    """Count one user more or less; returns how many there are now."""
    counts = RefCounts(namespace)
    count = counts.get(uuid)
    count = replace(count, normal=max(0, count.normal + step))
    counts.set(uuid, count)
    return count.normal + count.binary


def _activate(volume: str, uuid: str, namespace: str) -> None:
    if _change_count(uuid, namespace, +1) == 1:
        lvm.lvm("lvchange", "-ay", volume)


def _deactivate(volume: str, uuid: str, namespace: str) -> None:
    if _change_count(uuid, namespace, -1) == 0:
        lvm.lvm("lvchange", "-an", volume)


def _forget(_volume: str, uuid: str, namespace: str) -> None:
    counts = RefCounts(namespace)
    counts.set(uuid, replace(counts.get(uuid), normal=0, binary=0))
    locks.remove(uuid)


_ACTIONS: dict[str, Callable[[str, str, str], object]] = {
    "activate": _activate,
    "deactivate": _deactivate,
    "deactivateNoRefcount": lambda volume, _uuid, _ns: lvm.lvm("lvchange", "-an", volume),
    "refresh": lambda volume, _uuid, _ns: lvm.lvm("lvchange", "--refresh", volume),
    "cleanupLockAndRefcount": _forget,
}


def _refresh_lun_size(arguments: Arguments) -> str:
    for node in glob.glob(f"/dev/disk/by-scsid/{glob.escape(arguments['SCSIid'])}/*"):
        rescan = f"/sys/block/{os.path.basename(os.path.realpath(node))}/device/rescan"
        if os.path.exists(rescan):  # a node over several paths has none of its own
            with open(rescan, "w", encoding="ascii") as file:
                file.write("1")
    return "True"


plugin = by_function({
    "is_open": _is_open,
    "multi": _multi,
    "refresh_lun_size_by_SCSIid": _refresh_lun_size,
})  # fmt: skip
