"""VM.revert on real disks: every disk goes back, through the devices that the VM itself has."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import XenAPI

from scenarios.fallback.test_fallback import variant
from scenarios.machine import Machine, Machines
from scenarios.oracle import BLOCK, Model, awkward_spans, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository

SIZE = 4 * BLOCK


@pytest.fixture
def beside(
    sr: Repository,
    machines: Machines,
    repositories: RepositoryCache,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Repository]]:
    """SRs with the drivers that a scenario's parameter names: "" is the plain one."""
    with ExitStack() as lent:
        yield {
            name: lent.enter_context(repositories.lend(sr.kind, variant(sr.kind, name)))
            if name
            else sr
            for name in request.param
        }
        machines.clear()


def fill(machine: Machine, text: str) -> dict[str, Model]:
    """Write through every disk of a running VM; the models of what they hold now."""
    models: dict[str, Model] = {}
    for device in machine.disks():
        models[device] = Model(SIZE)
        spans = awkward_spans(f"{text} on {device}", SIZE)
        models[device].write(spans)
        machine.write(device, spans)
    return models


def spoil(machine: Machine) -> None:
    """Overwrite a part of every disk of a running VM."""
    for device in machine.disks():
        machine.write(device, one_sector(f"later on {device}", BLOCK + 512))


def must_see(machine: Machine, models: dict[str, Model]) -> None:
    """Start the VM, or wake it, and compare its disks."""
    if machine.power_state == "Suspended":
        machine.api.resume(machine.ref, False, False)
    elif machine.power_state == "Halted":
        machine.start()
    for device, model in models.items():
        machine.must_see(device, model)


def test_a_running_vm_with_two_disks(sr: Repository, machines: Machines) -> None:
    """Q1-Q4, S5, S7, S8, S12, S15: snapshots of a running VM, and back, in any order."""
    machine = machines.make(*(sr.create(SIZE, label=f"disk {n}") for n in range(2)))
    machine.start()
    first = fill(machine, "first")
    one = machine.snapshot("one")
    second = fill(machine, "second")
    two = machine.snapshot("two")
    added = sr.create(SIZE, label="added later")
    machine.connect(added, "2")
    books, vbds = machine.disks(), machine.vbds()
    records = [sr.api.VDI.get_record(vdi) for vdi in one.disks().values()]

    for snapshot, models in ((one, first), (two, second), (one, first)):
        snapshot.revert()
        assert machine.power_state == "Halted"
        kept = {device: vdi for device, vdi in books.items() if device != "2"}
        assert machine.disks() == kept
        assert machine.vbds() == {device: vbds[device] for device in kept}
        assert sr.api.VM.get_parent(machine.ref) == snapshot.ref
        must_see(machine, models)

    assert added.exists()
    assert sr.api.VDI.get_VBDs(added.ref) == []
    after = [sr.api.VDI.get_record(vdi) for vdi in one.disks().values()]
    for record in (*records, *after):
        del record["physical_utilisation"]
    assert after == records


@pytest.mark.parametrize("beside", [("", "nocap", "says38")], ids=["mixed"], indirect=True)
def test_disks_whose_drivers_differ(
    sr: Repository, machines: Machines, beside: dict[str, Repository]
) -> None:
    """Q5, Q7, S1, S2: one disk goes back in place, two by clone."""
    disks = [repository.create(SIZE, label=name) for name, repository in beside.items()]
    machine = machines.make(*disks)
    machine.start()
    models = fill(machine, "wanted")
    snapshots = [machine.snapshot(f"snapshot {n}") for n in range(2)]
    spoil(machine)

    snapshots[0].revert()

    books = machine.disks()
    assert books["0"] == disks[0].ref
    assert [disk.exists() for disk in disks] == [True, False, False]
    for snapshot in snapshots:
        for device, vdi in snapshot.disks().items():
            assert sr.api.VDI.get_snapshot_of(vdi) == books[device]
    must_see(machine, models)


