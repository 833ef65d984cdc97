"""One volume group: what is in it, and the changes that drivers make to it.

    Exception
    ├── VolNotFound (92, srs.errors)     no such volume
    ├── SRUnavailable (47, srs.errors)   no such volume group
    └── LVMError (srs.lvm)               LVM refused

A report costs as much as a change, so a group is read once per call and kept up to date by
the methods that change it. Whoever uses a group holds the SR's lock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from srs import lvm
from srs.errors import SRUnavailable, VolNotFound

#: LVM's physical extent: volume sizes are multiples of it (bytes).
EXTENT: Final = 4 << 20

_FIELDS: Final = (
    "pv_name", "pe_start", "vg_free", "vg_size", "lv_name", "lv_size", "lv_attr", "lv_tags",
    "seg_start", "pvseg_start", "vg_uuid", "lv_uuid",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume as LVM reports it.

    Attributes:
        size: bytes.
        active: it has a device-mapper node on this host.
        open: the node is open.
        readonly: LVM's permission.
        start: where its first extent lies: the physical volume's device and the offset in
            bytes; None as long as the group has not been read since it was made.
        id: LVM's identity of it, as device-mapper has it; empty as long as `start` is None.
    """

    name: str
    size: int
    active: bool = False
    open: bool = False
    readonly: bool = False
    tags: frozenset[str] = frozenset()
    start: tuple[str, int] | None = None
    id: str = ""


