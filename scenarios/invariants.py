"""What must hold of an SR at rest, whatever was done to it: docs/reference/invariants.md.

`check` looks at three things that must agree: what lies on the medium, read without the drivers
(scenarios/medium.py); what the toolstack's database says; and what the host keeps for disks in
use. It reports every violation, not the first. At rest means that no disk is attached.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scenarios.contents import Known, compare
from scenarios.medium import Medium, Room, Stored, read_directory, read_volumes
from scenarios.oracle import Holds
from scenarios.storage import Repository
from scenarios.violations import Found, InvariantsBroken, Violation

_NULL: Final = "OpaqueRef:NULL"
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Where a host keeps what belongs to disks in use, or to the calls that work on them.
_LOCKS: Final = "/var/lock/sm"
_IN_USE: Final = ("/run/blktap-control/nbd", "/run/blktap-control/ctl", "/dev/sm/phy")
_REFCOUNTS: Final = "/run/sm/refcount"
#: Bytes that a file system may write between a scan and our look: metadata of its own.
_DELAYED: Final = 1 << 20
#: sm_config of a disk at rest has no key that begins so: it is attached, or being changed.
_MARKS: Final = ("host_", "paused", "activating", "relinking")


@dataclass(frozen=True, slots=True)
class State:
    """An SR, as its three keepers know it at one moment.

    Attributes:
        kind: of the SR, such as lvhd.
        uuid: of the SR.
        sr: its record.
        records: those of its VDIs, by uuid.
        uuids: of all objects of all SRs: who may own a lock.
        refs: all VDI references of the database.
        medium: what is stored.
        host: the host's census, with the files that belong to disks in use.
        scanned: nothing was written since the last scan, so figures are exact.
        collected: a garbage collector has come to its end.
    """

    kind: str
    uuid: str
    sr: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    uuids: frozenset[str]
    refs: Mapping[str, str]
    medium: Medium
    host: Mapping[str, list[str]]
    scanned: bool = False
    collected: bool = False


def look(sr: Repository, *, scanned: bool = False, collected: bool = False) -> State:
    """Read everything; two calls to the toolstack, two to four to the guest."""
    directory = sr.directory
    host = sr.host.census(directory, _LOCKS, _REFCOUNTS, *_IN_USE)
    if sr.on_volumes:
        medium = read_volumes(sr.source, sr.device())
    else:
        files = [path for path in host["files"] if path.startswith(directory)]
        room = Room(*sr.host.kernel.call("room", path=directory))
        medium = read_directory(sr.source, directory, files, room)
    everything = sr.api.VDI.get_all_records()
    srs = sr.api.SR.get_all_records()
    return State(
        kind=sr.kind,
        uuid=sr.uuid,
        sr=srs[sr.ref],
        records={r["uuid"]: r for r in everything.values() if r["SR"] == sr.ref},
        uuids=frozenset(r["uuid"] for r in (*everything.values(), *srs.values())),
        refs={ref: record["uuid"] for ref, record in everything.items()},
        medium=medium,
        host=host,
        scanned=scanned,
        collected=collected,
    )


def broken(state: State) -> list[Violation]:
    """Every violation."""
    return [violation for rule in RULES for violation in rule(state)]


def check(sr: Repository, *, collected: bool = False) -> State:
    """Look at an SR at rest, and raise if anything is not as it must be. Reads no content.

    Args:
        sr: no disk of it is attached.
        collected: the garbage collector has run to its end: no node may be without a user.

    Raises:
        InvariantsBroken: with every violation.
    """
    state = look(sr, collected=collected)
    _raise(sr, broken(state))
    return state


def check_everything(
    sr: Repository,
    models: Mapping[str, Holds] | None = None,
    *,
    collected: bool = False,
    known: Known | None = None,
) -> None:
    """`check`; then scan, which must find nothing to mend; then compare every byte.

    Args:
        sr: no disk of it is attached.
        models: what disks must hold, by their references.
        collected: as for `check`.
        known: what need not be looked at again, for SRs that are nearly the same.

    Raises:
        InvariantsBroken: with every violation.
    """
    before = look(sr, collected=collected)
    expected = {before.refs.get(ref, ref): model for ref, model in (models or {}).items()}
    _raise(sr, [*broken(before), *lost(before, expected)])
    sr.scan()
    after = look(sr, scanned=True, collected=collected)
    differences = compare(sr, after.medium, expected, known)
    _raise(sr, [*broken(after), *mended(before, after), *lost(after, expected), *differences])


def _raise(sr: Repository, violations: list[Violation]) -> None:
    if violations:
        raise InvariantsBroken(f"{sr.kind} SR {sr.uuid}", violations)


def lost(state: State, expected: Iterable[str]) -> Found:
    """The disks that must be there are."""
    for disk in expected:
        if disk not in state.medium.images:
            yield Violation("no disk is lost", disk, "a record and an image", "none")


def mended(before: State, after: State) -> Found:
    """A scan changes nothing but the figures of disks that were written to."""
    for uuid in before.records.keys() | after.records.keys():
        old, new = before.records.get(uuid, {}), after.records.get(uuid, {})
        for name in sorted(old.keys() | new.keys()):
            if name != "physical_utilisation" and old.get(name) != new.get(name):
                where = f"{uuid} {name}"
                yield Violation("a scan mends nothing", where, old.get(name), new.get(name))


# --- the medium ----------------------------------------------------------------------------


def readable(state: State) -> Found:
    """Every image has sound footers and a sound header."""
    for image in state.medium.images.values():
        if image.fault:
            yield Violation("readable", image.name, "a sound image", image.fault)


def distinct(state: State) -> Found:
    """No two images have one identity: children would not know their parent."""
    seen: dict[bytes, str] = {}
    for image in state.medium.images.values():
        if image.head is not None:
            first = seen.setdefault(image.head.id, image.uuid)
            if first != image.uuid:
                yield Violation("distinct", image.uuid, "an identity of its own", f"{first}'s")


def tree(state: State) -> Found:
    """Every parent is there, is a base copy and no larger; no image is its own ancestor."""
    for image in state.medium.images.values():
        if image.head is None or not image.head.differencing:
            continue
        parent = state.medium.parent_of(image)
        if parent is None:
            lost = image.head.parent_name
            yield Violation("parent exists", image.uuid, f"its parent {lost}", "no such image")
            continue
        # A volume may be called by its device-mapper name, which doubles dashes.
        if parent.uuid not in image.head.parent_name.replace("--", "-"):
            yield Violation("parent name", image.uuid, parent.uuid, image.head.parent_name)
        if not parent.hidden:
            yield Violation("no visible inner node", parent.uuid, "hidden", f"{image.uuid} on it")
        if parent.virtual_size > image.virtual_size:
            yield Violation(
                "parent no larger", image.uuid, f"<= {image.virtual_size}", parent.virtual_size
            )
        if state.medium.parent_of(state.medium.chain(image.uuid)[-1]) is not None:
            yield Violation("chain ends", image.uuid, "a root", "a ring")


def used(state: State) -> Found:
    """After a collection every base copy has somebody standing on it."""
    if state.collected:
        standing = {
            p.uuid for i in state.medium.images.values() if (p := state.medium.parent_of(i))
        }
        for image in state.medium.images.values():
            if image.hidden and image.uuid not in standing:
                yield Violation("base copies are used", image.uuid, "a child", "none")


def clean(state: State) -> Found:
    """No journal, no unfinished or unknown file or volume; logs belong to disks."""
    for name in state.medium.strays:
        yield Violation("nothing else is stored", name, "no such file or volume", "it is there")
    for uuid in state.medium.logs - state.records.keys():
        yield Violation("logs belong to disks", f"{uuid}.cbtlog", "a VDI", "no record of one")


def volumes(state: State) -> Found:
    """Volumes share no byte; base copies cannot be written, all others can."""
    group = state.medium.group
    if group is None:
        return
    pieces = sorted(
        (start, size, volume.name) for volume in group.volumes.values()
        for start, size in volume.segments
    )  # fmt: skip
    for (start, size, name), (following, _, other) in itertools.pairwise(pieces):
        if start + size > following:
            yield Violation("volumes are apart", other, f"start >= {start + size} ({name})", start)
    for image in state.medium.images.values():
        if image.readonly is not None and image.readonly != image.hidden:
            yield Violation("base copies are read-only", image.name, image.hidden, image.readonly)


# --- the database --------------------------------------------------------------------------


def known(state: State) -> Found:
    """Every image has a record and every record an image, or a log and no data."""
    images = state.medium.images
    for uuid in images.keys() - state.records.keys():
        yield Violation("images are known", uuid, "a VDI record", "none")
    for uuid, record in state.records.items():
        if uuid not in images and not (
            record["type"] == "cbt_metadata" and uuid in state.medium.logs
        ):
            yield Violation("records have images", uuid, "an image", "none")
        if record["location"] != uuid:
            yield Violation("location is the uuid", uuid, uuid, record["location"])


def _pairs(state: State) -> Iterator[tuple[Stored, Mapping[str, Any]]]:
    for uuid, image in state.medium.images.items():
        if uuid in state.records and not image.fault:
            yield image, state.records[uuid]


def described(state: State) -> Found:
    """Records say of size, parent, type and being hidden what the images say."""
    for image, record in _pairs(state):
        config = record["sm_config"]
        parent = state.medium.parent_of(image)
        expected: dict[str, tuple[object, object]] = {
            "virtual_size": (image.virtual_size, int(record["virtual_size"])),
            "managed": (not image.hidden, record["managed"]),
            "sm_config:vhd-parent": (parent.uuid if parent else "", config.get("vhd-parent", "")),
            "sm_config:type": ("raw" if image.raw else "", config.get("type", "")),
            "missing": (False, record["missing"]),
        }
        if state.medium.group is not None:
            kind = "aio" if image.raw else "vhd"
            expected["sm_config:vdi_type"] = (kind, config.get("vdi_type", ""))
        for name, (there, here) in expected.items():
            if there != here:
                yield Violation("records agree", f"{image.uuid} {name}", there, here)
        yield from _utilisation(state, image, int(record["physical_utilisation"]))


def _utilisation(state: State, image: Stored, recorded: int) -> Found:
    """Exact after a scan, and for what nobody can write; else the image may have changed."""
    if recorded != image.size and (state.scanned or image.hidden):
        yield Violation("utilisation", image.uuid, image.size, recorded)


def unmarked(state: State) -> Found:
    """No disk is marked as attached or being changed, and no operation goes on."""
    for uuid, record in state.records.items():
        for key in record["sm_config"]:
            if key.startswith(_MARKS):
                yield Violation("no mark is left", f"{uuid} sm_config", "no such key", key)
        if record["current_operations"]:
            operations = sorted(record["current_operations"].values())
            yield Violation("no operation is left", uuid, "none", operations)
    if state.sr["current_operations"]:
        operations = sorted(state.sr["current_operations"].values())
        yield Violation("no operation is left", f"SR {state.uuid}", "none", operations)


def snapshots(state: State) -> Found:
    """`snapshot_of` is a visible disk of this SR, or nothing, or one that is no more."""
    for uuid, record in state.records.items():
        of = state.refs.get(record["snapshot_of"], "")
        if of and not state.records.get(of, {}).get("managed"):
            yield Violation("snapshot_of resolves", uuid, "a visible disk of this SR", of)
        noted = (state.medium.about or {}).get(uuid, {}).get("snapshot_of", "")
        if not of and noted in state.records:
            yield Violation("snapshot_of resolves", uuid, noted, record["snapshot_of"])
        if record["is_a_snapshot"] and not record["managed"]:
            yield Violation("base copies are no snapshots", uuid, False, True)


def accounts(state: State) -> Found:
    """`virtual_allocation` is the sum of the visible disks' virtual sizes.

    On LVM `physical_utilisation` is the sum of all volumes, exact after a scan, and
    `physical_size` that of the group; on files both are what the file system says.
    """
    allocated = sum(image.virtual_size for image, _ in _pairs(state) if not image.hidden)
    figures = {"virtual_allocation": allocated}
    group = state.medium.group
    if group is not None:
        figures["physical_size"] = group.size
    if group is not None and state.scanned:
        figures["physical_utilisation"] = group.used
    for name, expected in figures.items():
        if int(state.sr[name]) != expected:
            yield Violation("the SR's accounts", name, expected, int(state.sr[name]))
    if state.medium.room is not None and state.scanned:
        yield from _room(state, state.medium.room)


def _room(state: State, room: Room) -> Found:
    found = int(state.sr["physical_size"]), int(state.sr["physical_utilisation"])
    if found[0] != room.size or abs(found[1] - room.used) > _DELAYED:
        yield Violation("the SR's accounts", "size and utilisation", room, found)


def metadata(state: State) -> Found:
    """The metadata volume knows every image and no other, by the names of the database."""
    about = state.medium.about
    if about is None:
        return
    for uuid in state.medium.images.keys() - about.keys():
        yield Violation("MGT knows every disk", uuid, "a record", "none")
    for uuid in about.keys() - state.medium.images.keys():
        yield Violation("MGT knows no other", uuid, "no record", "one")
    for image, record in _pairs(state):
        noted = about.get(image.uuid, {})
        expected = {
            "name_label": _escaped(record["name_label"]),
            "vdi_type": "aio" if image.raw else "vhd",
            "type": record["type"],
            "managed": f"{not image.hidden:d}",
            "is_a_snapshot": f"{record['is_a_snapshot']:d}",
        }
        if record["snapshot_of"] == _NULL or record["snapshot_of"] in state.refs:
            # The reference of a disk that is no more says nothing; the uuid in MGT stays.
            expected["snapshot_of"] = state.refs.get(record["snapshot_of"], "")
        for name, value in expected.items():
            if noted and noted.get(name) != value:
                where = f"{image.uuid} {name}"
                yield Violation("MGT agrees", where, repr(value), repr(noted.get(name)))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- the host ------------------------------------------------------------------------------


def unused(state: State) -> Found:
    """Nothing of a disk in use is left: socket, link, reference count, device, active volume."""
    for path in state.host["files"]:
        if path.startswith((*_IN_USE, _REFCOUNTS)) and state.uuid in path:
            yield Violation("nothing is in use", path, "no such file", "it is there")
    group = f"VG_XenStorage-{state.uuid}".replace("-", "--")
    for name in state.host["mapped"]:
        if name.startswith(group) and name != f"{group}-MGT":
            yield Violation("nothing is in use", name, "inactive", "active")


def locks(state: State) -> Found:
    """Lock files are of things that exist."""
    for path in state.host["files"]:
        owner = _UUID.search(path.removeprefix(_LOCKS)) if path.startswith(_LOCKS) else None
        if owner is not None and owner[0] not in state.uuids:
            yield Violation("locks have owners", path, "a VDI or an SR of that uuid", "none")


RULES: Final[tuple[Callable[[State], Found], ...]] = (
    readable, distinct, tree, used, clean, volumes,
    known, described, unmarked, snapshots, accounts, metadata,
    unused, locks,
)  # fmt: skip
