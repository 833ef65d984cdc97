"""Hosts that are not the SR's master: two kernels, one disk, real LVM metadata on it."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from typing import Any

import pytest
import XenAPI

from testbed.devices.disk import GiB, MiB
from testbed.guest.setup import HOST_ROOT
from testbed.kernel.guestconfig import ROOT
from testbed.pool import Pool, PoolHost
from testbed.sessions import close_session

_SIZE = 16 * MiB


class Shared:
    """An LVHD SR on a disk that two hosts have."""

    def __init__(self, pool: Pool, session: Any, allocation: str) -> None:
        self.pool = pool
        self.session = session
        self.api = session.xenapi
        self.master, self.slave = pool.master, pool.slaves[0]
        device = pool.add_disk(2 * GiB).device
        config = {"device": device, "allocation": allocation}
        self.sr = self.api.SR.create(
            self.master.ref, config, "0", "shared", "", "lvhd", "user", True, {}
        )
        self.uuid = self.api.SR.get_uuid(self.sr)
        self.group = f"VG_XenStorage-{self.uuid}"

    def create(self) -> str:
        record = {
            "name_label": "disk", "name_description": "", "SR": self.sr, "type": "user",
            "virtual_size": str(_SIZE), "sharable": False, "read_only": False,
            "other_config": {},
        }  # fmt: skip
        return str(self.api.VDI.create(record))

    @contextmanager
    def plugged(self, host: PoolHost, vdi: str, mode: str = "RW") -> Iterator[str]:
        dom0 = self.api.host.get_control_domain(host.ref)
        record = {
            "VM": dom0, "VDI": vdi, "userdevice": "autodetect", "bootable": False, "mode": mode,
            "type": "Disk", "empty": False, "other_config": {}, "unpluggable": True,
            "qos_algorithm_type": "", "qos_algorithm_params": {},
        }  # fmt: skip
        vbd = self.api.VBD.create(record)
        try:
            self.api.VBD.plug(vbd)
            try:
                yield "/dev/" + self.api.VBD.get_device(vbd)
            finally:
                self.api.VBD.unplug(vbd)
        finally:
            self.api.VBD.destroy(vbd)

    def write(self, host: PoolHost, vdi: str, text: bytes, at: int = 0) -> None:
        with self.plugged(host, vdi) as device:
            host.write(device, (at, text))

    def read(self, host: PoolHost, vdi: str, length: int, at: int = 0) -> bytes:
        with self.plugged(host, vdi, "RO") as device:
            return host.read(device, at, length)

    def lvs(self, host: PoolHost, fields: str) -> dict[str, str]:
        """Volume -> what LVM on a host says."""
        command = f"lvs --noheadings --nosuffix --units b -o lv_name,{fields} {self.group}"
        lines = host.kernel.run(["sh", "-c", command]).stdout.splitlines()
        return {name: " ".join(rest) for name, *rest in map(str.split, lines)}

    def generation(self) -> str:
        """How often LVM's metadata has been written."""
        command = ["vgs", "--noheadings", "-o", "vg_seqno", self.group]
        return self.master.kernel.run(command).stdout.strip()

    def nodes(self, host: PoolHost) -> set[str]:
        """Volumes that a host has device-mapper nodes of; the metadata volume is always there."""
        names = host.census()["mapped"]
        prefix = self.group.replace("-", "--") + "-"
        found = {name.removeprefix(prefix).replace("--", "-") for name in names if prefix in name}
        return found - {"MGT"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(hosts=2) as made:
        yield made


@pytest.fixture(scope="module", params=["thick", "thin"])
def shared(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Shared]:
    session = pool.session()
    yield Shared(pool, session, request.param)
    close_session(session)


def test_what_one_host_writes_the_other_reads(shared: Shared) -> None:
    vdi = shared.create()
    for number in range(2):
        for writer, reader in ((shared.slave, shared.master), (shared.master, shared.slave)):
            text = f"{writer.hostname} {number}".encode()
            shared.write(writer, vdi, text, at=5 * MiB)
            assert shared.read(reader, vdi, len(text), at=5 * MiB) == text
    assert shared.nodes(shared.slave) == shared.nodes(shared.master) == set()


def test_a_snapshot_of_a_disk_that_a_slave_writes_to(shared: Shared) -> None:
    vdi = shared.create()
    with shared.plugged(shared.slave, vdi) as device:
        shared.slave.write(device, (0, b"before"), (5 * MiB, b"kept"))
        snapshot = shared.api.VDI.snapshot(vdi)
        shared.slave.write(device, (0, b"after!"))
        assert shared.slave.read(device, 0, 6) == b"after!"
        assert shared.slave.read(device, 5 * MiB, 4) == b"kept"
        assert shared.read(shared.master, snapshot, 6) == b"before"
    assert shared.read(shared.master, vdi, 6) == b"after!"
    assert shared.read(shared.slave, snapshot, 6) == b"before"
    assert shared.nodes(shared.slave) == set()


def test_a_revert_shows_on_every_host(shared: Shared) -> None:
    vdi = shared.create()
    snapshots = []
    for text in (b"one", b"two"):
        shared.write(shared.slave, vdi, text)
        snapshots.append((shared.api.VDI.snapshot(vdi), text))
    shared.write(shared.slave, vdi, b"bad")
    for snapshot, text in (*snapshots, snapshots[0]):
        shared.api.VDI.revert(snapshot)
        assert shared.read(shared.slave, vdi, 3) == text
        assert shared.read(shared.master, vdi, 3) == text
        shared.write(shared.slave, vdi, b"bad")


def test_what_a_slave_left_active_is_not_what_it_reads_next(shared: Shared) -> None:
    """As after a driver's crash: nodes with the name of another volume, or another size."""
    vdi = shared.create()
    shared.write(shared.slave, vdi, b"good")
    snapshot = shared.api.VDI.snapshot(vdi)
    shared.write(shared.master, vdi, b"evil")
    volumes = [f"{shared.group}/{name}" for name in shared.lvs(shared.slave, "lv_attr")]
    assert shared.slave.kernel.run(["lvchange", "-ay", *volumes]).returncode == 0
    shared.api.VDI.revert(snapshot)
    shared.api.VDI.resize(vdi, str(2 * _SIZE))
    with shared.plugged(shared.slave, vdi) as device:
        assert shared.slave.read(device, 0, 4) == b"good"
        assert shared.slave.digest(device)[0] == 2 * _SIZE
        shared.slave.write(device, (2 * _SIZE - 4, b"last"))
    assert shared.read(shared.master, vdi, 4, at=2 * _SIZE - 4) == b"last"
    assert shared.nodes(shared.slave) == set()


def test_a_slave_keeps_an_sr_whose_volumes_are_open(shared: Shared) -> None:
    """It is not detached below them."""
    volume = f"{shared.group}/{next(iter(shared.lvs(shared.slave, 'lv_attr')))}"
    run = shared.slave.kernel.run
    assert run(["lvchange", "-ay", volume]).returncode == 0
    table = f"0 8 linear /dev/{volume} 0"
    assert run(["dmsetup", "create", "holder", "--table", table]).returncode == 0
    [pbd] = (
        ref
        for ref in shared.api.SR.get_PBDs(shared.sr)
        if shared.api.PBD.get_host(ref) == shared.slave.ref
    )
    with pytest.raises(XenAPI.Failure, match="SR_DEVICE_IN_USE"):
        shared.api.PBD.unplug(pbd)
    assert shared.api.PBD.get_currently_attached(pbd)
    assert run(["dmsetup", "remove", "holder"]).returncode == 0
    shared.api.PBD.unplug(pbd)
    shared.api.PBD.plug(pbd)


def test_a_slave_leaves_the_metadata_alone(shared: Shared) -> None:
    vdi = shared.create()
    shared.write(shared.master, vdi, b"text")
    before = shared.generation()
    assert shared.read(shared.slave, vdi, 4) == b"text"
    assert shared.generation() == before


def test_a_slave_has_the_master_make_room(shared: Shared) -> None:
    vdi = shared.create()
    name = f"VHD-{shared.api.VDI.get_uuid(vdi)}"
    at_rest = int(shared.lvs(shared.master, "lv_size")[name])
    with shared.plugged(shared.slave, vdi) as device:
        assert int(shared.lvs(shared.master, "lv_size")[name]) > _SIZE
        shared.slave.write(device, (0, b"x" * _SIZE))
    grown = int(shared.lvs(shared.master, "lv_size")[name])
    assert grown >= at_rest
    assert shared.read(shared.master, vdi, 8, at=_SIZE - 8) == b"x" * 8


def test_a_master_that_has_no_room(shared: Shared) -> None:
    """The slave answers what the master said; nothing has changed, and later there is room."""
    vdi = shared.create()
    shared.write(shared.master, vdi, b"text")
    snapshot = shared.api.VDI.snapshot(vdi)
    before = shared.api.VDI.get_record(snapshot)
    run = shared.master.kernel.run
    filler = ["lvcreate", "-y", "-Wn", "-Zn", "-an", "-n", "filler", "-l", "100%FREE"]
    assert run([*filler, shared.group]).returncode == 0
    with pytest.raises(XenAPI.Failure) as refused, shared.plugged(shared.slave, snapshot):
        pass
    assert refused.value.details[0] == "SR_BACKEND_FAILURE_44"
    assert "bytes needed" in refused.value.details[2]
    assert shared.api.VDI.get_record(snapshot) == before
    assert run(["lvremove", "-y", f"{shared.group}/filler"]).returncode == 0
    with shared.plugged(shared.slave, snapshot) as device:
        assert shared.slave.read(device, 0, 4) == b"text"


def test_two_hosts_do_not_write_one_disk(shared: Shared) -> None:
    vdi = shared.create()
    with shared.plugged(shared.slave, vdi) as device:
        shared.slave.write(device, (0, b"mine"))
        before = shared.api.VDI.get_record(vdi)
        with pytest.raises(XenAPI.Failure), shared.plugged(shared.master, vdi):
            pass
        assert shared.api.VDI.get_sm_config(vdi) == before["sm_config"]
        assert shared.slave.read(device, 0, 4) == b"mine"


def test_a_claim_that_its_host_knows_nothing_of(shared: Shared) -> None:
    vdi = shared.create()
    shared.write(shared.slave, vdi, b"text")
    shared.api.VDI.add_to_sm_config(vdi, f"host_{shared.slave.ref}", "RW")
    assert shared.read(shared.master, vdi, 4) == b"text"
    assert shared.api.VDI.get_sm_config(vdi).keys() == {"vdi_type"}


@pytest.mark.parametrize("alive", [True, False])
def test_an_activation_that_died(shared: Shared, alive: bool) -> None:
    vdi = shared.create()
    owner = shared.slave.ref if alive else "OpaqueRef:a-host-that-is-gone"
    shared.api.VDI.add_to_sm_config(vdi, "activating", owner)
    shared.write(shared.master, vdi, b"text")
    assert shared.api.VDI.get_sm_config(vdi).keys() == {"vdi_type"}


def test_room_that_somebody_else_needs_by_now(shared: Shared) -> None:
    """A slave's last word about a disk comes late: the disk is open elsewhere."""
    vdi = shared.create()
    uuid = shared.api.VDI.get_uuid(vdi)
    master, slave = shared.master, shared.slave

    def give_back(host: PoolHost, asker: PoolHost) -> None:
        names = {"srUuid": shared.uuid, "vdiUuid": uuid, "asker": asker.ref, "hostRef": host.ref}
        shared.api.host.call_plugin(master.ref, "lvhd-thin", "detach", names)

    for opener, late in ((master, slave), (slave, master)):
        with shared.plugged(opener, vdi):
            size = shared.lvs(master, "lv_size")[f"VHD-{uuid}"]
            give_back(master, late)
            assert shared.lvs(master, "lv_size")[f"VHD-{uuid}"] == size
    with pytest.raises(XenAPI.Failure, match="not the pool's master"):
        give_back(slave, slave)
    give_back(master, slave)
    assert int(shared.lvs(master, "lv_size")[f"VHD-{uuid}"]) < int(size)


def test_a_host_that_wants_a_disk_whose_room_is_being_given_back(shared: Shared) -> None:
    """It waits, and has all the room afterwards."""
    vdi = shared.create()
    master, slave = shared.master, shared.slave
    names = {"srUuid": shared.uuid, "vdiUuid": shared.api.VDI.get_uuid(vdi)}
    words = {**names, "hostRef": master.ref, "asker": master.ref}
    shared.api.host.call_plugin(master.ref, "lvhd-thin", "attach", words)
    own = [shared.pool.session() for _ in range(2)]
    other = copy(shared)
    other.api = own[1].xenapi
    with ThreadPoolExecutor() as threads:
        with master.fist("lvhd_thin_detach_paused", action="hold") as fist:
            plugin = own[0].xenapi.host.call_plugin
            giving = threads.submit(plugin, master.ref, "lvhd-thin", "detach", words)
            assert fist.wait(60)
            assert shared.api.VDI.get_sm_config(vdi)["paused"] == "true"
            writing = threads.submit(other.write, slave, vdi, b"the end", at=_SIZE - 7)
        giving.result()
        writing.result()
    assert shared.read(master, vdi, 7, at=_SIZE - 7) == b"the end"
    assert shared.api.VDI.get_sm_config(vdi).keys() == {"vdi_type"}
    for session in own:
        close_session(session)


def test_room_is_not_given_back_under_a_pause_that_was_left(shared: Shared) -> None:
    """What recovery keeps still, such as a disk above rubbish, no plugin sets going."""
    vdi = shared.create()
    master = shared.master
    words = {"srUuid": shared.uuid, "vdiUuid": shared.api.VDI.get_uuid(vdi)}
    words |= {"hostRef": master.ref, "asker": shared.slave.ref}
    shared.api.VDI.add_to_sm_config(vdi, "paused", "true")
    with pytest.raises(XenAPI.Failure, match="Critical journals are pending"):
        shared.api.host.call_plugin(master.ref, "lvhd-thin", "detach", words)
    assert shared.api.VDI.get_sm_config(vdi)["paused"] == "true"
    shared.api.VDI.remove_from_sm_config(vdi, "paused")


def test_an_interrupted_revert_keeps_slaves_away(shared: Shared) -> None:
    vdi = shared.create()
    shared.write(shared.master, vdi, b"good")
    snapshot = shared.api.VDI.snapshot(vdi)
    shared.write(shared.master, vdi, b"evil")
    with (
        shared.master.fist("LVM_revert_create_dest"),
        pytest.raises(XenAPI.Failure, match="203"),
    ):
        shared.api.VDI.revert(snapshot)
    pending = re.escape("Critical journals are pending. A scan is required.")
    with pytest.raises(XenAPI.Failure, match=pending), shared.plugged(shared.slave, vdi):
        pass
    shared.api.SR.scan(shared.sr)
    assert shared.read(shared.slave, vdi, 4) == b"evil"
    shared.api.VDI.revert(snapshot)
    assert shared.read(shared.slave, vdi, 4) == b"good"


def test_a_disk_that_is_half_done_can_be_closed(shared: Shared) -> None:
    """The master stopped in the middle of its snapshot; the slave that had it open lets it go."""
    vdi = shared.create()
    shared.write(shared.slave, vdi, b"text")
    shared.api.VDI.enable_cbt(vdi)
    storage = shared.pool.xapi.xapi.hosts[shared.slave.ref].storage
    names = ("OpaqueRef:NULL", shared.uuid, shared.api.VDI.get_uuid(vdi))
    storage.vdi_attach(*names, writable=True)
    storage.vdi_activate(*names, writable=True)
    with (
        shared.master.fist("LVHDRT_clone_vdi_after_first_snap"),
        pytest.raises(XenAPI.Failure, match="203"),
    ):
        shared.api.VDI.snapshot(vdi)
    storage.vdi_deactivate(*names)
    storage.vdi_detach(*names)
    assert shared.nodes(shared.slave) == set()
    assert f"host_{shared.slave.ref}" not in shared.api.VDI.get_sm_config(vdi)
    shared.api.SR.scan(shared.sr)
    assert shared.read(shared.slave, vdi, 4) == b"text"


def test_a_collector_merges_below_a_disk_that_a_slave_writes_to(shared: Shared) -> None:
    vdi = shared.create()
    with shared.plugged(shared.slave, vdi) as device:
        snapshots = []
        for number in range(3):
            shared.slave.write(
                device, (number * 2 * MiB, b"%d" % number), (8 * MiB, b"%d" % number)
            )
            snapshots.append(shared.api.VDI.snapshot(vdi))
        expected = hashlib.sha256(shared.slave.read(device, 0, _SIZE)).hexdigest()
        for left in (snapshots[:2], snapshots[2:]):
            for snapshot in left:
                shared.api.VDI.destroy(snapshot)
            shared.master.gc(shared.uuid)
            assert shared.slave.digest(device) == (_SIZE, expected)
        assert shared.nodes(shared.slave) == {f"VHD-{shared.api.VDI.get_uuid(vdi)}"}
        # What was a base copy has the room of a disk that is written to.
        shared.slave.write(device, (0, b"x" * _SIZE))
    assert shared.read(shared.master, vdi, 8, at=_SIZE - 8) == b"x" * 8


def test_another_master_ends_what_the_first_began(shared: Shared) -> None:
    """The master dies in the middle of a snapshot of a disk that the slave writes to."""
    vdi = shared.create()
    old, new = shared.master, shared.slave
    with shared.plugged(new, vdi) as device:
        new.write(device, (0, b"before"))
        with (
            old.fist("LVHDRT_clone_vdi_after_first_snap", "power-cut"),
            pytest.raises(XenAPI.Failure),
        ):
            shared.api.VDI.snapshot(vdi)
        shared.pool.appoint(new)
        shared.api.SR.scan(shared.sr)
        assert new.read(device, 0, 6) == b"before"
        new.write(device, (0, b"after!"))
        shared.master, shared.slave = new, old
        shared.pool.restart(old, shared.session)
    assert shared.read(old, vdi, 6) == b"after!"
    snapshot = shared.api.VDI.snapshot(vdi)
    shared.write(old, vdi, b"lost..")
    shared.api.VDI.revert(snapshot)
    assert shared.read(old, vdi, 6) == b"after!"


def test_volumes_as_other_drivers_have_them_activated(shared: Shared) -> None:
    """Plugin on-slave, function multi: users are counted, renamed volumes are refreshed."""
    name = f"VHD-{shared.api.VDI.get_uuid(shared.create())}"
    namespace = f"lvm-{shared.uuid}"

    def multi(*actions: str) -> str:
        arguments = {"vgName": shared.group}
        for number, action in enumerate(actions, 1):
            arguments |= {
                f"action{number}": action, f"lvName{number}": name,
                f"uuid{number}": name.removeprefix("VHD-"), f"ns{number}": namespace,
            }  # fmt: skip
        slave = shared.slave.ref
        return str(shared.api.host.call_plugin(slave, "on-slave", "multi", arguments))

    assert multi("activate", "activate", "deactivate") == "True"
    assert shared.nodes(shared.slave) == {name}
    multi("refresh", "deactivate")
    assert shared.nodes(shared.slave) == set()
    multi("activate", "deactivateNoRefcount", "cleanupLockAndRefcount", "activate")
    assert shared.nodes(shared.slave) == {name}
    multi("deactivate")
    assert shared.nodes(shared.slave) == set()
    with pytest.raises(XenAPI.Failure, match="UNKNOWN_XENAPI_PLUGIN_FUNCTION"):
        multi("dance")


def test_a_slave_does_not_believe_a_log_of_changes_that_a_crash_left(shared: Shared) -> None:
    vdi = shared.create()
    shared.api.VDI.enable_cbt(vdi)
    log = f"{shared.group}/{shared.api.VDI.get_uuid(vdi)}.cbtlog"
    script = f"from srs.vhd import cbt; cbt.set_fields('/dev/{log}', consistent=0)"
    python = f"import sys; sys.path.insert(0, {HOST_ROOT + str(ROOT)!r}); {script}"
    for command in (
        ["lvchange", "-ay", log],
        ["/usr/bin/python3", "-I", "-S", "-c", python],
        ["lvchange", "-an", log],
    ):
        assert shared.master.kernel.run(command).returncode == 0
    shared.write(shared.slave, vdi, b"text")
    assert not shared.api.VDI.get_cbt_enabled(vdi)
    assert shared.read(shared.master, vdi, 4) == b"text"
    shared.write(shared.master, vdi, b"more")
    assert log.partition("/")[2] not in shared.lvs(shared.master, "lv_attr")
    assert shared.read(shared.slave, vdi, 4) == b"more"
