"""Which SRs use the sessions with an iSCSI target: several may have LUNs on one.

    /run/sr-ref/<iqn>     a uuid of an SR a line; no file, nobody

Callers hold `srs.iscsi.lock()`.
"""

import os
from contextlib import suppress

from srs import paths


def _path(iqn: str) -> str:
    return f"{paths.SESSION_REFS}/{iqn}"


def users(iqn: str) -> set[str]:
    """Uuids of the SRs that use a target."""
    with suppress(FileNotFoundError), open(_path(iqn), encoding="ascii") as file:
        return set(file.read().split())
    return set()


def targets_of(uuid: str) -> list[str]:
    """The targets that an SR uses."""
    try:
        return sorted(iqn for iqn in os.listdir(paths.SESSION_REFS) if uuid in users(iqn))
    except FileNotFoundError:
        return []


def add(iqn: str, uuid: str) -> None:
    """From now on an SR uses a target."""
    _write(iqn, users(iqn) | {uuid})


def drop(iqn: str, uuid: str) -> bool:
    """An SR does not use a target any more; returns whether nobody does."""
    rest = users(iqn) - {uuid}
    _write(iqn, rest)
    return not rest


def _write(iqn: str, uuids: set[str]) -> None:
    if not uuids:
        with suppress(FileNotFoundError):
            os.unlink(_path(iqn))
        return
    os.makedirs(paths.SESSION_REFS, exist_ok=True)
    fresh = f"{_path(iqn)}.new"
    with open(fresh, "w", encoding="ascii") as file:
        file.write("".join(f"{uuid}\n" for uuid in sorted(uuids)))
    os.rename(fresh, _path(iqn))
