"""What drivers write into the toolstack's database: disks, their figures, the SR's figures.

    Exception
    └── Failure (srs.session)      the toolstack refused

The medium is the truth and the database its image: `reconcile` makes them agree, and the
single writes of each operation only save waiting for the next scan.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from xmlrpc.client import DateTime

from srs.session import NULL_REF, Failure, Record, Session, ignoring
from srs.vdi import Disk

_NEVER = "19700101T00:00:00Z"
#: Keys of sm_config that describe the medium; others belong to attachment and collectors.
_OWNED_KEYS = ("vhd-parent", "vdi_type", "type")
_BLOCKS = "vhd-blocks"


@dataclass(frozen=True, slots=True)
class Description:
    """What a fresh record says beyond what the medium says."""

    label: str = ""
    description: str = ""
    type: str = "user"
    read_only: bool = False
    metadata_of_pool: str = ""
    is_a_snapshot: bool = False
    snapshot_time: str = ""
    snapshot_of: str = ""
    cbt_enabled: bool = False
    sm_config: Mapping[str, str] = field(default_factory=dict)


BASE_COPY = Description(label="base copy", read_only=True)
CBT_METADATA = Description(type="cbt_metadata", read_only=True, cbt_enabled=True)


def introduce(session: Session, sr_ref: str, disk: Disk, about: Description) -> str:
    """Add a disk to the database; returns its reference. Base copies are unmanaged."""
    ref: str = session.call(
        "VDI.db_introduce",
        disk.uuid,
        about.label,
        about.description,
        sr_ref,
        about.type,
        False,  # sharable
        about.read_only,
        {},  # other_config
        disk.uuid,  # location
        {},  # xenstore_data
        {**about.sm_config, **disk.sm_config},
        not disk.hidden,  # managed
        str(disk.size),
        str(disk.utilisation),
        about.metadata_of_pool or NULL_REF,
        about.is_a_snapshot,
        DateTime(about.snapshot_time or _NEVER),
        about.snapshot_of or NULL_REF,
        about.cbt_enabled,
    )
    return ref


def refresh(session: Session, ref: str, record: Record, disk: Disk) -> None:
    """Make a record agree with the medium, with no call more than there are differences."""
    if int(record["virtual_size"]) != disk.size:
        session.call("VDI.set_virtual_size", ref, str(disk.size))
    if int(record["physical_utilisation"]) != disk.utilisation:
        session.call("VDI.set_physical_utilisation", ref, str(disk.utilisation))
    if record.get("managed", True) == disk.hidden:
        session.call("VDI.set_managed", ref, not disk.hidden)
    refresh_sm_config(session, ref, record, disk)


def refresh_sm_config(session: Session, ref: str, record: Record, disk: Disk) -> None:
    """Make those keys of sm_config that describe the medium agree with it.

    Key by key: a disk may be claimed by another host while we look at an older copy of the map.
    """
    known, wanted = record["sm_config"], disk.sm_config
    for key in _OWNED_KEYS:
        if known.get(key, "") != wanted.get(key, ""):
            if key in known:
                session.call("VDI.remove_from_sm_config", ref, key)
            if key in wanted:
                session.call("VDI.add_to_sm_config", ref, key, wanted[key])


def forget_blocks(session: Session, ref: str, record: Record) -> None:
    """Drop a collector's note of which blocks an image holds: it is another image now."""
    if _BLOCKS in record["sm_config"]:
        session.call("VDI.remove_from_sm_config", ref, _BLOCKS)


def forget(session: Session, ref: str) -> None:
    """Drop a record, if it is there."""
    ignoring(("HANDLE_INVALID",), lambda: session.call("VDI.db_forget", ref))


def find(session: Session, uuid: str) -> str:
    """Reference of a disk, empty if the database has none of that uuid."""
    try:
        return session.vdi_ref(uuid)
    except Failure as failure:
        if failure.error == "UUID_INVALID":
            return ""
        raise


def reconcile(
    session: Session,
    sr_ref: str,
    records: Mapping[str, Record],
    disks: Iterable[Disk],
    about: Mapping[str, Description],
) -> None:
    """Make the database's list of disks agree with the medium's.

    Args:
        session: the toolstack.
        sr_ref: the SR.
        records: the database's list, reference -> record.
        disks: what is on the medium.
        about: uuid -> names of disks that the database may not know; snapshot_of is a uuid.
    """
    on_medium = {disk.uuid: disk for disk in disks}
    refs = {record["location"]: ref for ref, record in records.items()}
    for location, ref in refs.items():
        if location in on_medium:
            refresh(session, ref, records[ref], on_medium[location])
        else:
            forget(session, ref)
    # Snapshots come last, so that the disk that they are of has a reference.
    fresh = [disk for disk in on_medium.values() if disk.uuid not in refs]
    for disk in sorted(fresh, key=lambda disk: of(disk, about).is_a_snapshot):
        refs[disk.uuid] = introduce(session, sr_ref, disk, _resolved(disk, about, refs))


def of(disk: Disk, about: Mapping[str, Description]) -> Description:
    """What a record says of a disk that the database may not know."""
    return about.get(disk.uuid, BASE_COPY if disk.hidden else Description())


def _resolved(disk: Disk, about: Mapping[str, Description], refs: Mapping[str, str]) -> Description:
    description = of(disk, about)
    return replace(description, snapshot_of=refs.get(description.snapshot_of, ""))


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the medium, bytes."""

    size: int
    used: int


def write_space(session: Session, sr_ref: str, space: Space, allocated: int) -> None:
    """Write all of an SR's figures; `allocated` is the sum of its disks' virtual sizes."""
    session.call("SR.set_virtual_allocation", sr_ref, str(allocated))
    session.call("SR.set_physical_size", sr_ref, str(space.size))
    session.call("SR.set_physical_utilisation", sr_ref, str(space.used))


def adjust_space(session: Session, sr_ref: str, space: Space, grown: int) -> None:
    """Write the figures after one disk changed by `grown` bytes of virtual size."""
    if grown:
        allocated = int(session.call("SR.get_virtual_allocation", sr_ref))
        session.call("SR.set_virtual_allocation", sr_ref, str(max(0, allocated + grown)))
    session.call("SR.set_physical_utilisation", sr_ref, str(space.used))
