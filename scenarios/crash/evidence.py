"""A failure in one file, which `testbed crash --replay FILE` repeats.

A zip archive:

    failure.json   what did not hold, the case, what may be left of it, and in words which
                   writes were lost
    rows.json      the database: [class, reference, fields] of every object
    disk.img       the disk that the power cut left
"""

import json
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from scenarios.crash.cases import Expected, Scene
from scenarios.crash.recording import DISK_SIZE, Rows
from scenarios.oracle import Content
from scenarios.storage import Repository
from testbed.devices.disk import Disk
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.provision import ProvisionedSR
from xapi.history import Key
from xapi.store import freeze, thaw

_FAILURE: Final = "failure.json"
_ROWS: Final = "rows.json"
_DISK: Final = "disk.img"


class BadEvidence(TestbedError):
    """A file is no evidence of a failure."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A failure, ready to be repeated.

    Attributes:
        case: name of the operation.
        why: what did not hold.
        lost: the writes that did not reach the disk, in words.
        fresh: the database knew nothing of the disks.
        over: the operation had returned.
        scene: what may be left; its operation does nothing.
        rows: the database.
        sr: kind, reference, uuid, and the directory that its disk is mounted on, or "".
    """

    case: str
    why: str
    lost: list[str]
    fresh: bool
    over: bool
    scene: Scene
    rows: Rows
    sr: tuple[str, str, str, str]


def save(path: Path, evidence: Evidence, image: Path) -> None:
    """Write it to a file, with the disk."""
    scene = evidence.scene
    text = {
        "case": evidence.case,
        "why": evidence.why,
        "lost": evidence.lost,
        "fresh": evidence.fresh,
        "over": evidence.over,
        "sr": evidence.sr,
        "disks": _plain_disks(scene.disks),
        "settled": _plain_disks(scene.settled),
        "newcomers": _plain(scene.newcomers),
        "makes": scene.makes,
        "pair": scene.pair,
        "collects": scene.collects,
    }
    rows = [[*key, freeze(row)] for key, row in evidence.rows.items()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_FAILURE, json.dumps(text, indent=2))
        archive.writestr(_ROWS, json.dumps(rows))
        archive.write(image, _DISK)


def _plain_disks(disks: dict[str, Expected]) -> dict[str, Any]:
    return {uuid: [_plain(disk.contents), disk.may_be_gone] for uuid, disk in disks.items()}


def _plain(contents: Iterable[Content]) -> list[dict[str, Any]]:
    return [asdict(content) for content in sorted(contents, key=str)]


def load(path: Path, image: Path) -> Evidence:
    """Read it, and write the disk to `image`.

    Raises:
        BadEvidence: the file is something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            said = json.loads(archive.read(_FAILURE))
            rows = json.loads(archive.read(_ROWS))
            with archive.open(_DISK) as source, image.open("wb") as target:
                shutil.copyfileobj(source, target)
        scene = Scene(
            act=lambda: None,
            disks=_disks(said["disks"]),
            settled=_disks(said["settled"]),
            newcomers=_contents(said["newcomers"]),
            makes=said["makes"],
            pair=(said["pair"][0], said["pair"][1]),
            collects=said["collects"],
        )
        return Evidence(
            case=said["case"],
            why=said["why"],
            lost=said["lost"],
            fresh=said["fresh"],
            over=said["over"],
            scene=scene,
            rows={Key(cls, ref): thaw(cls, fields) for cls, ref, fields in rows},
            sr=tuple(said["sr"]),
        )
    except (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError) as error:
        raise BadEvidence(f"{path} is no evidence of a failure: {error}") from error


def _contents(plain: list[dict[str, Any]]) -> frozenset[Content]:
    return frozenset(Content(**content) for content in plain)


def _disks(plain: dict[str, Any]) -> dict[str, Expected]:
    return {uuid: Expected(_contents(contents), gone) for uuid, (contents, gone) in plain.items()}


def describe(sr: Repository) -> tuple[str, str, str, str]:
    """What `Evidence.sr` keeps of an SR."""
    medium = sr.provisioned.medium
    return sr.kind, sr.ref, sr.uuid, medium if isinstance(medium, str) else ""


def revive(evidence: Evidence, host: Host, session: Any) -> tuple[Repository, Rows]:
    """The SR on another host, still unplugged, and the database with that host's references."""
    kind, ref, uuid, directory = evidence.sr
    there = host.xapi.xapi.host
    rows = {
        key: {**row, "host": there} if key.cls == "PBD" else row
        for key, row in evidence.rows.items()
    }
    medium = directory or Disk(Path(), DISK_SIZE, "")
    return Repository(host, session, ProvisionedSR(kind, ref, uuid, medium, {})), rows