class VolumeGroup:
    """A volume group, read when it is first needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._volumes: dict[str, LogicalVolume] | None = None
        self._free = 0
        self._size = 0
        self._temporary: list[str] = []
        self._devices: set[str] = set()

    def path(self, volume: str) -> str:
        """Device path of a volume; it is there while the volume is active."""
        return f"/dev/{self.name}/{volume}"

    @property
    def volumes(self) -> dict[str, LogicalVolume]:
        """Name -> volume.

        Raises:
            SRUnavailable: there is no such group on this host's devices.
        """
        if self._volumes is None:
            self._volumes = self._read()
        return self._volumes

    def _read(self) -> dict[str, LogicalVolume]:
        # Of all reports, only that of the physical segments tells where a volume starts, and
        # has a row for a group without volumes.
        rows = lvm.report("pvs", _FIELDS, "--segments", "-S", f"vg_name={self.name}")
        if not rows:
            raise SRUnavailable(f"no volume group {self.name}")
        self._free, self._size = int(rows[0]["vg_free"]), int(rows[0]["vg_size"])
        self._devices = {row["pv_name"] for row in rows}
        found: dict[str, LogicalVolume] = {}
        for row in rows:
            name = row["lv_name"].strip("[]")
            if name and row["seg_start"] == "0":
                offset = int(row["pe_start"]) + int(row["pvseg_start"]) * EXTENT
                found[name] = _volume(row, (row["pv_name"], offset))
        return found

    def _commit(self, *words: str) -> None:
        """Run a command that changes LVM's metadata; the change is durable when it returns."""
        try:
            lvm.lvm(*words)
            lvm.flush(self._devices)
        except BaseException:
            # It may be on the disk all the same: whoever undoes it has to look.
            self.reread()
            raise

    def reread(self) -> None:
        """Forget what was read: somebody else may have changed the group."""
        self._volumes = None

    @property
    def exists(self) -> bool:
        """Whether the group is there."""
        try:
            return self.volumes is not None
        except SRUnavailable:
            return False

    @property
    def free(self) -> int:
        """Bytes in free extents."""
        return self._free if self.volumes is not None else 0

    @property
    def size(self) -> int:
        """Bytes in all extents."""
        return self._size if self.volumes is not None else 0

    @property
    def devices(self) -> frozenset[str]:
        """Its physical volumes; one that is missing has a name that is no path."""
        return frozenset(self._devices if self.volumes is not None else ())

    def volume(self, name: str) -> LogicalVolume:
        """A volume by name.

        Raises:
            VolNotFound: there is none.
        """
        try:
            return self.volumes[name]
        except KeyError:
            raise VolNotFound(f"{self.name}/{name}") from None

    def create(self, name: str, size: int, *, tags: Iterable[str] = ()) -> str:
        """Make a volume of at least `size` bytes, active until release(); returns its path.

        Its content is what the extents held before: whoever uses it writes its own headers.
        The volume and its tags appear in one commit of LVM's metadata.

        Raises:
            LVMNoRoom: not enough free extents.
            LVMError: otherwise.
        """
        tags = tuple(tags)
        size = -(-size // EXTENT) * EXTENT
        volumes = self.volumes
        adds = [word for tag in tags for word in ("--addtag", tag)]
        # fmt: off
        self._commit(
            "lvcreate", "-y", "-ay", "-Wn", "-Zn", "-L", f"{size}b", "-n", name, *adds, self.name,
        )
        # fmt: on
        volumes[name] = LogicalVolume(name, size, active=True, tags=frozenset(tags))
        self._free -= size
        self._temporary.append(name)
        return self.path(name)

    def remove(self, *names: str) -> None:
        """Remove volumes, active or not.

        Raises:
            LVMError: one is open, or not there.
        """
        self._commit("lvremove", "-f", *(f"{self.name}/{name}" for name in names))
        for name in names:
            self._free += self.volumes.pop(name).size
            self._drop_temporary(name)

    def rename(self, old: str, new: str) -> None:
        """Rename a volume; one that is active for this call alone is deactivated first.

        Renaming an active volume renames its device too, which takes five times as long.

        Raises:
            LVMError: no such volume, or the new name is taken.
        """
        if old in self._temporary:
            self.deactivate(old)
        self._commit("lvrename", self.name, old, new)
        self.volumes[new] = replace(self.volumes.pop(old), name=new)

    def resize(self, name: str, size: int) -> None:
        """Make a volume this large (bytes, rounded up to extents), without asking.

        Raises:
            LVMNoRoom: not enough free extents.
            LVMError: otherwise.
        """
        size = -(-size // EXTENT) * EXTENT
        volume = self.volume(name)
        if size == volume.size:
            return
        self._commit("lvresize", "-f", "-L", f"{size}b", f"{self.name}/{name}")
        self._free -= size - volume.size
        self.volumes[name] = replace(volume, size=size)

    def set_readonly(self, name: str, readonly: bool) -> None:
        """Set LVM's permission of a volume.

        Raises:
            LVMError: no such volume.
        """
        volume = self.volume(name)
        if volume.readonly != readonly:
            self._commit("lvchange", "-p", "r" if readonly else "rw", f"{self.name}/{name}")
            self.volumes[name] = replace(volume, readonly=readonly)

    def change_tag(self, name: str, *, add: str = "", remove: str = "") -> None:
        """Add or remove a tag of a volume.

        Raises:
            LVMError: no such volume.
        """
        volume = self.volume(name)
        words = [*(("--addtag", add) if add else ()), *(("--deltag", remove) if remove else ())]
        self._commit("lvchange", *words, f"{self.name}/{name}")
        self.volumes[name] = replace(volume, tags=(volume.tags | {add}) - {remove, ""})

    def activate(self, *names: str, keep: bool = False) -> None:
        """Activate those of the volumes that are not active, in one command.

        Args:
            names: volumes.
            keep: stay active after release().

        Raises:
            VolNotFound: one does not exist.
            LVMError: LVM refused.
        """
        idle = [name for name in dict.fromkeys(names) if not self.volume(name).active]
        if idle:
            lvm.lvm("lvchange", "-ay", *(f"{self.name}/{name}" for name in idle))
            for name in idle:
                self.volumes[name] = replace(self.volumes[name], active=True)
        if keep:
            for name in names:
                self._drop_temporary(name)
        else:
            self._temporary += idle

    def deactivate(self, *names: str) -> None:
        """Deactivate those of the volumes that are active, in one command.

        Raises:
            LVMError: one is open.
        """
        active = [name for name in dict.fromkeys(names) if self.volume(name).active]
        if active:
            lvm.lvm("lvchange", "-an", *(f"{self.name}/{name}" for name in active))
        for name in active:
            self.volumes[name] = replace(self.volumes[name], active=False, open=False)
            self._drop_temporary(name)

    def release(self) -> None:
        """Deactivate what was activated for this call alone."""
        if self._volumes is not None:
            # A removal that failed may have happened.
            self.deactivate(*(name for name in self._temporary if name in self.volumes))
            self._temporary.clear()

    @property
    def temporary(self) -> tuple[str, ...]:
        """The volumes that release() would deactivate."""
        return tuple(self._temporary)

    def _drop_temporary(self, name: str) -> None:
        self._temporary = [other for other in self._temporary if other != name]


def _volume(row: dict[str, str], start: tuple[str, int]) -> LogicalVolume:
    attributes = row["lv_attr"]  # reference: lvs(8), "lv_attr bits"
    return LogicalVolume(
        name=row["lv_name"].strip("[]"),
        size=int(row["lv_size"]),
        active=attributes[4] == "a",
        open=attributes[5] == "o",
        readonly=attributes[1] == "r",
        tags=frozenset(filter(None, row["lv_tags"].split(","))),
        start=start,
        id="LVM-" + (row["vg_uuid"] + row["lv_uuid"]).replace("-", ""),
    )
