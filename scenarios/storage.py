"""SRs and VDIs as scenarios see them: XenAPI calls, and bytes through a block device."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import XenAPI

from scenarios.medium import Source
from scenarios.oracle import BLOCK, Content, Model, Span
from testbed.collecting import Collected, collect_all
from testbed.devices.faults import Faults
from testbed.devices.lio import Lun
from testbed.errors import DeviceRefused
from testbed.member import Member
from testbed.provision import ProvisionedSR

#: All but the last MiB at once, then until there is no more.
_FILL = """
cd "$0"
fallocate -l $(($(stat -f -c '%a * %S' .) - 1048576)) filler
dd if=/dev/zero bs=64K >> filler
"""

_PIECE = 1 << 20


class VDI:
    """One VDI, by reference; nothing about it is remembered here."""

    def __init__(self, sr: "Repository", ref: str) -> None:
        self.sr = sr
        self.ref = ref

    @property
    def api(self) -> Any:
        """The XenAPI's VDI messages."""
        return self.sr.api.VDI

    @property
    def uuid(self) -> str:
        """Its uuid."""
        return str(self.api.get_uuid(self.ref))

    def record(self) -> dict[str, Any]:
        """Everything that XenAPI knows of it."""
        return dict(self.api.get_record(self.ref))

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return int(self.api.get_virtual_size(self.ref))

    @property
    def snapshot_of(self) -> str:
        """Reference of the disk that it is a snapshot of."""
        return str(self.api.get_snapshot_of(self.ref))

    def on(self, host: Member) -> "VDI":
        """The same disk on another host of the pool."""
        return VDI(self.sr.on(host), self.ref)

    def exists(self) -> bool:
        """True while XenAPI has a record of it."""
        return self.ref in self.api.get_all()

    # --- operations ----------------------------------------------------------------------

    def snapshot(self) -> "VDI":
        """A snapshot."""
        return VDI(self.sr, self.api.snapshot(self.ref))

    def clone(self) -> "VDI":
        """A clone."""
        return VDI(self.sr, self.api.clone(self.ref))

    def resize(self, size: int) -> None:
        """Make it `size` bytes large."""
        self.api.resize(self.ref, str(size))

    def revert_live_disk(self) -> "VDI":
        """Revert the disk that this snapshot was taken of; the disk that resulted."""
        return VDI(self.sr, self.api.revert(self.ref))

    def destroy(self) -> None:
        """Delete it."""
        self.api.destroy(self.ref)

    # --- bytes ---------------------------------------------------------------------------

    @contextmanager
    def plugged(self, mode: str = "RW") -> Iterator[str]:
        """The path of a block device in dom0 while it is attached there."""
        vbd = self.sr.create_vbd(self.ref, mode)
        try:
            self.sr.api.VBD.plug(vbd)
            try:
                yield "/dev/" + self.sr.api.VBD.get_device(vbd)
            finally:
                self.sr.api.VBD.unplug(vbd)
        finally:
            self.sr.api.VBD.destroy(vbd)

    def write(self, spans: Sequence[Span]) -> None:
        """Write through the block device, durably."""
        with self.plugged() as device:
            self.sr.host.write(device, *((span.offset, span.data) for span in spans))

    def content(self) -> Content:
        """Everything, read from the block device."""
        with self.plugged("RO") as device:
            return Content(*self.sr.host.digest(device))

    def must_hold(self, model: Model) -> None:
        """Compare every byte with the model; on a difference, say where it begins."""
        with self.plugged("RO") as device:
            found = Content(*self.sr.host.digest(device))
            if found == model.content():
                return
            where = self._first_difference(device, model, min(found.size, model.size))
        raise AssertionError(
            f"VDI {self.uuid} on {self.sr.kind} has other content than it must have: "
            f"size {found.size}, expected {model.size}; first difference at {where}"
        )

    def _first_difference(self, device: str, model: Model, end: int) -> int:
        for offset in range(0, end, _PIECE):
            length = min(_PIECE, end - offset)
            found = self.sr.host.read(device, offset, length)
            expected = model.piece(offset, length)
            if found != expected:
                pairs = enumerate(zip(found, expected, strict=True))
                return offset + next(index for index, (a, b) in pairs if a != b)
        return end


