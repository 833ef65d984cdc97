"""What must hold of an SR that its driver has just mended."""

from typing import Final

from scenarios.contents import Known, witnesses
from scenarios.crash.cases import Scene
from scenarios.crash.recording import Rows
from scenarios.invariants import check, check_everything
from scenarios.invariants import look as look_at
from scenarios.medium import Medium
from scenarios.oracle import Content
from scenarios.storage import VDI, Repository
from scenarios.violations import InvariantsBroken

_SECTOR: Final = 512


class Wrong(AssertionError):
    """Something does not hold after a recovery."""


def without_disks(rows: Rows) -> Rows:
    """The database of a new pool, which learns of an SR's disks from a scan."""
    return {key: row for key, row in rows.items() if key.cls in ("SR", "PBD")}


def verify(sr: Repository, scene: Scene, known: Known, *, fresh: bool, over: bool) -> None:
    """Check an SR that its driver has just mended, then use it.

    Args:
        sr: plugged in.
        scene: what may be there.
        known: what was seen of disks of other states.
        fresh: the database knew nothing of the disks.
        over: the operation had returned before the power went.

    Raises:
        Wrong: something is not as it must be.
        XenAPI.Failure: an operation failed that must work.
    """
    if fresh:
        # An entry about disks that the database did not know is ended once a scan has found them.
        sr.scan()
    # Before any other scan, which would mend what the recovery left in the database.
    state = look_at(sr) if scene.collects else check(sr)
    found = look(sr, state.medium, known)
    judge(found, scene, over=over)
    if not fresh:
        sr.scan()
    snapshot, disk = scene.pair
    if snapshot in found and disk in found and not fresh:
        VDI(sr, sr.api.VDI.get_by_uuid(snapshot)).revert_live_disk()
        found[disk] = found[snapshot]
    collected = sr.host.gc(sr.uuid)
    if collected.ended != "done" or collected.failed:
        raise Wrong(f"the garbage collector came to no end: {collected}")
    check_everything(sr, found, collected=True, known=known)
    if others := visible(sr).keys() - found.keys():
        raise Wrong(f"another revert, or the collection after it, made disks: {sorted(others)}")


def look(sr: Repository, stored: Medium, known: Known) -> dict[str, Content]:
    """What every visible disk holds, by uuid.

    Raises:
        InvariantsBroken: the device shows something else than other readers see.
        XenAPI.Failure: it cannot be opened.
    """
    found = {}
    with witnesses(sr, stored, known) as asked:
        for uuid, vdi in visible(sr).items():
            if not stored.whole(uuid):  # a merge that was cut off is for the collector to end
                found[uuid] = vdi.content()
                continue
            image = stored.images[uuid]
            if asked.know(image):
                # What it shows is settled by its bytes. That it opens is not: marks, counts
                # and the journal have their say.
                with vdi.plugged("RO") as device:
                    sr.host.read(device, 0, _SECTOR)
            content, differences = asked.content(image)
            if content is None or differences:
                raise InvariantsBroken(f"{sr.kind} SR {sr.uuid}", differences)
            found[uuid] = content
    return found


def visible(sr: Repository) -> dict[str, VDI]:
    """All disks but base copies, by uuid."""
    vdis = [VDI(sr, ref) for ref in sr.vdis() - sr.base_copies()]
    return {vdi.uuid: vdi for vdi in vdis}


def judge(found: dict[str, Content], scene: Scene, *, over: bool) -> None:
    """Raise Wrong unless every disk is there, with what it may hold, and no other.

    Args:
        found: what the disks hold, by uuid.
        scene: what may be there.
        over: the operation had returned before the power went.
    """
    disks = scene.settled if over else scene.disks
    for uuid, expected in disks.items():
        if uuid in found:
            _judge_content(uuid, found[uuid], expected.contents)
        elif not expected.may_be_gone:
            raise Wrong(f"disk {uuid} is lost")
    made = found.keys() - disks.keys()
    for uuid in made:
        _judge_content(uuid, found[uuid], scene.newcomers)
    fewest = scene.makes if over else 0
    if not fewest <= len(made) <= scene.makes:
        raise Wrong(f"disks made: {sorted(made)}, not {fewest} to {scene.makes} of them")


def _judge_content(uuid: str, found: Content, allowed: frozenset[Content]) -> None:
    if found not in allowed:
        raise Wrong(f"disk {uuid} holds {found}, which is none of {sorted(map(str, allowed))}")
