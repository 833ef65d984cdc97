"""The device fails, before an operation or in the middle of it: nothing is lost."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
import XenAPI

from scenarios.background import calls
from scenarios.devicefaults.conftest import Disks
from scenarios.oracle import BLOCK, one_sector
from scenarios.plugin import footprint
from srs.paths import NBD_SOCKETS
from testbed.devices.faults import Faults

Fault = Callable[[Faults], AbstractContextManager[None]]

FAULTS: dict[str, Fault] = {"gone": Faults.errors, "write errors": Faults.write_errors}

#: What a driver may do to a disk, and the field's code for its failure.
OPERATIONS: dict[str, tuple[Callable[[Any, Disks], object], str]] = {
    "revert": (lambda api, d: api.VDI.revert(d.snapshot.ref), "82"),
    "snapshot": (lambda api, d: api.VDI.snapshot(d.disk.ref), "82"),
    "clone": (lambda api, d: api.VDI.clone(d.disk.ref), "81"),
    "resize": (lambda api, d: api.VDI.resize(d.disk.ref, str(d.disk.size + 2 * BLOCK)), "110"),
    "create": (lambda _, d: d.sr.create(4 * BLOCK), "78"),
    "destroy": (lambda api, d: api.VDI.destroy(d.sibling.ref), "80"),
}

#: Where operations are caught in the middle: on files, and on volumes.
FILE_POINTS = {"FileSR_revert_create_dest": "revert", "FileSR_fail_snap1": "snapshot"}
VOLUME_POINTS = {
    "LVM_revert_create_insert": "revert",
    "LVM_revert_create_dest": "revert",
    "LVHDRT_clone_vdi_after_create_journal": "snapshot",
    "LVHDRT_clone_vdi_after_lvcreate": "clone",
    "LVHDRT_clone_vdi_before_remove_journal": "snapshot",
    "LVHDRT_inflate_after_setSize": "resize",
}
#: An NBD client: it asks for an export by name, writes its first sector, reads the answer, goes.
_WRITER = """
import os, socket, struct, sys
directory, name = os.path.split(sys.argv[1])
os.chdir(directory)
sock = socket.socket(socket.AF_UNIX)
sock.connect(name)
take = lambda count: sock.recv(count, socket.MSG_WAITALL)
take(18)
export = struct.pack(">I", len(name)) + name.encode() + bytes(2)
sock.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 7, len(export)) + export)
while (reply := struct.unpack(">QIII", take(20)))[2] != 1:
    take(reply[3])
sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 0, 0, 512) + b"lost" * 128)
sys.exit(struct.unpack(">II", take(16)[:8])[1])
"""
#: A snapshot has its journal entry, and nothing else yet: on files, and on volumes.
SPLIT_BEGUN = ("FileSR_clone_after_create_journal", "LVHDRT_clone_vdi_after_create_journal")


@pytest.mark.parametrize("fault", FAULTS)
def test_before_an_operation(disks: Disks, fault: str) -> None:
    """Each is refused with the code of its failure; LVM does not find a disk that is gone."""
    missing = fault == "gone" and disks.sr.on_volumes
    for_each = {name: "47" if missing else code for name, (_, code) in OPERATIONS.items()}
    refused = {}
    with FAULTS[fault](disks.sr.faults):
        for name, (operation, _) in OPERATIONS.items():
            with pytest.raises(XenAPI.Failure, match="SR_BACKEND_FAILURE") as caught:
                operation(disks.sr.api, disks)
            refused[name] = str(caught.value.details[0]).removeprefix("SR_BACKEND_FAILURE_")
    assert refused == for_each
    disks.sr.replug()
    disks.must_work()


@pytest.mark.parametrize("point", [*FILE_POINTS, *VOLUME_POINTS])
def test_in_the_middle(disks: Disks, point: str) -> None:
    """Writes fail from a point inside the operation on; it ends as if it had not begun."""
    points = VOLUME_POINTS if disks.sr.on_volumes else FILE_POINTS
    if point not in points:
        pytest.skip("a point of the other drivers")
    operation, code = OPERATIONS[points[point]]
    with calls(disks.sr) as start, ExitStack() as fault:
        with disks.sr.host.fist(point, "hold") as held:
            call = start(lambda own: operation(own.api, disks))
            assert held.wait(60)
            fault.enter_context(disks.sr.faults.write_errors())
        assert call.outcome() == f"SR_BACKEND_FAILURE_{code}"
    disks.sr.replug()
    disks.must_work()


def test_a_disk_that_cannot_be_flushed(disks: Disks) -> None:
    """Unplug says that data would be lost; by force the disk is let go, and goes on elsewhere."""
    disk, api = disks.disk, disks.sr.api
    vbd = disks.sr.create_vbd(disk.ref)
    api.VBD.plug(vbd)
    device = "/dev/" + api.VBD.get_device(vbd)
    with disks.sr.faults.write_errors():
        disks.sr.host.write_blocks(device, 0, b"lost" * 1024)
        with pytest.raises(XenAPI.Failure, match="could not be written") as caught:
            api.VBD.unplug(vbd)
        assert caught.value.details[0] == "DEVICE_DETACH_REJECTED"
        assert api.VBD.get_currently_attached(vbd)
        api.VBD.unplug_force(vbd)
    assert not api.VBD.get_currently_attached(vbd)
    api.VBD.destroy(vbd)
    disks.sr.replug()
    disks.must_work()


def test_a_disk_whose_device_goes_while_it_is_closed(disks: Disks) -> None:
    """What is not durable by then is lost: unplug says so, whatever cannot be read after that."""
    api, host = disks.sr.api, disks.sr.host
    before = footprint(host)
    vbd = disks.sr.create_vbd(disks.disk.ref)
    api.VBD.plug(vbd)
    with calls(disks.sr) as start, ExitStack() as fault:
        with host.fist("vdi_deactivate_prepared", "hold") as held:
            call = start(lambda own: own.api.VBD.unplug(vbd))
            assert held.wait(60)
            write_unflushed(disks)
            fault.enter_context(disks.sr.faults.errors())
        assert call.outcome() == "SR_BACKEND_FAILURE_453"
        assert api.VBD.get_currently_attached(vbd)
        api.VBD.unplug_force(vbd)
        assert footprint(host) <= before
    api.VBD.destroy(vbd)
    disks.sr.replug()
    disks.must_work()


def write_unflushed(disks: Disks) -> None:
    """Write a sector into the disk's data path, and go: the kernel's nbd would have flushed it."""
    socket = f"{NBD_SOCKETS}/{disks.sr.uuid}/{disks.disk.uuid}"
    done = disks.sr.host.kernel.run(["python3", "-c", _WRITER, socket])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pending", [False, True], ids=["", "journal"])
def test_a_disk_whose_device_is_gone_is_let_go(disks: Disks, pending: bool) -> None:
    """By force, while nothing can be read: nothing of it stays open. Recovery waits."""
    disk, api, host = disks.disk, disks.sr.api, disks.sr.host
    disks.sibling.write(one_sector("sibling", 0))
    disks.models[disks.sibling.ref].write(one_sector("sibling", 0))
    if pending:
        point = SPLIT_BEGUN[disks.sr.on_volumes]
        with host.fist(point, "error"), pytest.raises(XenAPI.Failure, match=point):
            api.VDI.snapshot(disks.sibling.ref)
    before = footprint(host)
    vbd = disks.sr.create_vbd(disk.ref)
    api.VBD.plug(vbd)
    with disks.sr.faults.errors():
        host.kernel.run(["sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"])
        api.VBD.unplug_force(vbd)
        assert not api.VBD.get_currently_attached(vbd)
        assert footprint(host) <= before
    api.VBD.destroy(vbd)
    disks.must_work()
    disks.sr.replug()
    disks.must_be_whole()