@pytest.mark.parametrize("beside", [("", "fails")], ids=["failing"], indirect=True)
def test_a_disk_that_fails_brings_the_others_back(
    sr: Repository, machines: Machines, beside: dict[str, Repository]
) -> None:
    """S3, W5: nothing of it has happened, on disk or in the records, and the VM starts."""
    disks = [repository.create(SIZE, label=name) for name, repository in beside.items()]
    machine = machines.make(*disks)
    machine.start()
    fill(machine, "wanted")
    snapshot = machine.snapshot()
    models = fill(machine, "must stay")
    before = machine.api.get_record(machine.ref)
    known = [repository.vdis() - repository.base_copies() for repository in beside.values()]

    with pytest.raises(XenAPI.Failure) as failure:
        snapshot.revert()

    assert failure.value.details == ["VM_REVERT_FAILED", snapshot.ref, machine.ref]
    after = machine.api.get_record(machine.ref)
    assert after["power_state"] == "Halted"
    assert machine.disks() == {str(n): disk.ref for n, disk in enumerate(disks)}
    for field in ("name_label", "VBDs", "parent", "snapshots", "metrics", "generation_id"):
        assert after[field] == before[field]
    for repository, vdis in zip(beside.values(), known, strict=True):
        assert repository.vdis() - repository.base_copies() == vdis
    must_see(machine, models)


def test_a_checkpoint_wakes_up_with_its_disks(sr: Repository, machines: Machines) -> None:
    """W4, S11: suspended with a memory image of its own, and everything where it was."""
    machine = machines.make(sr.create(SIZE))
    machine.start()
    models = fill(machine, "in the checkpoint")
    checkpoint = machine.checkpoint()
    assert (machine.power_state, checkpoint.power_state) == ("Running", "Suspended")
    image = sr.api.VM.get_suspend_VDI(checkpoint.ref)
    assert sr.api.VDI.get_type(image) == "suspend"
    spoil(machine)

    for _ in range(2):
        checkpoint.revert()
        assert machine.power_state == "Suspended"
        assert sr.api.VM.get_suspend_VDI(machine.ref) not in ("OpaqueRef:NULL", image)
        must_see(machine, models)
        spoil(machine)

    assert sr.api.VM.get_suspend_VDI(machine.ref) == "OpaqueRef:NULL"
    images = [vdi for vdi in sr.vdis() if sr.api.VDI.get_type(vdi) == "suspend"]
    assert images == [image]


def test_disks_that_went_other_ways(sr: Repository, machines: Machines) -> None:
    """W1, W2, W3: attached elsewhere it is refused; detached or deleted since, they come back."""
    disks = [sr.create(SIZE) for _ in range(2)]
    machine = machines.make(*disks)
    machine.start()
    models = fill(machine, "wanted")
    snapshot = machine.snapshot()
    spoil(machine)
    machine.api.clean_shutdown(machine.ref)
    sr.api.VBD.destroy(machine.vbds()["0"])
    sr.api.VDI.destroy(disks[1].ref)
    thief = machines.make(disks[0])
    thief.start()

    with pytest.raises(XenAPI.Failure) as failure:
        snapshot.revert()
    assert failure.value.details == ["VDI_IN_USE", disks[0].ref, "revert_from"]
    thief.halt()
    snapshot.revert()

    assert machine.disks()["0"] == disks[0].ref
    must_see(machine, models)


def test_a_power_cut_while_it_runs(
    sr: Repository, machines: Machines, repositories: RepositoryCache
) -> None:
    """What the VM had synced is there; the VM is halted, and can be reverted or started."""
    machine = machines.make(sr.create(SIZE))
    machine.start()
    first = fill(machine, "first")
    snapshot = machine.snapshot()
    second = fill(machine, "second")

    repositories.cut_the_power()

    assert machine.power_state == "Halted"
    must_see(machine, second)
    snapshot.revert()
    must_see(machine, first)


def test_a_vm_that_was_destroyed(sr: Repository, machines: Machines) -> None:
    """Made again from its snapshot, with its old uuid and disk; its clone lives apart from it."""
    disk: VDI = sr.create(SIZE)
    machine = machines.make(disk)
    machine.start()
    models = fill(machine, "wanted")
    snapshot = machine.snapshot()
    spoil(machine)
    uuid = machine.api.get_uuid(machine.ref)
    machine.remove()

    snapshot.revert()

    again = Machine(sr.host, sr.api, sr.api.VM.get_by_uuid(uuid))
    assert again.disks() == {"0": disk.ref}
    twin = Machine(sr.host, sr.api, sr.api.VM.clone(again.ref, "twin"))
    must_see(again, models)
    spoil(again)
    must_see(twin, models)