class Repository:
    """One SR, with the host on which its disks are opened."""

    def __init__(self, host: Member, session: Any, provisioned: ProvisionedSR) -> None:
        self.host = host
        self.session = session
        self.provisioned = provisioned
        self.kind = provisioned.kind
        self.ref = provisioned.ref
        self.uuid = provisioned.uuid

    @property
    def api(self) -> Any:
        """The XenAPI."""
        return self.session.xenapi

    def with_session(self, session: Any) -> Self:
        """The same SR through another session."""
        return type(self)(self.host, session, self.provisioned)

    def create(self, size: int, label: str = "disk", **sm_config: str) -> VDI:
        """A new VDI of `size` bytes, zeros all over."""
        record = {
            "name_label": label,
            "name_description": "made by a scenario",
            "SR": self.ref,
            "virtual_size": str(size),
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {},
            "xenstore_data": {},
            "sm_config": sm_config,
            "tags": [],
        }
        return VDI(self, self.api.VDI.create(record))

    def create_vbd(
        self, vdi: str, mode: str = "RW", *, vm: str = "", userdevice: str = "autodetect"
    ) -> str:
        """A VBD record that gives a VDI to a VM, to dom0 if none is named; not plugged yet."""
        record = {
            "VM": vm or self.control_domain(),
            "VDI": vdi,
            "userdevice": userdevice,
            "bootable": False,
            "mode": mode,
            "type": "Disk",
            "empty": False,
            "unpluggable": True,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }
        return str(self.api.VBD.create(record))

    def read_all(self, vdi: VDI) -> bytes:
        """Every byte of a disk."""
        with vdi.plugged("RO") as device:
            return self.host.read(device, 0, vdi.size)

    def vbd_must_hold(self, vbd: str, model: Model) -> None:
        """Plug a VBD and compare every byte behind it with the model."""
        self.api.VBD.plug(vbd)
        try:
            found = self.host.digest("/dev/" + self.api.VBD.get_device(vbd))
        finally:
            self.api.VBD.unplug(vbd)
        if Content(*found) != model.content():
            raise AssertionError(f"VBD {vbd} shows {found}, expected {model.content()}")

    @property
    def source(self) -> Source:
        """Who has the bytes of its medium, as they are now, past drivers."""
        return self.host

    def control_domain(self) -> str:
        """The VM that stands for the host itself."""
        return str(self.api.host.get_control_domain(self.host.ref))

    def pbd(self) -> str:
        """How the host reaches it."""
        mine = self.api.host.get_PBDs(self.host.ref)
        return str(next(pbd for pbd in mine if self.api.PBD.get_SR(pbd) == self.ref))

    def on(self, host: Member) -> Self:
        """The same SR on another host of the pool."""
        return type(self)(host, self.session, self.provisioned)

    def vdis(self) -> set[str]:
        """References of all VDIs, base copies included."""
        return set(self.api.SR.get_VDIs(self.ref))

    def base_copies(self) -> set[str]:
        """References of hidden nodes."""
        return {ref for ref in self.vdis() if not self.api.VDI.get_managed(ref)}

    @property
    def revert_points(self) -> tuple[str, ...]:
        """The FIST points of a revert in place, in their order; all before its commit point."""
        family = "LVM" if self.on_volumes else "FileSR"
        return tuple(f"{family}_revert_create_{node}" for node in ("insert", "src", "dest"))

    @property
    def on_volumes(self) -> bool:
        """Whether its disks are volumes of a group, not files."""
        return self.kind.startswith("lvhd")

    @property
    def directory(self) -> str:
        """Where the files of a file SR are, inside."""
        return f"/run/sr-mount/{self.uuid}"

    def device(self) -> str:
        """The block device of an LVM SR, as it is called now."""
        config = self.api.PBD.get_device_config(self.pbd())
        if "SCSIid" in config:
            return f"/dev/{self.host.kernel.call('unit', scsi_id=config['SCSIid'])[0]}"
        return str(config["device"])

    def scan(self) -> None:
        """Compare the records with what is on disk."""
        self.api.SR.scan(self.ref)

    def detach(self) -> None:
        """Unplug every disk, and remove its VBDs."""
        for ref in self.vdis():
            for vbd in self.api.VDI.get_VBDs(ref):
                if self.api.VBD.get_currently_attached(vbd):
                    self.api.VBD.unplug(vbd)
                self.api.VBD.destroy(vbd)

    def clear(self) -> None:
        """Destroy every disk and snapshot, then what was below them."""
        self.detach()
        for ref in self.vdis() - self.base_copies():
            self.api.VDI.destroy(ref)
        if self.vdis():
            self.collect()

    def collect(self) -> Collected:
        """Have the SR's master collect garbage until there is none."""
        ((_, done),) = collect_all(self.session, [self.uuid])
        if isinstance(done, XenAPI.Failure):
            raise done
        return done

    def fill(self) -> Callable[[], None]:
        """Use up all space; returns what gives it back."""
        if self.on_volumes:
            return self._fill_group()
        filler = f"{self.directory}/filler"
        self.host.kernel.run(["sh", "-c", _FILL, self.directory])

        def remove() -> None:
            self.host.kernel.run(["rm", filler])

        return remove

    def _fill_group(self) -> Callable[[], None]:
        made: list[VDI] = []
        for blocks in (1024, 256, 64, 16, 4, 1):
            try:
                while True:
                    made.append(self.create(blocks * BLOCK, label="filler"))
            except XenAPI.Failure as failure:
                if failure.details[0] != "SR_BACKEND_FAILURE_44":
                    raise

        def destroy() -> None:
            for vdi in made:
                vdi.destroy()

        return destroy

    @property
    def faults(self) -> Faults:
        """What can go wrong with the device below. The SR was lent with a layer there."""
        medium = self.provisioned.medium
        if isinstance(medium, Lun):
            raise DeviceRefused(f"no faults below a LUN: {medium}")
        return Faults(self.host.layer(medium))

    def replug(self) -> None:
        """Unplug and plug it, and what it is mounted on: what the kernel gave up, it reads again.

        A file system whose journal met an error refuses to write until then.
        """
        pbds = self.api.SR.get_PBDs(self.ref)
        for pbd in pbds:
            self.api.PBD.unplug(pbd)
        if isinstance(self.provisioned.medium, str):
            self.host.remount_directory(self.provisioned.medium)
        for pbd in pbds:
            self.api.PBD.plug(pbd)

    # --- what is on disk, past the records -----------------------------------------------

    def stored(self) -> list[str]:
        """Everything that the SR keeps: files of a file SR, LVs of an LVM SR, with sizes."""
        if self.on_volumes:
            fields = "lv_name,lv_size,lv_attr"
            argv = ["lvs", "--noheadings", "--units", "b", "-o", fields]
            output = self.host.kernel.run([*argv, f"VG_XenStorage-{self.uuid}"])
            if output.returncode:
                raise AssertionError(f"lvs failed: {output.stderr}")
            return sorted(line.strip() for line in output.stdout.splitlines())
        return self.host.census(self.directory)["files"]

    def images(self) -> list[str]:
        """Those of `stored` that are disks, base copies included."""
        pattern = r"(VHD|LV)-" if self.kind.startswith("lvhd") else r".*[.](vhd|raw)$"
        return [name for name in self.stored() if re.match(pattern, name)]

    def chain_depth(self, vdi: VDI) -> int:
        """How many images a read of the disk may have to look into, itself included."""
        depth, uuid = 1, vdi.record()["sm_config"].get("vhd-parent")
        while uuid:
            depth += 1
            record = self.api.VDI.get_record(self.api.VDI.get_by_uuid(uuid))
            uuid = record["sm_config"].get("vhd-parent")
        return depth
